"""Compare the objects that a detector finds in mmdet and in a file."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..datasets.synthetic.scene import draw_scene
from ..engine.onnx_model import fill_objects

# What counts as equal: boxes in pixels, scores, 1 - IoU of masks.
LIMITS = (0.05, 1e-4, 0.01)
SCORE = 0.301  # objects above it are compared, and the best ones
BEST = 20


class Apart(NamedTuple):
    """The largest differences of objects.

    Attributes:
        objects: that were compared.
        boxes: in pixels; infinite if an object is on one side only.
        scores: between 0 and 1.
        masks: 1 - intersection over union.
    """

    objects: int = 0
    boxes: float = 0.0
    scores: float = 0.0
    masks: float = 0.0

    def join(self, other: 'Apart') -> 'Apart':
        """The differences of both."""
        return Apart(
            self.objects + other.objects,
            *map(max, self[1:], other[1:]),
        )

    def equal(self) -> bool:
        """Whether all are within LIMITS."""
        return all(a <= b for a, b in zip(self[1:], LIMITS, strict=True))

    def __str__(self) -> str:
        return (
            f'{self.objects} objects: boxes within {self.boxes:.1e} pixels, '
            f'scores {self.scores:.1e}, 1 - IoU of masks {self.masks:.1e}'
        )


def difference(
    ours: Sequence[InstanceData],
    theirs: Sequence[InstanceData],
    best: int = 0,
) -> Apart:
    """How far each object is from its partner on the other side.

    Args:
        ours: the objects of each image.
        theirs: those of the other model.
        best: objects of an image to compare whatever their score.
    """
    total = Apart()
    for one, other in zip(ours, theirs, strict=True):
        total = total.join(partners(one, other, best))
        total = total.join(partners(other, one, best))
    return total


def partners(one: InstanceData, other: InstanceData, best: int) -> Apart:
    """The same for the objects of one side of one image."""
    total = Apart()
    order = one.scores.argsort(descending=True)
    for rank, i in enumerate(order.tolist()):
        if one.scores[i] <= SCORE and rank >= best:
            break
        (same,) = (other.labels == one.labels[i]).nonzero(as_tuple=True)
        if not len(same):
            return total.join(Apart(1, np.inf))
        far = (other.bboxes[same] - one.bboxes[i]).abs().amax(1)
        score = (other.scores[same] - one.scores[i]).abs()
        # two queries may have nearly the same box
        nearest = (far / LIMITS[0] + score / LIMITS[1]).argmin()
        masks = 0.0
        if 'masks' in one:
            a, b = one.masks[i], other.masks[same[nearest]]
            masks = 1 - float((a & b).sum() / (a | b).sum().clamp(min=1))
            masks = 0.0 if not (a | b).any() else masks
        total = total.join(
            Apart(1, float(far[nearest]), float(score[nearest]), masks)
        )
    return total


def draw(batch: int, height: int, width: int) -> Tensor:
    """Images of drawn shapes: BGR, uint8 (B, 3, height, width)"""
    images = []
    for seed in range(batch):
        scene = draw_scene(np.random.default_rng(seed), 160, shapes=4)
        images.append(cv2.resize(scene.image, (width, height)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def detect(whole: nn.Module, images: Tensor) -> list[InstanceData]:
    """What mmdet finds: BGR, uint8 (B, 3, H, W) -> objects of each"""
    samples = samples_of(images)
    with torch.no_grad():
        found = whole.test_step(
            dict(inputs=list(images), data_samples=samples)
        )
    return [sample.pred_instances for sample in found]


def objects_of(
    results: Sequence[Tensor], images: Tensor, about: Mapping[str, Any]
) -> list[InstanceData]:
    """The results of a file -> objects of each image.

    Args:
        results: boxes, scores, labels, and masks if it has them.
        images: (B, 3, H, W)
        about: metadata of the file.
    """
    samples = samples_of(images)
    names = ('boxes', 'scores', 'labels', 'masks')
    for i, sample in enumerate(samples):
        found = {
            name: x[i].numpy() for name, x in zip(names, results, strict=False)
        }
        fill_objects(sample, found, about)
    return [sample.pred_instances for sample in samples]


def samples_of(images: Tensor) -> list[Any]:
    """A data sample for each image of a batch, which was not resized."""
    from mmdet.structures import DetDataSample

    shape = tuple(images.shape[2:])
    meta = dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
    return [DetDataSample(metainfo=dict(meta)) for _ in images]
