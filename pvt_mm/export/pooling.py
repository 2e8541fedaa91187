"""Pooling to a fixed grid, for exporters that do not know the map's size.

PyTorch cuts a side of n cells into k windows, the i-th from floor(i * n / k)
to ceil((i + 1) * n / k): all cells that it touches, so windows share cells
where k does not divide n. ONNX has no such operator, and PyTorch's exporter
asks for sizes that k divides.
"""

import torch
from torch import Tensor, nn


def windows(side: int, number: int, like: Tensor) -> Tensor:
    """Which cells of a side are in each window, True or False.

    Args:
        side: cells, may be symbolic.
        number: of windows.
        like: a tensor of the device that is wanted.

    Shape:
        (number, side)
    """
    i = torch.arange(number, device=like.device)[:, None]
    cell = torch.arange(side, device=like.device)
    # both limits without a division, which ONNX has for positive numbers only
    begun = (cell + 1) * number > i * side
    return begun & (cell * number < (i + 1) * side)


class GridPool(nn.Module):
    """Pool to a grid of any map size: (B, C, H, W) -> (B, C, *grid)

    Args:
        grid: rows and columns of the result; one number for both.
    """

    def __init__(self, grid: int | tuple[int, int]) -> None:
        super().__init__()
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.grid
        x = self.last_side(x, columns).transpose(2, 3)
        return self.last_side(x, rows).transpose(2, 3)


class GridAveragePool(GridPool):
    """nn.AdaptiveAvgPool2d as two products with averaging matrices."""

    def last_side(self, x: Tensor, number: int) -> Tensor:
        """(..., W) -> (..., number)"""
        inside = windows(x.shape[-1], number, x).to(x.dtype)
        return x @ (inside / inside.sum(1, keepdim=True)).T


class GridMaxPool(GridPool):
    """nn.AdaptiveMaxPool2d as two maxima over masked copies."""

    def last_side(self, x: Tensor, number: int) -> Tensor:
        """(..., W) -> (..., number)"""
        inside = windows(x.shape[-1], number, x)
        return x[..., None, :].where(inside, -torch.inf).amax(-1)
