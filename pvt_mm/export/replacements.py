"""Replace what PyTorch's exporters cannot take for any size.

Adaptive pooling divides a side of n cells into k windows, the i-th from
floor(i * n / k) to ceil((i + 1) * n / k), so windows overlap where k does not
divide n. ONNX has no such operator, and PyTorch's exporter asks for sizes
that k divides (pytorch/pytorch#42653).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

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


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """As F.adaptive_avg_pool2d, by two products with averaging matrices."""

    def last_side(x: Tensor, number: int) -> Tensor:
        """(..., W) -> (..., number)"""
        inside = windows(x.shape[-1], number, x).to(x.dtype)
        return x @ (inside / inside.sum(1, keepdim=True)).T

    return by_sides(last_side, x, output_size)


def adaptive_max_pool2d(
    x: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor:
    """As F.adaptive_max_pool2d, by two maxima over masked copies."""

    def last_side(x: Tensor, number: int) -> Tensor:
        """(..., W) -> (..., number)"""
        inside = windows(x.shape[-1], number, x)
        return x[..., None, :].where(inside, -torch.inf).amax(-1)

    return by_sides(last_side, x, output_size)


def by_sides(pool: Callable, x: Tensor, size: Any) -> Tensor:
    """Pool the columns, then the rows: (B, C, H, W) -> (B, C, *size)

    Args:
        pool: (..., side), number of windows -> (..., number)
        x: the map.
        size: rows and columns of the result; one number for both.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    return pool(pool(x, columns).transpose(2, 3), rows).transpose(2, 3)


class AnySize(TorchFunctionMode):
    """Context in which adaptive pooling takes maps of any size."""

    OWN = {
        F.adaptive_avg_pool2d: adaptive_avg_pool2d,
        F.adaptive_max_pool2d: adaptive_max_pool2d,
    }

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Call our function in place of torch's."""
        function = self.OWN.get(function, function)
        return function(*args, **(kwargs or {}))


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


class PlainDeformableAttention(nn.Module):
    """mmcv's MultiScaleDeformableAttention by grid_sample.

    mmcv reads the sizes of the maps from a tensor, which a program for any
    size cannot; here they are a list.

    Args:
        module: of mmcv, for tokens (B, N, C).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self,
        query: Tensor,
        *_: Any,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor,
        spatial_shapes: Sequence[Sequence[int]],
        **__: Any,
    ) -> Tensor:
        """Tokens look at points near theirs, on maps (h, w) each.

        Shape:
            query (B, Q, C), value (B, sum of h * w, C), reference_points
            (B, Q, maps, 2 or 4) -> (B, Q, C)
        """
        m = self.module
        value = m.value_proj(query if value is None else value)
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.0)
        batch, number, _ = query.shape
        shape = (batch, number, m.num_heads, m.num_levels, m.num_points)
        offsets = m.sampling_offsets(query).view(*shape, 2)
        weights = m.attention_weights(query).view(*shape[:3], -1).softmax(-1)
        points = reference_points[:, :, None, :, None]
        heads = value.unflatten(2, (m.num_heads, -1)).permute(0, 2, 3, 1)
        cells = heads.flatten(0, 1).split(
            [h * w for h, w in spatial_shapes], 2
        )
        found = []
        for i, (h, w) in enumerate(spatial_shapes):
            if points.shape[-1] == 2:
                x, y = offsets[:, :, :, i].unbind(-1)
                more = torch.stack([x / w, y / h], -1)
            else:
                more = offsets[:, :, :, i] / m.num_points
                more = more * points[:, :, :, i, :, 2:] * 0.5
            grid = 2 * (points[:, :, :, i, :, :2] + more) - 1
            grid = grid.transpose(1, 2).flatten(0, 1)  # (B * heads, Q, P, 2)
            x = cells[i].unflatten(2, (h, w))
            found.append(F.grid_sample(x, grid, align_corners=False))
        weights = weights.transpose(1, 2).flatten(0, 1)[:, None]
        x = (torch.cat(found, -1) * weights).sum(-1)  # (B * heads, C / h, Q)
        x = x.view(batch, -1, number).transpose(1, 2)
        return m.dropout(m.output_proj(x)) + identity


def replacement(module: nn.Module) -> nn.Module:
    """The module that is exported in place of a module."""
    kind = type(module)
    name = f'{kind.__module__}.{kind.__name__}'
    if kind.__name__ == 'MultiScaleDeformableAttention':
        return PlainDeformableAttention(module)
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
        if isinstance(parent, PlainDeformableAttention):
            continue
        for name, child in parent.named_children():
            setattr(parent, name, replacement(child))
    return model
