"""Backbones, registered in mmengine's root registry: one file per paper."""

from .mpvit import MPViT
from .pvt import PVT
from .pvt_v2 import PVTv2

__all__ = ['MPViT', 'PVT', 'PVTv2']
