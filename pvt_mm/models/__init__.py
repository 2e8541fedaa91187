"""Backbones and the classifier, registered in mmengine's root registry.

``pvt_mm.models.decode_heads`` needs mmseg and is imported by the configs that
use it.
"""

from .backbones import PVT, MPViT, PVTv2, build_backbone
from .classifiers import PyramidClassifier

__all__ = ['MPViT', 'PVT', 'PVTv2', 'PyramidClassifier', 'build_backbone']
