"""Read, convert and load weights; the zoo of published ones."""

from ..errors import CheckpointError
from .convert import convert
from .download import locate
from .io import read_weights, write_weights
from .strict_load import load_pretrained
from .whole_models import check_fit, load_model

__all__ = [
    'CheckpointError',
    'check_fit',
    'convert',
    'load_model',
    'load_pretrained',
    'locate',
    'read_weights',
    'write_weights',
]
