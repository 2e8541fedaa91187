"""Between maps and tokens: the only place where one becomes the other.

Tokens (B, N, C) and a channels-last map (B, C, H, W) share one memory
layout, so neither direction copies.
"""

from torch import Tensor

Size = tuple[int, int]  # height and width of the grid of tokens


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W, C)"""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, size: Size) -> Tensor:
    """(B, H*W, C) -> (B, C, H, W), channels last in memory"""
    return x.transpose(1, 2).unflatten(2, size)
