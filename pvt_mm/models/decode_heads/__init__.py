"""Heads that the OpenMMLab libraries do not have; these need mmseg."""

from .concat_fusion_head import ConcatFusionHead

__all__ = ['ConcatFusionHead']
