"""Mix the images of a batch with each other and erase parts of them."""

import math
import random
from typing import Any

import torch
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

ERASED = (0.02, 1 / 3)  # range of the erased share of an image
ASPECT = (0.3, 1 / 0.3)
TRIES = 10


@MODELS.register_module()
class LabelledPreprocessor(ImgDataPreprocessor):
    """Normalised images with their labels.

    Shape:
        inputs (B, C, H, W), labels (B,) -> the same
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Images (B, C, H, W) of bytes -> normalised, with their labels."""
        data = super().forward(data, training)
        return {'inputs': data['inputs'], 'labels': data['labels']}


@MODELS.register_module()
class MixingPreprocessor(LabelledPreprocessor):
    """Normalised images; in training erased and mixed, with mixed labels.

    Args:
        num_classes: of the labels.
        mixup: alpha of mixup's Beta distribution (arXiv:1710.09412).
        cutmix: alpha of CutMix's (arXiv:1905.04899); each batch has one of
            the two, at random.
        erase: chance of an image to lose a rectangle to noise
            (arXiv:1708.04896).
        kwargs: see mmengine's ImgDataPreprocessor.

    Shape:
        inputs (B, C, H, W), labels (B,) -> the same in evaluation;
        in training labels (B, num_classes), shares that sum to 1
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        erase: float = 0.25,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes, self.erase = num_classes, erase
        self.mixup, self.cutmix = mixup, cutmix

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalised images; mixed in training, labels (B, num_classes)."""
        data = super().forward(data, training)
        if not training:
            return data
        images = data['inputs']
        for image in images:
            if random.random() < self.erase:
                erase(image)
        labels = F.one_hot(data['labels'], self.num_classes).float()
        mix, alpha = random.choice(
            ((mixup, self.mixup), (cutmix, self.cutmix))
        )
        images, share = mix(images, random.betavariate(alpha, alpha))
        labels = share * labels + (1 - share) * labels.flip(0)
        return {'inputs': images, 'labels': labels}


def mixup(images: Tensor, share: float) -> tuple[Tensor, float]:
    """Each image blended with the one at the other end of the batch."""
    return share * images + (1 - share) * images.flip(0), share


def cutmix(images: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of each image from the one at the other end of the batch.

    Returns:
        the images, and what is left of each as a share of its pixels
    """
    height, width = images.shape[2:]
    side = math.sqrt(1 - share)
    h, w = int(height * side), int(width * side)
    y, x = random.randrange(height), random.randrange(width)
    top, bottom = max(y - h // 2, 0), min(y + h // 2, height)
    left, right = max(x - w // 2, 0), min(x + w // 2, width)
    mixed = images.clone()
    part = (..., slice(top, bottom), slice(left, right))
    mixed[part] = images.flip(0)[part]
    cut = (bottom - top) * (right - left)
    return mixed, 1 - cut / (height * width)


def erase(image: Tensor) -> None:
    """Fill a random rectangle of an image (C, H, W) with normal noise."""
    height, width = image.shape[1:]
    for _ in range(TRIES):
        area = random.uniform(*ERASED) * height * width
        aspect = math.exp(random.uniform(*map(math.log, ASPECT)))
        h = round(math.sqrt(area * aspect))
        w = round(math.sqrt(area / aspect))
        if h < height and w < width:
            y = random.randint(0, height - h)
            x = random.randint(0, width - w)
            part = image[:, y : y + h, x : x + w]
            part.copy_(torch.randn_like(part))
            return
