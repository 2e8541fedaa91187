"""RetinaNet and Mask R-CNN by detectron2's rules, on its own names.

Written from detectron2's documentation and default config: what MPViT's
detectors mean by their weights. Only the backbone's maps and RoIAlign come
from elsewhere. Inference only, one image at a time.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import golden
import torch
from mmcv.ops import roi_align
from torch import Tensor
from torch.nn import functional as F

CLASSES = 80
RATIOS = (0.5, 1.0, 2.0)  # height / width
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB
SIZES = [[32 * 2 ** (i + k / 3) for k in range(3)] for i in range(5)]
TOPK, SCORE, OVERLAP = 1000, 0.05, 0.5

State = Mapping[str, Tensor]
HE = math.sqrt(2)  # keeps the variance through a ReLU

# Names and shapes; the factor is the spread of the random outputs.
# fmt: off
RETINANET = {
    'backbone.top_block.p6':  ((256, '5', 3, 3), 1),
    'backbone.top_block.p7':  ((256, 256, 3, 3), HE),
    **{f'backbone.fpn_lateral{n}': ((256, str(n), 1, 1), 1)
       for n in (3, 4, 5)},
    **{f'backbone.fpn_output{n}': ((256, 256, 3, 3), 1) for n in (3, 4, 5)},
    **{f'head.{name}_subnet.{n}': ((256, 256, 3, 3), HE)
       for name in ('cls', 'bbox') for n in (0, 2, 4, 6)},
    'head.cls_score':         ((9 * CLASSES, 256, 3, 3), 0.3),
    'head.bbox_pred':         ((9 * 4, 256, 3, 3), 0.3),
}
MASK_RCNN = {
    **{f'backbone.fpn_lateral{n}': ((256, str(n), 1, 1), 1)
       for n in (2, 3, 4, 5)},
    # rising, so that the best boxes do not all come from the first level
    **{f'backbone.fpn_output{n}': ((256, 256, 3, 3), 3 ** (n - 4))
       for n in (2, 3, 4, 5)},
    'proposal_generator.rpn_head.conv':              ((256, 256, 3, 3), HE),
    'proposal_generator.rpn_head.objectness_logits': ((3, 256, 1, 1), 1),
    'proposal_generator.rpn_head.anchor_deltas':     ((12, 256, 1, 1), 0.3),
    'roi_heads.box_head.fc1':             ((1024, 256 * 49), HE),
    'roi_heads.box_head.fc2':             ((1024, 1024), HE),
    'roi_heads.box_predictor.cls_score':  ((CLASSES + 1, 1024), 2),
    'roi_heads.box_predictor.bbox_pred':  ((CLASSES * 4, 1024), 1.5),
    **{f'roi_heads.mask_head.mask_fcn{n}': ((256, 256, 3, 3), HE)
       for n in (1, 2, 3, 4)},
    'roi_heads.mask_head.deconv':         ((256, 256, 2, 2), 2),
    'roi_heads.mask_head.predictor':      ((CLASSES, 256, 1, 1), 1),
}
# fmt: on


class Detections(NamedTuple):
    """Boxes (N, 4) in pixels, scores (N,), labels (N,), masks (N, H, W)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None


def heads(table: Mapping[str, tuple], channels: Sequence[int]) -> State:
    """Random weights of what stands outside the backbone.

    Args:
        table: RETINANET or MASK_RCNN.
        channels: of the backbone's maps of strides 4 to 32.
    """
    state = {}
    for name, (shape, spread) in table.items():
        shape = [channels[int(n) - 2] if type(n) is str else n for n in shape]
        weight = golden.weight(f'{name}.weight', tuple(shape))
        state[f'{name}.weight'] = spread * weight
        outputs = shape[1] if name.endswith('deconv') else shape[0]
        state[f'{name}.bias'] = golden.weight(f'{name}.bias', (outputs,))
    return state


def prepare(image: Tensor) -> Tensor:
    """BGR image (3, H, W) of bytes to RGB, normed, padded to 32 pixels."""
    x = image.flip(0).float()
    x = x - torch.tensor(MEAN)[:, None, None]
    x = x / torch.tensor(STD)[:, None, None]
    height, width = x.shape[1:]
    return F.pad(x, (0, -width % 32, 0, -height % 32))[None]


