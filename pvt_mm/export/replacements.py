"""Replace the modules that PyTorch's exporters cannot take for any size.

Adaptive pooling divides a side of n cells into k windows, the i-th from
floor(i * n / k) to ceil((i + 1) * n / k), so windows overlap where k does not
divide n. ONNX has no such operator, and PyTorch's exporter asks for sizes
that k divides (pytorch/pytorch#42653).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.backbones.fuse_conv_bn import fuse_for_inference


def windows(side: int, number: int, like: Tensor) -> Tensor:
    """Which cells of a side are in each window of adaptive pooling.

    Args:
        side: cells, may be symbolic.
        number: of windows.
        like: a tensor of the device that is wanted.

    Returns:
        bool (number, side)
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
        """(B, C, H, W) -> (B, C, *grid)"""
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


class WholeUpsample(nn.Module):
    """mmseg's Upsample by a whole factor f.

    mmseg multiplies the size by a float, which exporters cannot follow.
    """

    def __init__(self, factor: int, mode: str, align_corners: bool) -> None:
        super().__init__()
        self.factor, self.mode = factor, mode
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, f * H, f * W)"""
        size = [self.factor * side for side in x.shape[2:]]
        return F.interpolate(x, size, None, self.mode, self.align_corners)


def replacement(module: nn.Module) -> nn.Module:
    """The module that is exported in place of a module."""
    kind = type(module)
    if kind is nn.AdaptiveAvgPool2d:
        return GridAveragePool(module.output_size)
    if kind is nn.AdaptiveMaxPool2d:
        return GridMaxPool(module.output_size)
    name = f'{kind.__module__}.{kind.__name__}'
    if name == 'mmseg.models.utils.wrappers.Upsample':  # may be absent
        factor = module.scale_factor
        if factor is not None and factor == int(factor):
            return WholeUpsample(
                int(factor), module.mode, module.align_corners
            )
    return module


def exportable(model: nn.Module) -> nn.Module:
    """A copy of a model, for inference, that exporters can take.

    Batch norms of MPViT are folded into their convolutions.
    """
    model = fuse_for_inference(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            setattr(parent, name, replacement(child))
    return model
