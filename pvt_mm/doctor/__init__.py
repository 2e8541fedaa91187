"""Says what is wrong with the installed libraries and how to mend it."""
