"""Initial weights as in the official code, for training from scratch."""

from math import sqrt

from torch import nn


def init_tokens(module: nn.Module) -> None:
    """Linear: truncated normal 0.02, bias 0 (all families); for apply()."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def init_conv(conv: nn.Conv2d, groups: int) -> None:
    """Normal with std sqrt(2 / fan_out), bias 0.

    Args:
        conv: convolution with kernel k and C output channels.
        groups: fan_out is k * k * C / groups; the official MPViT ignores
            the groups of some depthwise convolutions (groups=1 here).
    """
    fan_out = conv.weight[0, 0].numel() * conv.out_channels // groups
    nn.init.normal_(conv.weight, std=sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
