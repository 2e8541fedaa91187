"""Two-stage heads of mmdet: Mask R-CNN, Cascade Mask R-CNN."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .dense_heads import Sides, activate, best, candidates, decode
from .operators import OUT, roi_align


def two_stage(
    model: nn.Module, maps: Sequence[Tensor], size: Sides, _
) -> tuple[Tensor, ...]:
    """Objects of Mask R-CNN and Cascade Mask R-CNN, and without masks."""
    roi, rpn = model.roi_head, model.rpn_head
    boxes, _, levels = best(*candidates(rpn, maps, size), rpn.test_cfg)
    batch, number, _ = boxes.shape
    heads, total = listed(roi.bbox_head), 0.0
    extractors = listed(roi.bbox_roi_extractor)
    for i, (head, extractor) in enumerate(zip(heads, extractors, strict=True)):
        logits, deltas = head(align(extractor, maps, boxes))
        total = total + logits
        if i + 1 < len(heads):  # the next stage looks at better boxes
            label = logits[:, :-1].argmax(1)
            boxes = head.regress_by_class(
                boxes.flatten(0, 1), label, deltas, dict(img_shape=size)
            ).view(batch, number, 4)
    classes = 1 if head.reg_class_agnostic else head.num_classes
    deltas = deltas.view(batch, number * classes, 4)
    boxes = repeat(boxes, classes)
    boxes = decode(head, boxes, deltas, size, 1)
    boxes = repeat(boxes, head.num_classes // classes)
    scores = activate(total / len(heads), False).view(batch, number, -1)
    there = (levels >= 0)[..., None] & (scores > roi.test_cfg.score_thr)
    labels = torch.arange(head.num_classes, device=boxes.device)
    labels = labels.expand(batch, number, -1).flatten(1)
    scores = scores.where(there, OUT).flatten(1)
    found = best(boxes, scores, labels, roi.test_cfg)
    if not roi.with_mask:
        return found
    return *found, mask_of(roi, maps, found[0], found[2])


def repeat(boxes: Tensor, times: int) -> Tensor:
    """(B, K, 4) -> (B, K * times, 4), each box so often."""
    return boxes[:, :, None].expand(-1, -1, times, -1).flatten(1, 2)


def listed(part: nn.Module) -> Sequence[nn.Module]:
    """The stages of a part of a head."""
    return part if isinstance(part, nn.ModuleList) else [part]


def align(extractor: nn.Module, maps: Sequence[Tensor], boxes: Tensor):
    """Boxes (B, K, 4) -> what is in them (B * K, C, side, side)"""
    batch, number, _ = boxes.shape
    image = torch.arange(batch, device=boxes.device).to(boxes.dtype)
    image = image[:, None, None].expand(-1, number, 1)
    rois = torch.cat([image, boxes], 2).flatten(0, 1)
    # as floor(log2(...)), which a rounded logarithm can miss
    sides = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    times = sides.sqrt() / extractor.finest_scale + 1e-6
    number = extractor.num_inputs
    levels = sum((times >= 2**i).long() for i in range(1, number))
    layer = extractor.roi_layers[0]
    return roi_align(
        list(maps[:number]),
        rois,
        levels + torch.zeros_like(image.flatten(), dtype=torch.long),
        list(extractor.featmap_strides),
        layer.output_size[0],
        layer.sampling_ratio,
    )


def mask_of(
    roi: nn.Module, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor
) -> Tensor:
    """How sure each cell of a box (B, N, 4) is -> (B, N, 28, 28)"""
    heads, total = listed(roi.mask_head), 0.0
    extractors = listed(roi.mask_roi_extractor)
    for head, extractor in zip(heads, extractors, strict=True):
        total = total + head(align(extractor, maps, boxes)).sigmoid()
    index = labels.flatten().clamp(min=0)
    if head.class_agnostic:
        index = torch.zeros_like(index)
    index = index[:, None, None, None].expand(-1, 1, *total.shape[2:])
    masks = total.gather(1, index) / len(heads)
    return masks.view(*labels.shape, *total.shape[2:])
