"""PVT v2: Improved Baselines with Pyramid Vision Transformer, 2106.13797."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import (
    Block,
    Blocks,
    ConvMlp,
    LayerNorm,
    PatchEmbed,
    PooledReduction,
    ReducedAttention,
    drop_path_rates,
    init_conv,
    init_tokens,
    strided_reduction,
    to_map,
)
from .arguments import check_arguments, resolve_arch
from .pyramid import Pyramid


class Arch(NamedTuple):
    """What a variant is made of, one entry per stage."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[int, ...]
    linear: bool = False  # linear SRA in every stage; sr_ratios do not matter
    heads: tuple[int, ...] = (1, 2, 5, 8)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)


# Table 1 of the paper; it prints depth 3 for stage 2 of b2, b2_li and b3, the
# published weights and parameter counts have 4.
# fmt: off
ARCHS = {
    #             dims                 depths         mlp_ratios
    'b0':    Arch((32,  64, 160, 256), (2, 2,  2, 2), (8, 8, 4, 4)),  #  3.4 M
    'b1':    Arch((64, 128, 320, 512), (2, 2,  2, 2), (8, 8, 4, 4)),  # 13.5 M
    'b2':    Arch((64, 128, 320, 512), (3, 4,  6, 3), (8, 8, 4, 4)),  # 24.8 M
    'b2_li': Arch((64, 128, 320, 512), (3, 4,  6, 3), (8, 8, 4, 4),
                  linear=True),                                       # 22.0 M
    'b3':    Arch((64, 128, 320, 512), (3, 4, 18, 3), (8, 8, 4, 4)),  # 44.7 M
    'b4':    Arch((64, 128, 320, 512), (3, 8, 27, 3), (8, 8, 4, 4)),  # 62.0 M
    'b5':    Arch((64, 128, 320, 512), (3, 6, 40, 3), (4, 4, 4, 4)),  # 81.4 M
}                                                        # all without head
# fmt: on


class PVTv2Stage(nn.Module):
    """Overlapping patch embedding, blocks and a norm in the main path.

    Args:
        patch_embed: from the map to tokens.
        blocks: over these tokens.
        dim: channels C' of a token.
    """

    def __init__(
        self, patch_embed: PatchEmbed, blocks: Blocks, dim: int
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.blocks = blocks
        self.norm = LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))"""
        x, size = self.patch_embed(x)
        return to_map(self.norm(self.blocks(x, size)), size)

    def smallest_side(self, cells: int) -> int:
        """Side of the smallest map that gives so many cells."""
        needed = self.blocks[0].attn.reduction.smallest
        return self.patch_embed.smallest_side(max(cells, needed))


@MODELS.register_module()
class PVTv2(Pyramid):
    """Pyramid Vision Transformer v2 (arXiv:2106.13797).

    Args:
        arch: b0, b1, b2, b2_li, b3, b4 or b5, or the fields of an Arch.
        linear: linear SRA (section 3.2); None as the arch says.
        in_channels: channels of the image.
        out_indices: stages whose maps are returned, counted from 0.
        frozen_stages: the first n stages are not trained; -1 for none.
        with_cp: recompute each block in the backward pass to save memory.
        drop_path_rate: of the last block; the first one has 0.
        init_cfg: see :class:`Pyramid`.

    Shape:
        (B, in_channels, H, W) -> maps of strides 4, 8, 16, 32; sizes round
        up, the image has at least 29x29 pixels (any with linear SRA)

    Raises:
        ValueError: an argument is out of range.
        InputError: the image is too small.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        *,
        linear: bool | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        init_cfg: Any = None,
    ) -> None:
        row = resolve_arch('PVTv2', ARCHS, arch)
        check_arguments(
            'PVTv2',
            linear=linear,
            in_channels=in_channels,
            with_cp=with_cp,
            drop_path_rate=drop_path_rate,
        )
        row = row if linear is None else row._replace(linear=linear)
        rates = drop_path_rates(drop_path_rate, row.depths)
        stages = []
        for i, dim in enumerate(row.dims):
            blocks = [make_block(row, i, rate, with_cp) for rate in rates[i]]
            embed = PatchEmbed(
                row.dims[i - 1] if i else in_channels,
                dim,
                kernel=3 if i else 7,
                stride=2 if i else 4,
                padding=1 if i else 3,
            )
            stages.append(PVTv2Stage(embed, Blocks(blocks, with_cp), dim))
        super().__init__(
            stages,
            in_channels,
            row.dims,
            out_indices,
            frozen_stages=frozen_stages,
            init_cfg=init_cfg,
        )
        self.apply(init_tokens)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_conv(module, module.groups)


def make_block(
    row: Arch, stage: int, drop_path: float, with_cp: bool
) -> Block:
    """A block of that stage, with the attention and MLP its arch asks for."""
    dim, ratio = row.dims[stage], row.sr_ratios[stage]
    reduction = (
        PooledReduction(dim) if row.linear else strided_reduction(dim, ratio)
    )
    return Block(
        dim,
        ReducedAttention(dim, row.heads[stage], reduction),
        ConvMlp(
            dim,
            dim * row.mlp_ratios[stage],
            nn.ReLU() if row.linear else None,
            recompute=not with_cp,
        ),
        drop_path,
    )
