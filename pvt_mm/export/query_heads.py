"""Heads of queries: DETR, Deformable DETR, Sparse R-CNN."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .dense_heads import Found, Sides, activate, decode, known, pick
from .operators import OUT
from .two_stage_heads import align


def box_queries(
    model: nn.Module, maps: Sequence[Tensor], size: Sides, _
) -> Found:
    """Objects of Sparse R-CNN."""
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

    rpn, roi = model.rpn_head, model.roi_head
    batch = maps[0].shape[0]
    boxes = bbox_cxcywh_to_xyxy(rpn.init_proposal_bboxes.weight)
    boxes = in_pixels(boxes, size).expand(batch, -1, -1)
    # contiguous, as in mmdet: other strides are rounded in another way
    query = rpn.init_proposal_features.weight.expand(batch, -1, -1)
    query = query.contiguous()
    stages = zip(roi.bbox_roi_extractor, roi.bbox_head, strict=True)
    for extractor, head in stages:
        x = align(extractor, maps, boxes)
        logits, deltas, query, _ = head(x, query)
        boxes = decode(head, boxes, deltas, size, 1)
    sigmoid = head.loss_cls.use_sigmoid
    return top(activate(logits, sigmoid), boxes, roi.test_cfg.max_per_img)


def map_queries(
    model: nn.Module, maps: Sequence[Tensor], size: Sides, padded: Sides
) -> Found:
    """Objects of DETR and Deformable DETR."""
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

    masks = [beyond(x, size, padded) for x in maps]
    places = [model.positional_encoding(mask) for mask in masks]
    if hasattr(model, 'level_embed'):
        encoder, decoder = levels_of(model, maps, masks, places)
    else:
        x, mask, place = maps[-1], masks[-1].flatten(1), places[-1]
        place = place.flatten(2).transpose(1, 2)
        encoder = dict(
            feat=x.flatten(2).transpose(1, 2), feat_mask=mask, feat_pos=place
        )
        decoder = dict(memory_mask=mask, memory_pos=place)
    more, heads = model.pre_decoder(**model.forward_encoder(**encoder))
    # a view whose strides could be those of a batch of two fixes the batch
    more = {k: v.contiguous() for k, v in more.items()}
    heads.update(model.forward_decoder(**{**decoder, **more}))
    head = model.bbox_head
    logits, boxes = (x[-1] for x in head(**heads))
    scores = activate(logits, head.loss_cls.use_sigmoid)
    if not head.loss_cls.use_sigmoid:  # one class of each query
        best = scores.amax(-1, keepdim=True)
        scores = scores.where(scores == best, OUT)
    height, width = size
    boxes = in_pixels(bbox_cxcywh_to_xyxy(boxes), size)
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    boxes = torch.stack([x, y], -1).flatten(2)
    number = head.test_cfg.get('max_per_img', logits.shape[1])
    return top(scores, boxes, number)


def levels_of(
    model: nn.Module,
    maps: Sequence[Tensor],
    masks: Sequence[Tensor],
    places: Sequence[Tensor],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Deformable DETR's encoder and decoder get.

    Args:
        model: Deformable DETR.
        maps: (B, C, h, w) each.
        masks: bool (B, h, w), of padded cells.
        places: encodings of the cells, as the maps.
    """
    tokens = [x.flatten(2).transpose(1, 2) for x in maps]
    places = [
        place.flatten(2).transpose(1, 2) + level
        for place, level in zip(places, model.level_embed, strict=True)
    ]
    mask = torch.cat([mask.flatten(1) for mask in masks], 1)
    ratios = [model.get_valid_ratio(mask) for mask in masks]
    both = dict(
        spatial_shapes=[x.shape[2:] for x in maps],
        level_start_index=None,
        valid_ratios=torch.stack(ratios, 1),
    )
    tokens, places = torch.cat(tokens, 1), torch.cat(places, 1)
    encoder = dict(feat=tokens, feat_mask=mask, feat_pos=places)
    return {**encoder, **both}, {'memory_mask': mask, **both}


def cell_centres(
    spatial_shapes: Sequence[Sides], valid_ratios: Tensor, device: Any
) -> Tensor:
    """Where each cell is on each map: (B, sum of h * w, maps, 2)

    Args:
        spatial_shapes: h and w of each map.
        valid_ratios: share of its width and height that is no padding,
            (B, maps, 2).
        device: of the result.
    """
    points = []
    for i, (h, w) in enumerate(spatial_shapes):
        x = (torch.arange(w, device=device) + 0.5) / w
        y = (torch.arange(h, device=device) + 0.5) / h
        grid = torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1)
        points.append(grid.flatten(0, 1) / valid_ratios[:, i, None])
    return torch.cat(points, 1)[:, :, None] * valid_ratios[:, None]


def proposals_of(
    model: nn.Module,
    memory: Tensor,
    memory_mask: Tensor,
    spatial_shapes: Sequence[Sides],
) -> tuple[Tensor, Tensor]:
    """mmdet's gen_encoder_output_proposals, without its linspace.

    Args:
        model: Deformable DETR of two stages.
        memory: of the encoder, (B, sum of h * w, C).
        memory_mask: bool (B, sum of h * w), of padded cells.
        spatial_shapes: h and w of each map.

    Returns:
        what is known of each cell, (B, sum of h * w, C), and its first box as
        the logits of cx, cy, w, h, (B, sum of h * w, 4)
    """
    masks = memory_mask.split([h * w for h, w in spatial_shapes], 1)
    boxes = []
    for i, ((h, w), mask) in enumerate(
        zip(spatial_shapes, masks, strict=True)
    ):
        mask = mask.unflatten(1, (h, w))
        x, y = (
            (torch.arange(side, device=mask.device) + 0.5)
            / (~line).sum(1, keepdim=True)
            for side, line in ((w, mask[:, 0]), (h, mask[:, :, 0]))
        )
        x = x[:, None].expand(-1, h, -1)
        y = y[:, :, None].expand(-1, -1, w)
        side = torch.full_like(x, 0.05 * 2**i)
        boxes.append(torch.stack([x, y, side, side], -1).flatten(1, 2))
    boxes = torch.cat(boxes, 1)
    inside = ((boxes > 0.01) & (boxes < 0.99)).all(-1) & ~memory_mask
    inside = inside[..., None]
    boxes = torch.log(boxes / (1 - boxes)).where(inside, torch.inf)
    memory = model.memory_trans_fc(memory.where(inside, 0.0))
    return model.memory_trans_norm(memory), boxes


def beyond(x: Tensor, size: Sides, padded: Sides) -> Tensor:
    """Which cells of a map are padding: (B, C, h, w) -> bool (B, h, w)

    A cell is where its first pixel is, as nearest interpolation has it.
    """
    row, column = (
        torch.arange(cells, device=x.device) * most >= side * cells
        for cells, most, side in zip(x.shape[2:], padded, size, strict=True)
    )
    return (row[:, None] | column).expand(x.shape[0], -1, -1)


def in_pixels(boxes: Tensor, size: Sides) -> Tensor:
    """Boxes of a unit square (..., 4) -> those of an image."""
    height, width = size
    x, y = boxes[..., 0::2] * width, boxes[..., 1::2] * height
    return torch.stack([x, y], -1).flatten(-2)


def top(scores: Tensor, boxes: Tensor, number: int) -> Found:
    """The best pairs of query and class, without suppression.

    Shape:
        scores (B, Q, classes), boxes (B, Q, 4)
    """
    classes = scores.shape[2]
    scores, index = scores.flatten(1).topk(number)
    return known(pick(boxes, index // classes), scores, index % classes)
