"""Read configs, change them from the command line, and know their keys."""
