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

    Raises:
        ValueError: the map is smaller than one patch.
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
        self.smallest = kernel - 2 * padding

    def forward(self, x: Tensor) -> tuple[Tensor, Size]:
        height, width = x.shape[2:]
        if min(height, width) < self.smallest:
            raise ValueError(
                f'a map of {height}x{width} is smaller than one patch of '
                f'{self.smallest}x{self.smallest}: give a larger image'
            )
        x = self.proj(x)
        return self.norm(to_tokens(x)), tuple(x.shape[2:])
