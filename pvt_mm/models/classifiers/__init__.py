"""An image classifier on top of the backbones, and how it mixes batches."""

from .batch_augments import LabelledPreprocessor, MixingPreprocessor
from .pyramid_classifier import PyramidClassifier

__all__ = ['LabelledPreprocessor', 'MixingPreprocessor', 'PyramidClassifier']
