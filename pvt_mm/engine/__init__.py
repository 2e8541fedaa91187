"""Train and test a model: its config, processes, checks and hooks."""
