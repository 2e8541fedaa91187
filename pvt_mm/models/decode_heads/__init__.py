"""Decode heads that mmseg does not have; they need mmseg."""

from .concat_fusion_head import ConcatFusionHead

__all__ = ['ConcatFusionHead']
