"""Patch embedding: a strided convolution that turns a map into tokens."""

from torch import Tensor, nn

from .tokens import Size, to_tokens


class PatchEmbed(nn.Module):
    """Cut a map into patches and embed each: map -> tokens and their size.

    Without padding, patches do not overlap and pixels beyond the last whole
    patch are dropped (PVT); with ``padding = kernel // 2`` they overlap and
    the size rounds up (PVT v2, section 3.3).

    Args:
        in_channels: channels of the map.
        dim: channels C of a token.
        kernel: patch height and width in pixels of the map.
        stride: distance of two patches in pixels of the map.
        padding: rows and columns of zeros around the map.

    Shape:
        (B, in_channels, H, W) -> (B, N, C) and size (H', W'), N = H' * W'
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        kernel: int,
        stride: int,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel, stride, padding)
        self.norm = nn.LayerNorm(dim)  # eps 1e-5, unlike the blocks' 1e-6

    def forward(self, x: Tensor) -> tuple[Tensor, Size]:
        """(B, in_channels, H, W) -> (B, N, C) and size (H', W')"""
        x = self.proj(x)
        return self.norm(to_tokens(x)), tuple(x.shape[2:])

    def smallest_side(self, cells: int) -> int:
        """Side of the smallest map that gives so many cells."""
        (kernel, _), (stride, _) = self.proj.kernel_size, self.proj.stride
        return (cells - 1) * stride + kernel - 2 * self.proj.padding[0]
