"""Detectors of mmdet for any batch and any size: boxes, scores and labels.

mmdet's heads decide image by image, with as many results as there are. Here
each step has results of one shape; what there is not has the score OUT. A
function per kind of head: dense, two-stage, queries on maps, queries on boxes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from .operators import OUT, nms, roi_align
from .replacements import exportable

Found = tuple[Tensor, Tensor, Tensor]  # boxes (B, N, 4), scores, labels
Sides = Sequence[int]  # height and width, may be symbolic


class Detector(nn.Module):
    """A detector -> boxes, scores, labels and, if it has them, masks.

    As in mmdet's data preprocessor, the image is padded below and on the
    right to a multiple of `pad_size_divisor`.

    Args:
        model: of mmdet.

    Shape:
        image (B, 3, H, W) -> boxes (B, N, 4) in pixels of the image, scores
        (B, N), labels (B, N), masks (B, N, 28, 28) relative to their boxes;
        N is max_per_img, the best first; beyond the last one zeros, label -1

    Raises:
        UsageError: a part of the head has no counterpart here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check(model)
        self.model = exportable(model)
        self.find = kind_of(model)
        if hasattr(model, 'level_embed'):  # mmdet's linspace fixes the size
            self.model.encoder.get_encoder_reference_points = cell_centres
        preprocessor = model.data_preprocessor
        self.divisor = preprocessor.pad_size_divisor
        self.fill = float(preprocessor.pad_value)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run backbone, neck and heads."""
        height, width = size = image.shape[2:]
        more = (0, -width % self.divisor, 0, -height % self.divisor)
        image = F.pad(image, more, value=self.fill)
        maps = self.model.extract_feat(image)
        return self.find(self.model, maps, size, image.shape[2:])


def kind_of(model: nn.Module) -> Callable[..., tuple[Tensor, ...]] | None:
    """The function that finds objects in the maps of a model, if any."""
    from mmdet.models import dense_heads, detectors, roi_heads

    head = getattr(model, 'bbox_head', None)
    rois = getattr(model, 'roi_head', None)
    if isinstance(rois, roi_heads.SparseRoIHead) and not rois.with_mask:
        return box_queries
    if type(rois) in (roi_heads.StandardRoIHead, roi_heads.CascadeRoIHead):
        return two_stage
    if type(model) in (detectors.DETR, detectors.DeformableDETR):
        # torch 2.13 writes box refinement as a file that ONNX Runtime refuses
        options = ('as_two_stage', 'with_box_refine')
        other = any(getattr(model, name, False) for name in options)
        return None if other else map_queries
    if type(head) in (
        *(dense_heads.RetinaHead, dense_heads.RetinaSepBNHead),
        *(dense_heads.ATSSHead, dense_heads.GFLHead),
    ):
        return dense
    return None


def check(model: nn.Module) -> None:
    """Stop at options of a head that would be ignored here.

    Raises:
        UsageError: names the option.
    """
    for cfg in test_cfgs(model):
        kind = (cfg.get('nms') or {}).get('type', 'nms')
        if kind != 'nms':
            raise UsageError(f'export has no {kind}: set nms type to nms')
        if cfg.get('nms_pre', 1) < 1:
            raise UsageError('export needs nms_pre of 1 or more in test_cfg')
    for layer in model.modules():
        if type(layer).__name__ in ('RoIAlign', 'RoIPool') and not (
            getattr(layer, 'aligned', False) and layer.pool_mode == 'avg'
        ):
            raise UsageError('export takes RoIAlign, aligned, with means')


def thresholds(model: nn.Module) -> dict[str, str]:
    """What the last head decides by, for the metadata of a file."""
    cfg = test_cfgs(model)[-1]
    iou = (cfg.get('nms') or {}).get('iou_threshold')
    values = {
        'score_threshold': cfg.get('score_thr', 0.0),
        'iou_threshold': iou,
        'mask_threshold': cfg.get('mask_thr_binary'),
        'max_per_image': cfg.get('max_per_img'),
    }
    return {k: str(v) for k, v in values.items() if v is not None}


def test_cfgs(model: nn.Module) -> list[Mapping[str, Any]]:
    """The options at test time of each head."""
    heads = [
        getattr(model, name, None)
        for name in ('bbox_head', 'rpn_head', 'roi_head')
    ]
    return [h.test_cfg for h in heads if getattr(h, 'test_cfg', None)]


def dense(model: nn.Module, maps: Sequence[Tensor], size: Sides, _) -> Found:
    """Objects of RetinaNet, ATSS and GFL."""
    head = model.bbox_head
    return best(*candidates(head, maps, size), head.test_cfg)


def candidates(head: nn.Module, maps: Sequence[Tensor], size: Sides) -> Found:
    """The best `nms_pre` pairs of anchor and class of each level.

    Args:
        head: dense head, or the RPN, whose labels are levels.
        maps: of the neck.
        size: of the image, where boxes end.
    """
    from mmdet.models.dense_heads import RPNHead

    proposes, number = isinstance(head, RPNHead), head.test_cfg.nms_pre
    least = OUT / 2 if proposes else head.test_cfg.get('score_thr', 0)
    logits, deltas, *factors = head(maps)
    priors = head.prior_generator.grid_priors(
        [x.shape[2:] for x in logits], logits[0].dtype, logits[0].device
    )
    found = []
    for i, level in enumerate(logits):
        anchors = level.shape[1] // head.cls_out_channels  # of a cell
        scores = activate(rows(level, anchors), head.use_sigmoid_cls)
        classes = scores.shape[2]
        scores = scores.where(scores > least, OUT).flatten(1)
        # there may be fewer than nms_pre
        scores = F.pad(scores, (0, number), value=OUT)
        scores, index = scores.topk(number)
        place = (index // classes).clamp(max=priors[i].shape[0] - 1)
        boxes = decode(
            head,
            priors[i][place],
            pick(rows(deltas[i], anchors), place),
            size,
            head.prior_generator.strides[i][0],
        )
        if factors:
            factor = pick(rows(factors[0][i], anchors), place)[..., 0]
            there = scores > OUT / 2
            scores = torch.where(there, scores * factor.sigmoid(), OUT)
        labels = torch.full_like(index, i) if proposes else index % classes
        found.append((boxes, scores, labels))
    return tuple(torch.cat(parts, 1) for parts in zip(*found, strict=True))


def rows(x: Tensor, anchors: int) -> Tensor:
    """(B, anchors * D, h, w) -> (B, h * w * anchors, D)"""
    batch, channels = x.shape[:2]
    return x.permute(0, 2, 3, 1).reshape(batch, -1, channels // anchors)


def pick(x: Tensor, index: Tensor) -> Tensor:
    """(B, A, D) at (B, K) -> (B, K, D)"""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


def activate(logits: Tensor, sigmoid: bool) -> Tensor:
    """Logits -> scores, without those of the background."""
    return logits.sigmoid() if sigmoid else logits.softmax(-1)[..., :-1]


def decode(
    head: nn.Module, priors: Tensor, deltas: Tensor, size: Sides, stride: int
) -> Tensor:
    """Anchors (B, K, 4) and what the head says of them -> boxes (B, K, 4)"""
    shape, priors = priors.shape, priors.flatten(0, 1)
    deltas = deltas.flatten(0, 1)
    if hasattr(head, 'integral'):  # GFL: distances from the centre
        priors = head.anchor_center(priors)
        deltas = head.integral(deltas) * stride
    return head.bbox_coder.decode(priors, deltas, max_shape=size).view(shape)


def best(boxes: Tensor, scores: Tensor, labels: Tensor, cfg: Any) -> Found:
    """Non-maximum suppression within each label -> the best max_per_img.

    As mmdet's, which moves the boxes of each label apart; so even rounding
    is the same.
    """
    least = cfg.get('min_bbox_size', -1)
    if least >= 0:
        sides = boxes[..., 2:] - boxes[..., :2]
        scores = scores.where((sides > least).all(-1), OUT)
    apart = boxes
    if not cfg.nms.get('class_agnostic', False):
        there = (scores > OUT / 2)[..., None]
        most = boxes.where(there, 0.0).amax((1, 2))[:, None] + 1
        apart = boxes + (labels * most)[..., None]
    most = cfg.max_per_img
    scores = scores.where(nms(apart, scores, cfg.nms.iou_threshold, most), OUT)
    scores, index = F.pad(scores, (0, most), value=OUT).topk(most)
    index = index.clamp(max=boxes.shape[1] - 1)
    return known(pick(boxes, index), scores, labels.gather(1, index))


def known(boxes: Tensor, scores: Tensor, labels: Tensor) -> Found:
    """The same with zeros and label -1 for what is no candidate."""
    there = scores > OUT / 2
    boxes = boxes.where(there[..., None], 0.0)
    return boxes, scores.where(there, 0.0), labels.where(there, -1)


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
    scores, boxes = activate(logits, head.loss_cls.use_sigmoid), boxes
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
