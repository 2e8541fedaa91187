"""What a leaf's name says, what its recipe is, and the official recipe."""

from .describe import describe
from .grammar import FAMILIES, LEAVES, METHODS, Name, parse_name

__all__ = ['FAMILIES', 'LEAVES', 'METHODS', 'Name', 'describe', 'parse_name']
