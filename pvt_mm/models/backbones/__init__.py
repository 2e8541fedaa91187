"""Backbones, registered in mmengine's root registry: one file per paper."""

from ...errors import InputError
from .build import build_backbone
from .mpvit import MPViT
from .pvt import PVT
from .pvt_v2 import PVTv2
from .pyramid import Pyramid

__all__ = [
    'InputError',
    'MPViT',
    'PVT',
    'PVTv2',
    'Pyramid',
    'build_backbone',
]
