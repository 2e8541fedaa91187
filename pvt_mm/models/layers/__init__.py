"""Layers that two or more families share; they need torch only."""

from .attention import PooledReduction, ReducedAttention, strided_reduction
from .block import Block, Blocks, LayerNorm
from .cpu import Linear, PointwiseConv
from .drop_path import DropPath, drop_path_rates
from .init import init_conv, init_tokens
from .mlp import ConvMlp, Mlp
from .patch_embed import PatchEmbed
from .tokens import Size, to_map, to_tokens

__all__ = [
    'Block',
    'Blocks',
    'ConvMlp',
    'DropPath',
    'LayerNorm',
    'Linear',
    'Mlp',
    'PatchEmbed',
    'PointwiseConv',
    'PooledReduction',
    'ReducedAttention',
    'Size',
    'drop_path_rates',
    'init_conv',
    'init_tokens',
    'strided_reduction',
    'to_map',
    'to_tokens',
]
