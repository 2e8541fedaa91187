"""MPViT: Multi-Path Vision Transformer for Dense Prediction, 2112.11010.

Written from the paper and from CoaT's (arXiv:2104.06399), whose factorized
attention and convolutional positions it uses.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import (
    Block,
    Blocks,
    Linear,
    Mlp,
    PointwiseConv,
    Size,
    drop_path_rates,
    init_conv,
    init_tokens,
    to_map,
    to_tokens,
)
from .pyramid import Pyramid, resolve_arch


class Arch(NamedTuple):
    """What a variant is made of, one entry per stage."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[int, ...]
    paths: tuple[int, ...] = (2, 3, 3, 3)


# Table 1 of the paper; stage i ends with the dim of stage i + 1, the last
# stage with its own.
# fmt: off
ARCHS = {
    #              dims                  depths        mlp_ratios
    'tiny':   Arch(( 64,  96, 176, 216), (1, 2, 4, 1), (2, 2, 2, 2)),  #  5.6 M
    'xsmall': Arch(( 64, 128, 192, 256), (1, 2, 4, 1), (4, 4, 4, 4)),  # 10.3 M
    'small':  Arch(( 64, 128, 216, 288), (1, 3, 6, 3), (4, 4, 4, 4)),  # 22.6 M
    'base':   Arch((128, 224, 368, 480), (1, 3, 8, 3), (4, 4, 4, 4)),  # 74.4 M
}                                                         # all without head
# fmt: on

NORMS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}
WINDOWS = {3: 2, 5: 3, 7: 3}  # window of a relative position: heads with it
HEADS = sum(WINDOWS.values())

Norm = Any  # makes a norm layer from a number of channels


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

    Shape:
        (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
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
        return self.act(self.bn(self.conv(x)))


class SeparableEmbed(nn.Module):
    """Depthwise 3x3, then pointwise convolution, batch norm, Hardswish.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, dim: int, norm: Norm, stride: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, stride, 1, groups=dim, bias=False)
        self.pwconv = PointwiseConv(dim, dim, bias=False)
        self.bn = norm(dim)
        self.act = nn.Hardswish()
        for conv in (self.dwconv, self.pwconv):
            init_conv(conv, groups=1)  # the official code ignores them here

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.pwconv(self.dwconv(x))))


class LocalPath(nn.Module):
    """Residual bottleneck for local features: a map to one of its shape."""

    def __init__(self, dim: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, dim, norm)
        self.conv2 = ConvNorm(dim, dim, norm, kernel=3, groups=dim)
        self.conv3 = ConvNorm(dim, dim, norm, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv3(self.conv2(self.conv1(x)))


class ConvPosition(nn.Module):
    """Convolutional position encoding (CoaT, section 3.3).

    Shape:
        tokens (B, N, C) with size (H, W) -> (B, N, C)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        return x + to_tokens(self.proj(to_map(x, size)))


class ConvRelativePosition(nn.Module):
    """Convolutional relative position encoding (CoaT, section 3.3).

    The values pass a depthwise convolution whose window grows over the
    heads, then weigh the queries.

    Shape:
        q and v (B, N, C), channels ordered by head, with size (H, W) ->
        (B, N, C)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.splits = [dim // HEADS * heads for heads in WINDOWS.values()]
        self.convs = nn.ModuleList(
            nn.Conv2d(c, c, window, padding=window // 2, groups=c)
            for c, window in zip(self.splits, WINDOWS, strict=True)
        )

    def forward(self, q: Tensor, v: Tensor, size: Size) -> Tensor:
        parts = to_map(v, size).split(self.splits, dim=1)
        parts = [
            conv(part) for conv, part in zip(self.convs, parts, strict=True)
        ]
        return q * to_tokens(torch.cat(parts, dim=1))


class FactorizedAttention(nn.Module):
    """Attention at a cost linear in tokens (CoaT, section 3.2).

    A softmax over the tokens of K gives K^T V, one small matrix per head, to
    which each query is multiplied.

    Shape:
        x (B, N, C) with size (H, W) and the encoder's relative position
        encoding -> (B, N, C)

    Raises:
        ValueError: dim is not a multiple of the 8 heads.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % HEADS:
            raise ValueError(f'dim {dim} is not a multiple of heads {HEADS}')
        self.scale = (dim // HEADS) ** -0.5
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(
        self, x: Tensor, size: Size, crpe: ConvRelativePosition
    ) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)  # (B, N, C)
        position = crpe(q, v, size)
        q, k, v = (
            t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v)
        )  # (B, heads, N, C / heads)
        context = k.softmax(dim=2).transpose(2, 3) @ v
        x = (q @ context).transpose(1, 2).flatten(2)
        return self.proj(self.scale * x + position)