def conv(state: State, name: str, x: Tensor, **options: int) -> Tensor:
    """The convolution of that name."""
    weight, bias = state[f'{name}.weight'], state[f'{name}.bias']
    return F.conv2d(x, weight, bias, **options)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    """The linear layer of that name."""
    return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])


def fpn(state: State, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Feature pyramid over maps by level n, of stride 2 ** n."""
    before, out = None, {}
    for n in sorted(maps, reverse=True):
        x = conv(state, f'backbone.fpn_lateral{n}', maps[n])
        if before is not None:
            x = x + F.interpolate(before, scale_factor=2, mode='nearest')
        before = x
        out[n] = conv(state, f'backbone.fpn_output{n}', x, padding=1)
    return out


def anchors(x: Tensor, stride: int, sizes: Sequence[float]) -> Tensor:
    """(H * W * A, 4); the ratios of a size stand together; offset 0."""
    cells = []
    for size in sizes:
        for ratio in RATIOS:
            w = size / math.sqrt(ratio)
            h = w * ratio
            cells.append([-w / 2, -h / 2, w / 2, h / 2])
    rows, columns = (torch.arange(n) * stride for n in x.shape[2:])
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shifts + torch.tensor(cells)).reshape(-1, 4)


def per_anchor(x: Tensor, values: int) -> Tensor:
    """(1, A * K, H, W) -> (H * W * A, K)"""
    return x[0].unflatten(0, (-1, values)).permute(2, 3, 0, 1).flatten(0, 2)


def apply_deltas(
    boxes: Tensor, deltas: Tensor, weights: Sequence[float] = (1, 1, 1, 1)
) -> Tensor:
    """Move and scale boxes (..., 4) by deltas (..., 4)."""
    dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(-1)
    dw, dh = (d.clamp(max=math.log(1000 / 16)) for d in (dw, dh))
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + size / 2 + torch.stack([dx, dy], -1) * size
    half = torch.stack([dw, dh], -1).exp() * size / 2
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes cut at the border of an image of (H, W) pixels."""
    height, width = size
    limit = torch.tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def cut(found: Detections, size: tuple[int, int]) -> Detections:
    """Boxes cut at the border; without those of which nothing is left."""
    boxes = clip(found.boxes, size)
    real = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return Detections(boxes[real], found.scores[real], found.labels[real])


def nms(boxes: Tensor, scores: Tensor, groups: Tensor, limit: float) -> Tensor:
    """Indices that stay, best first; only boxes of one group compete."""
    order = scores.sort(descending=True, stable=True).indices
    boxes, groups = boxes[order], groups[order]
    alive, kept = torch.ones(len(boxes), dtype=torch.bool), []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        kept.append(i)
        low = torch.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        high = torch.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        overlap = shared / (area[i] + area[i + 1 :] - shared)
        alive[i + 1 :] &= (overlap <= limit) | (groups[i + 1 :] != groups[i])
    return order[kept]


def retinanet(
    state: State, maps: Sequence[Tensor], size: tuple[int, int], most: int
) -> Detections:
    """At most so many detections from the maps of strides 4 to 32.

    Boxes are cut at the image's border after the suppression.
    """
    levels = fpn(state, {n: maps[n - 2] for n in (3, 4, 5)})
    down = {'stride': 2, 'padding': 1}
    levels[6] = conv(state, 'backbone.top_block.p6', maps[3], **down)
    levels[7] = conv(state, 'backbone.top_block.p7', levels[6].relu(), **down)
    found = []
    for n in range(3, 8):
        logits, deltas = (
            subnet(state, *names, levels[n])
            for names in (('cls', 'cls_score'), ('bbox', 'bbox_pred'))
        )
        scores = per_anchor(logits, CLASSES).sigmoid().flatten()
        scores, index = scores.topk(min(TOPK, len(scores)))
        index = index[scores > SCORE]
        where, labels = index // CLASSES, index % CLASSES
        boxes = apply_deltas(
            anchors(levels[n], 2**n, SIZES[n - 3])[where],
            per_anchor(deltas, 4)[where],
        )
        found.append((boxes, scores[: len(index)], labels))
    boxes, scores, labels = (
        torch.cat(part) for part in zip(*found, strict=True)
    )
    keep = nms(boxes, scores, labels, OVERLAP)[:most]
    return cut(Detections(boxes[keep], scores[keep], labels[keep]), size)


def subnet(state: State, name: str, last: str, x: Tensor) -> Tensor:
    """RetinaNet's head of that name."""
    for n in (0, 2, 4, 6):
        x = conv(state, f'head.{name}_subnet.{n}', x, padding=1).relu()
    return conv(state, f'head.{last}', x, padding=1)


def mask_rcnn(
    state: State, maps: Sequence[Tensor], size: tuple[int, int], most: int
) -> Detections:
    """At most so many detections from the maps of strides 4 to 32."""
    levels = fpn(state, dict(enumerate(maps, 2)))
    levels[6] = F.max_pool2d(levels[5], 1, 2)
    boxes = proposals(state, levels, size)
    x = pool(levels, boxes, 7).flatten(1)
    for name in ('fc1', 'fc2'):
        x = linear(state, f'roi_heads.box_head.{name}', x).relu()
    predictor = 'roi_heads.box_predictor.'
    scores = linear(state, predictor + 'cls_score', x).softmax(1)
    deltas = linear(state, predictor + 'bbox_pred', x).unflatten(1, (-1, 4))
    boxes = apply_deltas(boxes[:, None], deltas, (10, 10, 5, 5))
    where, labels = (scores[:, :-1] > SCORE).nonzero(as_tuple=True)
    boxes, scores = clip(boxes[where, labels], size), scores[where, labels]
    keep = nms(boxes, scores, labels, OVERLAP)[:most]
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    return Detections(
        boxes, scores, labels, masks(state, levels, boxes, labels, size)
    )


def proposals(
    state: State, levels: Mapping[int, Tensor], size: tuple[int, int]
) -> Tensor:
    """Boxes of the region proposal network, (N, 4)."""
    found = []
    name = 'proposal_generator.rpn_head.'
    for n in range(2, 7):
        x = conv(state, name + 'conv', levels[n], padding=1).relu()
        scores = conv(state, name + 'objectness_logits', x)
        scores = per_anchor(scores, 1).flatten()
        scores, where = scores.topk(min(TOPK, len(scores)))
        deltas = per_anchor(conv(state, name + 'anchor_deltas', x), 4)
        boxes = anchors(levels[n], 2**n, [8 * 2**n])
        boxes = clip(apply_deltas(boxes[where], deltas[where]), size)
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)
        level = torch.full((int(real.sum()),), n)
        found.append((boxes[real], scores[real], level))
    boxes, scores, level = (
        torch.cat(part) for part in zip(*found, strict=True)
    )
    return boxes[nms(boxes, scores, level, 0.7)[:TOPK]]


