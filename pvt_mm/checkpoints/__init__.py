"""Everybody else's names for our weights, and the way of files to us."""

from .convert import convert
from .errors import CheckpointError
from .fetch import locate
from .files import read_weights, write_weights
from .loader import load_pretrained

__all__ = [
    'CheckpointError',
    'convert',
    'load_pretrained',
    'locate',
    'read_weights',
    'write_weights',
]
