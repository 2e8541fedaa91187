"""Heads that the OpenMMLab libraries do not have; these need mmseg."""

from .concat_fusion import ConcatFusionHead

__all__ = ['ConcatFusionHead']
