"""Find what is wrong with the installed libraries and how to fix it."""
