"""From a command line to a run: options, checks, processes, checkpoints."""
