"""Reshape feature maps to tokens and back; no other file does.

Tokens (B, N, C) and a channels-last map (B, C, H, W) share one memory
layout, so neither direction copies. The order of the view operations
matters: with batch 1, ``transpose`` before ``unflatten`` makes a batch
stride that PyTorch does not take for channels last, and its depthwise
convolution then copies there and back, at five times the cost.
"""

from torch import Tensor

Size = tuple[int, int]  # height and width of the grid of tokens


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W, C)"""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_map(x: Tensor, size: Size) -> Tensor:
    """(B, H*W, C) -> (B, C, H, W), channels last in memory"""
    return x.unflatten(1, size).permute(0, 3, 1, 2)
