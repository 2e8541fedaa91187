"""A trained model on images, folders and videos."""

from .predictor import Predictor
from .results import Result, infer

__all__ = ['Predictor', 'Result', 'infer']
