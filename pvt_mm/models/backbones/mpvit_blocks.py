"""Parts of MPViT's stages: convolutions, positions, attention."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import (
    Block,
    Linear,
    PointwiseConv,
    Size,
    init_conv,
    to_map,
    to_tokens,
)

NORMS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}
NORM_OPTIONS = {'eps', 'momentum', 'affine', 'track_running_stats'}
WINDOWS = {3: 2, 5: 3, 7: 3}  # window of a relative position: heads with it
HEADS = sum(WINDOWS.values())

Norm = Any  # makes a norm layer from a number of channels


def make_norm(cfg: Mapping[str, Any]) -> Norm:
    """The norm layer that a config asks for.

    Raises:
        ValueError: a type other than BN and SyncBN, or an unknown option.
    """
    options = dict(cfg) if isinstance(cfg, Mapping) else {'type': cfg}
    name = options.pop('type', None)
    trained = options.pop('requires_grad', True)  # MM convention
    known = isinstance(cfg, Mapping) and name in NORMS
    if not known or set(options) - NORM_OPTIONS:
        raise ValueError(
            f'MPViT: norm_cfg={cfg!r} must be dict(type={" or ".join(NORMS)}) '
            f'with no more than {", ".join(sorted(NORM_OPTIONS))} and '
            'requires_grad'
        )
    layer = partial(NORMS[name], **options)
    return lambda channels: layer(channels).requires_grad_(trained)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, Hardswish unless told not to.

    Args:
        in_channels: channels C of the map.
        channels: channels C' of the result.
        norm: makes the norm layer.
        kernel: height and width of the window.
        stride: distance of two windows.
        groups: of the convolution.
        act: whether Hardswish follows.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        norm: Norm,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = (
            PointwiseConv(in_channels, channels, bias=False)
            if kernel == 1
            else nn.Conv2d(
                in_channels,
                channels,
                kernel,
                stride,
                kernel // 2,
                groups=groups,
                bias=False,
            )
        )
        self.bn = norm(channels)
        self.act = nn.Hardswish() if act else nn.Identity()
        init_conv(self.conv, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))"""
        return self.act(self.bn(self.conv(x)))


class SeparableEmbed(nn.Module):
    """Depthwise 3x3, then pointwise convolution, batch norm, Hardswish."""

    def __init__(self, dim: int, norm: Norm, stride: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, stride, 1, groups=dim, bias=False)
        self.pwconv = PointwiseConv(dim, dim, bias=False)
        self.bn = norm(dim)
        self.act = nn.Hardswish()
        for conv in (self.dwconv, self.pwconv):
            init_conv(conv, groups=1)  # the official code ignores them here

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))"""
        return self.act(self.bn(self.pwconv(self.dwconv(x))))


class LocalPath(nn.Module):
    """Residual bottleneck for local features (section 3.3)."""

    def __init__(self, dim: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, dim, norm)
        self.conv2 = ConvNorm(dim, dim, norm, kernel=3, groups=dim)
        self.conv3 = ConvNorm(dim, dim, norm, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x + self.conv3(self.conv2(self.conv1(x)))


class ConvPosition(nn.Module):
    """Convolutional position encoding (CoaT, section 3.3)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """Tokens (B, N, C) with size (H, W) -> (B, N, C)"""
        return x + to_tokens(self.proj(to_map(x, size)))


class ConvRelativePosition(nn.Module):
    """Convolutional relative position encoding (CoaT, section 3.3).

    The values pass a depthwise convolution whose window grows over the
    heads, then weigh the queries.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.splits = [dim // HEADS * heads for heads in WINDOWS.values()]
        self.convs = nn.ModuleList(
            nn.Conv2d(c, c, window, padding=window // 2, groups=c)
            for c, window in zip(self.splits, WINDOWS, strict=True)
        )

    def forward(self, q: Tensor, v: Tensor, size: Size) -> Tensor:
        """Q and v (B, N, C), channels ordered by head -> (B, N, C)"""
        parts = to_map(v, size).split(self.splits, dim=1)
        parts = [
            conv(part) for conv, part in zip(self.convs, parts, strict=True)
        ]
        return q * to_tokens(torch.cat(parts, dim=1))


class FactorizedAttention(nn.Module):
    """Attention at a cost linear in tokens (CoaT, section 3.2).

    A softmax over the tokens of K gives K^T V, one small matrix per head, to
    which each query is multiplied.

    Raises:
        ValueError: dim is not a multiple of the 8 heads.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % HEADS:
            raise ValueError(
                f'dim {dim} is not a multiple of the {HEADS} heads of MPViT: '
                'change dims in the arch'
            )
        self.scale = (dim // HEADS) ** -0.5
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(
        self, x: Tensor, size: Size, crpe: ConvRelativePosition
    ) -> Tensor:
        """(B, N, C) with the encoder's position encoding -> (B, N, C)"""
        q, k, v = self.qkv(x).chunk(3, -1)
        position = crpe(q, v, size)
        q, k, v = (
            t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v)
        )  # (B, heads, N, C / heads)
        context = k.softmax(dim=2).transpose(2, 3) @ v  # (.., D, D)
        x = (q @ context).transpose(1, 2).flatten(2)
        return self.proj(torch.add(position, x, alpha=self.scale))


class PositionedBlock(Block):
    """A block that adds its encoder's convolutional position first."""

    def forward(
        self,
        x: Tensor,
        size: Size,
        cpe: ConvPosition,
        crpe: ConvRelativePosition,
    ) -> Tensor:
        """(B, N, C) with the encoder's two position encodings -> (B, N, C)"""
        return super().forward(cpe(x, size), size, crpe)