class PositionedBlock(Block):
    """A block that adds its encoder's convolutional position first."""

    def forward(
        self,
        x: Tensor,
        size: Size,
        cpe: ConvPosition,
        crpe: ConvRelativePosition,
    ) -> Tensor:
        return super().forward(cpe(x, size), size, crpe)


class Path(nn.Module):
    """Encoder of one path; its blocks share both position encodings.

    Args:
        dim: channels C of a token.
        hidden: channels inside the feed-forward network.
        drop_paths: drop path rate of each block.
        with_cp: recompute each block in the backward pass.

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        drop_paths: Sequence[float],
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.cpe = ConvPosition(dim)
        self.crpe = ConvRelativePosition(dim)
        self.blocks = Blocks(
            [
                PositionedBlock(
                    dim, FactorizedAttention(dim), Mlp(dim, hidden), rate
                )
                for rate in drop_paths
            ],
            with_cp,
        )

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        x = self.blocks(to_tokens(x), size, self.cpe, self.crpe)
        return to_map(x, size)


class MPViTStage(nn.Module):
    """Multi-scale embedding, parallel paths, aggregation (figure 2).

    The embeddings are chained, so that path k sees a window of 2k + 1 cells;
    only the first one may have a stride.

    Args:
        dim: channels C of the map and of every path.
        channels: channels C' of the result.
        paths: one encoder per embedding.
        norm: makes the norm layers.
        stride: of the first embedding.

    Shape:
        (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        paths: Sequence[Path],
        norm: Norm,
        stride: int,
    ) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(
            SeparableEmbed(dim, norm, 1 if k else stride)
            for k in range(len(paths))
        )
        self.local = LocalPath(dim, norm)
        self.paths = nn.ModuleList(paths)
        self.aggregate = ConvNorm(dim * (1 + len(paths)), channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for embed in self.embeds:
            x = embed(x)
            maps.append(x)
        outs = [path(x) for path, x in zip(self.paths, maps, strict=True)]
        return self.aggregate(torch.cat([self.local(maps[0]), *outs], dim=1))


@MODELS.register_module()
class MPViT(Pyramid):
    """Multi-Path Vision Transformer (arXiv:2112.11010).

    Args:
        arch: tiny, xsmall, small or base, or the fields of an Arch.
        in_channels: channels of the image.
        out_indices: stages whose maps are returned, counted from 0.
        frozen_stages: 0 freezes the stem, n also the first n stages; -1 for
            none.
        norm_cfg: ``dict(type='BN')`` or ``dict(type='SyncBN')``.
        norm_eval: keep batch norms in evaluation mode during training.
        with_cp: recompute each block in the backward pass to save memory.
        drop_path_rate: of the last block; the first one has 0. All paths of
            a stage have the same rates.
        init_cfg: see :class:`Pyramid`.

    Shape:
        (B, in_channels, H, W) -> maps of strides 4, 8, 16, 32; sizes round
        up, any image size

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_cfg: Mapping[str, Any] = {'type': 'BN'},
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        init_cfg: Any = None,
    ) -> None:
        row = resolve_arch('MPViT', ARCHS, arch)
        norm = make_norm(norm_cfg)
        channels = (*row.dims[1:], row.dims[-1])
        rates = drop_path_rates(drop_path_rate, row.depths)
        stages = []
        for i, dim in enumerate(row.dims):
            hidden = dim * row.mlp_ratios[i]
            paths = [
                Path(dim, hidden, rates[i], with_cp)
                for _ in range(row.paths[i])
            ]
            stride = 2 if i else 1
            stages.append(MPViTStage(dim, channels[i], paths, norm, stride))
        dim = row.dims[0]
        super().__init__(
            stages,
            channels,
            out_indices,
            stem=nn.Sequential(
                ConvNorm(in_channels, dim // 2, norm, kernel=3, stride=2),
                ConvNorm(dim // 2, dim, norm, kernel=3, stride=2),
            ),
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            init_cfg=init_cfg,
        )
        self.apply(init_tokens)


def make_norm(cfg: Mapping[str, Any]) -> Norm:
    """The norm layer that a config asks for.

    Raises:
        ValueError: a type other than BN and SyncBN.
    """
    options = dict(cfg)
    name = options.pop('type', None)
    if name not in NORMS:
        raise ValueError(f'norm_cfg type {name!r}: use {" or ".join(NORMS)}')
    trained = options.pop('requires_grad', True)  # MM convention
    layer = partial(NORMS[name], **options)
    return lambda channels: layer(channels).requires_grad_(trained)
