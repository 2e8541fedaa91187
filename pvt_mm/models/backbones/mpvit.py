"""MPViT: Multi-Path Vision Transformer for Dense Prediction, 2112.11010.

Written from the paper and from CoaT's (arXiv:2104.06399), whose factorized
attention and convolutional positions it uses.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import (
    Blocks,
    Mlp,
    drop_path_rates,
    init_tokens,
    to_map,
    to_tokens,
)
from .arguments import check_arguments, resolve_arch
from .mpvit_blocks import (
    ConvNorm,
    ConvPosition,
    ConvRelativePosition,
    FactorizedAttention,
    LocalPath,
    Norm,
    PositionedBlock,
    SeparableEmbed,
    make_norm,
)
from .pyramid import Pyramid


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


class Path(nn.Module):
    """Encoder of one path; its blocks share both position encodings.

    Args:
        dim: channels C of a token.
        hidden: channels inside the feed-forward network.
        drop_paths: drop path rate of each block.
        with_cp: recompute each block in the backward pass.
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
        """(B, C, H, W) -> (B, C, H, W)"""
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
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))"""
        maps = []
        for embed in self.embeds:
            x = embed(x)
            maps.append(x)
        outs = [path(x) for path, x in zip(self.paths, maps, strict=True)]
        return self.aggregate(torch.cat([self.local(maps[0]), *outs], dim=1))

    def smallest_side(self, cells: int) -> int:
        """Side of the smallest map that gives so many cells."""
        return (cells - 1) * self.embeds[0].dwconv.stride[0] + 1


class Stem(nn.Sequential):
    """Two convolutions of stride 2: image -> first map.

    Args:
        in_channels: channels of the image.
        dim: channels C of the map.
        norm: makes the norm layers.

    Shape:
        (B, in_channels, H, W) -> (B, C, ceil(H / 4), ceil(W / 4))
    """

    def __init__(self, in_channels: int, dim: int, norm: Norm) -> None:
        super().__init__(
            ConvNorm(in_channels, dim // 2, norm, kernel=3, stride=2),
            ConvNorm(dim // 2, dim, norm, kernel=3, stride=2),
        )

    def smallest_side(self, cells: int) -> int:
        """Side of the smallest image that gives so many cells."""
        return (cells - 1) * 4 + 1


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
        check_arguments(
            'MPViT',
            in_channels=in_channels,
            with_cp=with_cp,
            drop_path_rate=drop_path_rate,
        )
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
        super().__init__(
            stages,
            in_channels,
            channels,
            out_indices,
            stem=Stem(in_channels, row.dims[0], norm),
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            init_cfg=init_cfg,
        )
        self.apply(init_tokens)
