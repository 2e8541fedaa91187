"""PVT: Pyramid Vision Transformer, arXiv:2102.12122."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import (
    Block,
    Blocks,
    LayerNorm,
    Mlp,
    PatchEmbed,
    ReducedAttention,
    Size,
    drop_path_rates,
    init_tokens,
    strided_reduction,
    to_map,
    to_tokens,
)
from .arguments import check_arguments, resolve_arch
from .pyramid import Pyramid


class Arch(NamedTuple):
    """What a variant is made of, one entry per stage."""

    depths: tuple[int, ...]
    dims: tuple[int, ...] = (64, 128, 320, 512)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)


# Table 1 of the paper; it prints depth 3 for stage 2 of small and medium, the
# published weights and parameter counts have 4.
# fmt: off
ARCHS = {
    #              depths
    'tiny':   Arch((2, 2,  2, 2)),   # 12.7 M without head
    'small':  Arch((3, 4,  6, 3)),   # 24.0 M
    'medium': Arch((3, 4, 18, 3)),   # 43.7 M
    'large':  Arch((3, 8, 27, 3)),   # 60.9 M
}
# fmt: on

PRETRAIN_SIZE = 224  # pixels; the position embeddings' grids follow from it


class PVTStage(nn.Module):
    """Patch embedding, positions and blocks.

    Args:
        patch_embed: from the map to tokens.
        blocks: over these tokens.
        dim: channels C' of a token.
        grid: side of the square grid the positions are learnt on.
        class_rows: rows of the position embedding before those of the grid;
            the official stage 4 always has one, for the class token.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed,
        blocks: Blocks,
        dim: int,
        grid: int,
        class_rows: int,
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.grid = grid
        self.class_rows = class_rows
        self.pos_embed = nn.Parameter(
            torch.empty(1, class_rows + grid * grid, dim)
        )
        self.blocks = blocks
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def positions(self, size: Size) -> Tensor:
        """Position embedding of a grid of that size, (1, H*W, C').

        Always resized from the square grid it was learnt on: the official
        code compares each stage with the first one's token count and so
        fails at 448x448 and misplaces positions at 32x1568.
        """
        table = self.pos_embed[:, self.class_rows :]
        grid = (self.grid, self.grid)
        # an exported or compiled program has one form for all sizes
        if not torch.compiler.is_compiling() and size == grid:
            return table
        table = to_map(table, grid)
        return to_tokens(F.interpolate(table, size, mode='bilinear'))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H // stride, W // stride)"""
        x, size = self.patch_embed(x)
        x = self.blocks(x + self.positions(size), size)
        return to_map(x, size)

    def smallest_side(self, cells: int) -> int:
        """Side of the smallest map that gives so many cells."""
        needed = self.blocks[0].attn.reduction.smallest
        return self.patch_embed.smallest_side(max(cells, needed))


class ClassTokenStage(PVTStage):
    """Last stage of the classifier: a map to its class token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dim = self.pos_embed.shape[-1]
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.norm = LayerNorm(dim)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 1, 1), normed"""
        x, size = self.patch_embed(x)
        token = self.cls_token + self.pos_embed[:, : self.class_rows]
        x = x + self.positions(size)
        x = torch.cat([token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.norm(self.blocks(x, size)[:, :1])
        return to_map(x, (1, 1))


@MODELS.register_module()
class PVT(Pyramid):
    """Pyramid Vision Transformer (arXiv:2102.12122).

    Args:
        arch: tiny, small, medium or large, or the fields of an Arch.
        in_channels: channels of the image.
        out_indices: stages whose maps are returned, counted from 0.
        class_token: end with the classifier's class token, a 1x1 map,
            instead of a map of patches.
        frozen_stages: the first n stages are not trained; -1 for none.
        with_cp: recompute each block in the backward pass to save memory.
        drop_path_rate: of the last block; the first one has 0.
        init_cfg: see :class:`Pyramid`.

    Shape:
        (B, in_channels, H, W) -> maps of strides 4, 8, 16, 32; sizes round
        down, the image has at least 32x32 pixels

    Raises:
        ValueError: an argument is out of range.
        InputError: the image is too small.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        class_token: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        init_cfg: Any = None,
    ) -> None:
        row = resolve_arch('PVT', ARCHS, arch)
        check_arguments(
            'PVT',
            in_channels=in_channels,
            class_token=class_token,
            with_cp=with_cp,
            drop_path_rate=drop_path_rate,
        )
        if class_token and row.sr_ratios[-1] != 1:
            raise ValueError(
                f'PVT: class_token=True and sr_ratios={row.sr_ratios} do not '
                'go together: the token is in no grid, so the last must be 1'
            )
        rates = drop_path_rates(drop_path_rate, row.depths)
        last = len(row.dims) - 1
        stages = []
        for i, dim in enumerate(row.dims):
            stage = ClassTokenStage if class_token and i == last else PVTStage
            patch = 2 if i else 4
            before = row.dims[i - 1] if i else in_channels
            blocks = [make_block(row, i, rate) for rate in rates[i]]
            stages.append(
                stage(
                    PatchEmbed(before, dim, patch, patch),
                    Blocks(blocks, with_cp),
                    dim,
                    grid=max(PRETRAIN_SIZE // (4 * 2**i), 1),
                    class_rows=int(i == last),
                )
            )
        super().__init__(
            stages,
            in_channels,
            row.dims,
            out_indices,
            frozen_stages=frozen_stages,
            init_cfg=init_cfg,
        )
        self.apply(init_tokens)


def make_block(row: Arch, stage: int, drop_path: float) -> Block:
    """A block of that stage."""
    dim = row.dims[stage]
    reduction = strided_reduction(dim, row.sr_ratios[stage])
    return Block(
        dim,
        ReducedAttention(dim, row.heads[stage], reduction),
        Mlp(dim, dim * row.mlp_ratios[stage]),
        drop_path,
    )
