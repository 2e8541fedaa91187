"""Compute the feature maps of a backbone and the attention of its blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..models.backbones.mpvit_blocks import HEADS, PositionedBlock
from ..models.layers import Size
from ..models.layers.attention import PooledReduction, StridedReduction

CLIPPED = 0.02  # share of the values at either end that saturate


class Attention(NamedTuple):
    """The attention of a block.

    Attributes:
        weights: (heads, H', W'), over the grid of its keys; they sum to 1.
        covers: share of the map's height and width under that grid; below 1
            where a strided reduction drops rows or columns.
        query: whether the weights are those of one query; not in MPViT.
    """

    weights: Tensor
    covers: tuple[float, float]
    query: bool


@contextmanager
def recorded_calls(modules: list[nn.Module]) -> Iterator[dict]:
    """Record the last call of modules: module -> (arguments, result)."""
    calls: dict[nn.Module, tuple] = {}

    def keep(module: nn.Module, arguments: tuple, result: Any) -> None:
        calls[module] = (arguments, result)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def blocks_of(backbone: nn.Module, stage: int, path: int = 0) -> nn.ModuleList:
    """The blocks of a stage, counted from 0.

    Args:
        backbone: PVT, PVTv2 or MPViT.
        stage: counted from 0.
        path: of MPViT, counted from 0.

    Raises:
        UsageError: there is no such stage or path.
    """
    stages = backbone.stages
    check_place('stage', stage, len(stages))
    paths = getattr(stages[stage], 'paths', [stages[stage]])
    check_place('path', path, len(paths))
    return paths[path].blocks


def check_place(name: str, given: int, count: int) -> None:
    """Raise UsageError for a stage, path or block that does not exist."""
    if not 0 <= given < count:
        raise UsageError(
            f'--{name} {given} does not exist: this backbone has {name}s '
            f'0..{count - 1} here'
        )


@torch.no_grad()
def attention(call: tuple, block: nn.Module, at: tuple) -> Attention:
    """The attention of a block, computed again from its arguments.

    Args:
        call: arguments and result of the block, from :func:`recorded_calls`.
        block: of PVT, PVTv2 or MPViT.
        at: the query, as shares of height and width in [0, 1).

    PVT and PVT v2: softmax(q k^T / sqrt(D)) of the query's token. The
    factorized attention of MPViT has no such map: its softmax is over the
    tokens of K, the same for every query; it is shown as the mean over the
    channels of a head.
    """
    x, size, *shared = call[0]
    if isinstance(block, PositionedBlock):
        cpe = shared[0]
        k = block.attn.qkv(block.norm1(cpe(x, size))).chunk(3, -1)[1][0]
        weights = k.unflatten(-1, (HEADS, -1)).softmax(0).mean(-1)  # N, heads
        weights = weights.T.unflatten(1, size)
        return Attention(weights, (1.0, 1.0), False)
    x, attn = block.norm1(x), block.attn
    row, column = (int(a * n) for a, n in zip(at, size, strict=True))
    q = attn.q(x)[0, row * size[1] + column]
    k = attn.kv(attn.reduction(x, size)).chunk(2, -1)[0][0]
    q = q.unflatten(-1, (attn.heads, -1))  # heads, D
    k = k.unflatten(-1, (attn.heads, -1))  # M, heads, D
    weights = (torch.einsum('hd,mhd->hm', q, k) * q.shape[1] ** -0.5).softmax(
        1
    )
    grid, covers = key_grid(attn.reduction, size)
    return Attention(weights.unflatten(1, grid), covers, True)


def key_grid(
    reduction: nn.Module, size: Size
) -> tuple[Size, tuple[float, float]]:
    """Height and width of the grid of keys, and what of the map it covers."""
    if isinstance(reduction, PooledReduction):
        return (7, 7), (1.0, 1.0)
    if not isinstance(reduction, StridedReduction):
        return size, (1.0, 1.0)
    ratio = reduction.conv.stride[0]
    grid = (size[0] // ratio, size[1] // ratio)
    return grid, (grid[0] * ratio / size[0], grid[1] * ratio / size[1])


def principal_components(x: Tensor) -> Tensor:
    """The first three principal components of a map as colours.

    Shape:
        (C, H, W) -> (H, W, 3), in [0, 1]
    """
    tokens = x.flatten(1).T.double()
    tokens = tokens - tokens.mean(0)
    directions = torch.linalg.eigh(tokens.T @ tokens).eigenvectors
    directions = directions[:, -3:].flip(1)
    top = directions.abs().argmax(0, keepdim=True)
    directions = directions * directions.gather(0, top).sign()
    return scale_columns(tokens @ directions).unflatten(0, tuple(x.shape[1:]))


def mean_absolute(x: Tensor) -> Tensor:
    """Mean absolute value over channels: (C, H, W) -> (H, W), in [0, 1]

    The mean itself is the same everywhere after a layer norm.
    """
    tokens = x.abs().mean(0).flatten()[:, None].double()
    return scale_columns(tokens).view(x.shape[1:])


def scale_columns(values: Tensor) -> Tensor:
    """Scale each column (N, K) to [0, 1]; its extremes are clipped."""
    ends = torch.tensor([CLIPPED, 1 - CLIPPED], dtype=values.dtype)
    low, high = values.quantile(ends, dim=0)
    return ((values - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
