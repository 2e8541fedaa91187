"""Attention whose keys and values come from a reduced grid of tokens."""

from torch import Tensor, nn
from torch.nn import functional as F

from .cpu import Linear
from .tokens import Size, to_map, to_tokens


class KeepAll(nn.Module):
    """No reduction: every token is a key.

    Shape:
        (B, N, C) -> (B, N, C)
    """

    smallest = 1  # side of the smallest grid, in tokens

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C) -> (B, N, C)"""
        return x


class StridedReduction(nn.Module):
    """Spatial reduction by a strided convolution (PVT, section 3.3).

    Args:
        dim: channels C of a token.
        ratio: tokens per key along each side; rows and columns beyond the
            last whole cell are dropped, as in the official code.
    """

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.smallest = ratio
        self.conv = nn.Conv2d(dim, dim, ratio, ratio)
        self.norm = nn.LayerNorm(dim)  # eps 1e-5, unlike the blocks' 1e-6

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C), size (H, W) -> (B, (H // ratio) * (W // ratio), C)"""
        return self.norm(to_tokens(self.conv(to_map(x, size))))


class PooledReduction(nn.Module):
    """Linear SRA: keys from a fixed 7x7 grid (PVT v2, section 3.2).

    Args:
        dim: channels C of a token.

    Shape:
        (B, N, C) with size (H, W) -> (B, 49, C)
    """

    smallest = 1  # side of the smallest grid, in tokens

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.conv = nn.Conv2d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)  # eps 1e-5, unlike the blocks' 1e-6
        self.act = nn.GELU()

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C), size (H, W) -> (B, 49, C)"""
        x = self.conv(self.pool(to_map(x, size)))
        return self.act(self.norm(to_tokens(x)))


def strided_reduction(dim: int, ratio: int) -> nn.Module:
    """The reduction of PVT's and PVT v2's stages; ratio 1 keeps all."""
    return StridedReduction(dim, ratio) if ratio > 1 else KeepAll()


class ReducedAttention(nn.Module):
    """Multi-head attention: N queries look at M <= N keys.

    Args:
        dim: channels C of a token.
        heads: number of heads, a divisor of C.
        reduction: maps (B, N, C) and a size to (B, M, C).

    Shape:
        x (B, N, C) with size (H, W), N = H * W -> (B, N, C)

    Raises:
        ValueError: dim is not a multiple of heads.
    """

    def __init__(self, dim: int, heads: int, reduction: nn.Module) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(
                f'dim {dim} is not a multiple of heads {heads}: change one of '
                'them in the arch'
            )
        self.heads = heads
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)
        self.reduction = reduction
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C), size (H, W) -> (B, N, C)"""
        q = self.q(x)
        k, v = self.kv(self.reduction(x, size)).chunk(2, -1)
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (q, k, v)
        )  # (B, heads, N or M, C / heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2))
