"""MPViT in the usual way, a baseline for ours.

Maps are in PyTorch's standard layout, copied to tokens and back around every
encoding; products of the attention as einsum (CoaT, arXiv:2104.06399,
sections 3.2 and 3.3); PyTorch's own linear layers. Written from the papers;
weights and results are those of :class:`MPViT`.
"""

import torch
from torch import Tensor, nn

from pvt_mm.models.backbones import MPViT
from pvt_mm.models.backbones.mpvit import Path
from pvt_mm.models.backbones.mpvit_blocks import (
    HEADS,
    ConvPosition,
    ConvRelativePosition,
    FactorizedAttention,
    PositionedBlock,
)
from pvt_mm.models.layers import Block, Linear, PointwiseConv, Size


class PlainPosition(nn.Module):
    """Convolutional position encoding of tokens (B, N, C)."""

    def __init__(self, ours: ConvPosition) -> None:
        super().__init__()
        self.proj = ours.proj

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C) -> (B, N, C)"""
        x = x.transpose(1, 2).reshape(len(x), -1, *size)
        x = self.proj(x) + x
        return x.flatten(2).transpose(1, 2)


class PlainRelativePosition(nn.Module):
    """Convolutional relative position: q and v (B, heads, N, C / heads)."""

    def __init__(self, ours: ConvRelativePosition) -> None:
        super().__init__()
        self.splits = ours.splits
        self.convs = ours.convs

    def forward(self, q: Tensor, v: Tensor, size: Size) -> Tensor:
        """q, v (B, heads, N, C / heads) -> the same shape"""
        v = v.transpose(2, 3).reshape(len(v), -1, *size)
        parts = v.split(self.splits, dim=1)
        parts = [
            conv(part) for conv, part in zip(self.convs, parts, strict=True)
        ]
        v = torch.cat(parts, dim=1).reshape(len(v), HEADS, -1, q.shape[2])
        return q * v.transpose(2, 3)


class PlainAttention(nn.Module):
    """Factorized attention of tokens (B, N, C)."""

    def __init__(self, ours: FactorizedAttention) -> None:
        super().__init__()
        self.scale = ours.scale
        self.qkv = ours.qkv
        self.proj = ours.proj

    def forward(
        self, x: Tensor, size: Size, crpe: PlainRelativePosition
    ) -> Tensor:
        """(B, N, C) -> (B, N, C)"""
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, HEADS, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        context = torch.einsum('bhnk,bhnv->bhkv', k.softmax(dim=2), v)
        found = torch.einsum('bhnk,bhkv->bhnv', q, context)
        found = self.scale * found + crpe(q, v, size)
        return self.proj(found.transpose(1, 2).reshape(x.shape))


class PlainBlock(PositionedBlock):
    """A block that keeps everything for the backward pass."""

    def forward(
        self,
        x: Tensor,
        size: Size,
        cpe: PlainPosition,
        crpe: PlainRelativePosition,
    ) -> Tensor:
        """(B, N, C) -> (B, N, C)"""
        return Block.forward(self, cpe(x, size), size, crpe)


class PlainPath(nn.Module):
    """Encoder of one path, map to map."""

    def __init__(self, ours: Path) -> None:
        super().__init__()
        self.cpe, self.crpe, self.blocks = ours.cpe, ours.crpe, ours.blocks

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        size = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2)
        x = self.blocks(x, size, self.cpe, self.crpe)
        return x.reshape(len(x), *size, -1).permute(0, 3, 1, 2).contiguous()


class PlainMPViT(nn.Module):
    """An MPViT with the parts above: image -> maps.

    Args:
        ours: gives the weights; its modules are reused.
    """

    def __init__(self, ours: MPViT) -> None:
        super().__init__()
        replace(ours)
        self.stem, self.stages = ours.stem, ours.stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps (B, C, H/s, W/s)"""
        maps = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


PARTS = {
    ConvPosition: PlainPosition,
    ConvRelativePosition: PlainRelativePosition,
    FactorizedAttention: PlainAttention,
    Path: PlainPath,
}


# These keep their parameters and get another forward.
CLASSES = {
    Linear: nn.Linear,
    PointwiseConv: nn.Conv2d,
    PositionedBlock: PlainBlock,
}


def replace(module: nn.Module) -> None:
    """Replace our modules by plain ones, the innermost first."""
    for name, child in module.named_children():
        replace(child)
        if type(child) in PARTS:
            setattr(module, name, PARTS[type(child)](child))
        for ours, plain in CLASSES.items():
            if isinstance(child, ours):
                child.__class__ = plain
