"""Fold batch norms into the convolutions before them, for inference."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .mpvit_blocks import ConvNorm, SeparableEmbed

Model = TypeVar('Model', bound=nn.Module)


@torch.no_grad()
def fuse_for_inference(model: Model) -> Model:
    """A copy for inference that gives the same maps with fewer operations.

    The batch norms of MPViT become part of their convolutions. What was
    tried and did not help is in docs/performance_notes.md: factors of layer
    norms inside the next linear layer, PVT's resized positions kept.

    Args:
        model: a backbone, or a detector or segmentor that has one.
    """
    model = deepcopy(model).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, ConvNorm):
            fold(module, 'conv')
        elif isinstance(module, SeparableEmbed):
            fold(module, 'pwconv')
    return model


def fold(module: nn.Module, name: str) -> None:
    """Multiply a module's ``bn`` into its convolution of that name."""
    conv, bn = getattr(module, name), module.bn
    if isinstance(bn, nn.BatchNorm2d | nn.SyncBatchNorm):
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            bn.running_mean,
            bn.running_var,
            bn.eps,
            bn.weight,
            bn.bias,
        )
        module.bn = nn.Identity()