def levels_of(boxes: Tensor) -> Tensor:
    """The level that each box is pooled from, a float: 224 pixels are 4."""
    side = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    return (4 + torch.log2(side / 224 + 1e-8)).floor().clamp(2, 5)


def pool(levels: Mapping[int, Tensor], boxes: Tensor, size: int) -> Tensor:
    """RoIAlign of each box from its level, (N, 256, size, size)."""
    level = levels_of(boxes)
    out = boxes.new_empty(len(boxes), 256, size, size)
    for n in range(2, 6):
        here = level == n
        rois = F.pad(boxes[here], (1, 0))  # in image 0
        out[here] = roi_align(levels[n], rois, size, 2**-n, 0, 'avg', True)
    return out


def masks(
    state: State,
    levels: Mapping[int, Tensor],
    boxes: Tensor,
    labels: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Masks (N, H, W) of the whole image, from 28 x 28 cells of each box."""
    name = 'roi_heads.mask_head.'
    x = pool(levels, boxes, 14)
    for n in (1, 2, 3, 4):
        x = conv(state, f'{name}mask_fcn{n}', x, padding=1).relu()
    weight, bias = state[name + 'deconv.weight'], state[name + 'deconv.bias']
    x = F.conv_transpose2d(x, weight, bias, stride=2).relu()
    x = conv(state, name + 'predictor', x)[range(len(x)), labels].sigmoid()
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    height, width = size
    axes = []
    for axis, count in enumerate((width, height)):
        centres = torch.arange(count) + 0.5
        span = (high - low)[..., axis]
        axes.append((centres - low[..., axis]) / span * 2 - 1)
    gx = axes[0][:, None, :].expand(-1, height, -1)
    gy = axes[1][:, :, None].expand(-1, -1, width)
    grid = torch.stack([gx, gy], -1)
    return F.grid_sample(x[:, None], grid, align_corners=False)[:, 0] >= 0.5
