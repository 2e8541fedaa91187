"""Bad data is named before a run, and skipped or named while it runs."""
