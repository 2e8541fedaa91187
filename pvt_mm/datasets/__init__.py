"""Drawn data: images whose every label is known because we painted them."""

from .shapes import CLASSES, DrawnDataError, draw_ade20k, draw_all, draw_coco

__all__ = [
    'CLASSES',
    'DrawnDataError',
    'draw_ade20k',
    'draw_all',
    'draw_coco',
]
