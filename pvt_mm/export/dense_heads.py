"""Dense heads of mmdet: RetinaNet, ATSS, GFL, and the RPN.

mmdet decides image by image, with as many results as there are. Here each
step has results of one shape; what there is not has the score OUT.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .operators import OUT, nms

Found = tuple[Tensor, Tensor, Tensor]  # boxes (B, N, 4), scores, labels
Sides = Sequence[int]  # height and width, may be symbolic


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
