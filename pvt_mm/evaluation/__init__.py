"""Scores that the OpenMMLab libraries lack, and scores per class."""

from .accuracy import TopAccuracy

__all__ = ['TopAccuracy']
