"""NMS and RoIAlign: operators that torch.export keeps and that ONNX has.

Both have results of one shape, whatever is found, so that no size of a
program depends on an image. A .pt2 file with one of them needs this module
imported before it is loaded; an .onnx file has ONNX's own operators.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

OUT = -1.0  # score of what is no candidate; the others have 0 to 1


@torch.library.custom_op('pvt_mm::nms', mutates_args=())
def nms(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Which boxes are kept: not those that overlap a better one.

    Args:
        boxes: (B, N, 4) as x1, y1, x2, y2.
        scores: (B, N), OUT for what is no candidate.
        iou: intersection over union above which boxes overlap.
        most: boxes of an image that are needed; more may be kept.

    Returns:
        bool (B, N)
    """
    from mmcv import ops

    kept = torch.zeros_like(scores, dtype=torch.bool)
    for keep, box, score in zip(kept, boxes, scores, strict=True):
        (there,) = (score > OUT / 2).nonzero(as_tuple=True)
        if len(there):
            _, index = ops.nms(box[there], score[there], iou)
            keep[there[index]] = True
    return kept


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op('pvt_mm::roi_align', mutates_args=())
def roi_align(
    maps: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    strides: Sequence[int],
    side: int,
    samples: int,
) -> Tensor:
    """RoIAlign with half-pixel coordinates, each box on its own map.

    Args:
        maps: (B, C, h, w) each.
        rois: (K, 5), number of the image and a box in pixels.
        levels: (K,), number of the map that a box looks at.
        strides: pixels per cell of each map.
        side: cells of a side of the result.
        samples: points per side of a cell; 0 for as many as a cell is wide.

    Returns:
        (K, C, side, side)
    """
    from mmcv import ops

    found = maps[0].new_zeros(len(rois), maps[0].shape[1], side, side)
    for i, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        (there,) = (levels == i).nonzero(as_tuple=True)
        if len(there):
            found[there] = ops.roi_align(
                x, rois[there], side, 1 / stride, samples
            )
    return found


@roi_align.register_fake
def _(maps, rois, levels, strides, side, samples) -> Tensor:
    return maps[0].new_empty(rois.shape[0], maps[0].shape[1], side, side)


def onnx_operators() -> dict:
    """Operator of torch -> function that writes it with ONNX's operators."""
    from onnxscript import opset18 as op
    from onnxscript.onnx_types import INT64

    def write_nms(boxes, scores, iou: float, most: int):
        found = op.NonMaxSuppression(  # (K, 3): image, class 0, box
            boxes,
            op.Unsqueeze(scores, op.Constant(value_ints=[1])),
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[iou]),
            op.Constant(value_floats=[OUT / 2]),
        )
        places = op.Gather(found, op.Constant(value_ints=[0, 2]), axis=1)
        kept = op.Expand(op.Constant(value_int=1), op.Shape(found, end=1))
        none = op.Expand(op.Constant(value_int=0), op.Shape(scores))
        return op.Cast(op.ScatterND(none, places, kept), to=9)  # bool

    def write_roi_align(
        maps, rois, levels, strides: Sequence[int], side: int, samples: int
    ):
        sides = op.Constant(value_ints=[side, side])
        channels = op.Shape(maps[0], start=1, end=2)
        shape = op.Concat(op.Shape(rois, end=1), channels, sides, axis=0)
        found = op.Expand(op.Constant(value_float=0.0), shape)
        for i, (x, stride) in enumerate(zip(maps, strides, strict=True)):
            there = op.NonZero(op.Equal(levels, op.Constant(value_int=i)))
            there = op.Transpose(there, perm=[1, 0])
            here = op.GatherND(rois, there)  # (k, 5)
            image = op.Gather(here, op.Constant(value_int=0), axis=1)
            corners = op.Constant(value_ints=[1, 2, 3, 4])
            aligned = op.RoiAlign(
                x,
                op.Gather(here, corners, axis=1),
                op.Cast(image, to=INT64.dtype),
                coordinate_transformation_mode='half_pixel',
                output_height=side,
                output_width=side,
                sampling_ratio=samples,
                spatial_scale=1 / stride,
            )
            found = op.ScatterND(found, there, aligned)
        return found

    ops = torch.ops.pvt_mm
    return {
        ops.nms.default: write_nms,
        ops.roi_align.default: write_roi_align,
    }
