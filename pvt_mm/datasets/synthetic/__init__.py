"""Drawn data: images whose every label is known because we painted them."""

from .scene import CLASSES
from .shapes import draw_ade20k, draw_all, draw_coco

__all__ = ['CLASSES', 'draw_ade20k', 'draw_all', 'draw_coco']
