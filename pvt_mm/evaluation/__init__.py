"""Accuracy of classifiers, scores per class and confusion matrices."""

from .accuracy import TopAccuracy

__all__ = ['TopAccuracy']
