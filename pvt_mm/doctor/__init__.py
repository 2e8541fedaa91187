"""Says what is wrong with the installed libraries and how to mend it."""

from .examine import examine

__all__ = ['examine']
