"""Synthetic data: drawn images with exact labels."""

from .scene import CLASSES
from .shapes import draw_ade20k, draw_all, draw_coco

__all__ = ['CLASSES', 'draw_ade20k', 'draw_all', 'draw_coco']
