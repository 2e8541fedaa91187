"""The transformer block that all three families share."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .drop_path import DropPath
from .tokens import Size

# Norms of blocks, stages and classifiers; patch embeddings and reductions
# keep PyTorch's 1e-5 (official code of all three families).
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Block(nn.Module):
    """Pre-norm block: attention, then a feed-forward network.

    Args:
        dim: channels C of a token.
        attn: maps normed tokens and their size to (B, N, C).
        mlp: likewise.
        drop_path: probability to drop a branch; one module serves both.

    Shape:
        x (B, N, C) with size (H, W) -> (B, N, C); ``shared`` is what the
        blocks of one encoder have in common, handed on to attn
    """

    def __init__(
        self, dim: int, attn: nn.Module, mlp: nn.Module, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = attn
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(dim)
        self.mlp = mlp

    def forward(self, x: Tensor, size: Size, *shared: nn.Module) -> Tensor:
        """(B, N, C), size (H, W) -> (B, N, C)"""
        x = x + self.drop_path(self.attn(self.norm1(x), size, *shared))
        return x + self.drop_path(self.mlp(self.norm2(x), size))


class Blocks(nn.ModuleList):
    """Blocks one after the other.

    Args:
        blocks: modules called with (x, size, *shared).
        with_cp: keep only the input of each block for the backward pass and
            compute the rest again (activation checkpointing).
    """

    def __init__(
        self, blocks: Iterable[nn.Module], with_cp: bool = False
    ) -> None:
        super().__init__(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor, size: Size, *shared: nn.Module) -> Tensor:
        """(B, N, C), size (H, W) -> (B, N, C)"""
        recompute = self.with_cp and torch.is_grad_enabled()
        for block in self:
            if recompute:
                x = checkpoint(block, x, size, *shared, use_reentrant=False)
            else:
                x = block(x, size, *shared)
        return x
