"""RandAugment (arXiv:1909.13719) with mmcv's image operations."""

import random
from collections.abc import Callable

import numpy as np
from mmcv import image as ops
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy import ndarray

FILL = (104, 116, 124)  # BGR, about ImageNet's mean
HIGHEST = 10  # level of the strongest change


def sign(value: float) -> float:
    """The value or its negative."""
    return random.choice((value, -value))


def geometry() -> dict:
    """Fill and interpolation for images that are moved or rotated."""
    return {
        'border_value': FILL,
        'interpolation': random.choice(('bilinear', 'bicubic')),
    }


def blend(function: Callable) -> Callable:
    """An operation that changes a property of an image by up to 90 %."""
    return lambda image, m: function(image, 1 + sign(0.9 * m))


def shear(direction: str) -> Callable:
    """An operation that shears by up to 0.3."""
    return lambda image, m: ops.imshear(
        image, sign(0.3 * m), direction, **geometry()
    )


def translate(direction: str) -> Callable:
    """An operation that moves an image by up to 45 % of its side."""
    axis = int(direction == 'horizontal')
    return lambda image, m: ops.imtranslate(
        image, sign(0.45 * m) * image.shape[axis], direction, **geometry()
    )


def rotate(image: ndarray, m: float) -> ndarray:
    """Rotate by up to 30 degrees."""
    return ops.imrotate(image, sign(30 * m), **geometry())


def solarize_add(image: ndarray, m: float) -> ndarray:
    """Brighten pixels below 128 by up to 110."""
    brighter = np.clip(image.astype(int) + int(110 * m), 0, 255)
    return np.where(image < 128, brighter, image).astype(np.uint8)


# From an image and a strength m in 0..1 to an image; the set and ranges of
# timm's 'rand-...-inc1', where a higher strength always changes more.
OPERATIONS = (
    lambda image, m: ops.auto_contrast(image),
    lambda image, m: ops.imequalize(image),
    lambda image, m: ops.iminvert(image),
    rotate,
    lambda image, m: ops.posterize(image, 4 - int(4 * m)),
    lambda image, m: ops.solarize(image, 256 - int(256 * m)),
    solarize_add,
    blend(ops.adjust_color),
    blend(ops.adjust_contrast),
    blend(ops.adjust_brightness),
    blend(ops.adjust_sharpness),
    shear('horizontal'),
    shear('vertical'),
    translate('horizontal'),
    translate('vertical'),
)


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """Apply random operations, each with a chance of one half.

    The defaults are timm's 'rand-m9-mstd0.5-inc1'.

    Args:
        level: mean strength, 0 to 10.
        std: of the strength, drawn anew for each operation.
        count: operations that are drawn.
    """

    def __init__(
        self, level: float = 9, std: float = 0.5, count: int = 2
    ) -> None:
        self.level, self.std, self.count = level, std, count

    def transform(self, results: dict) -> dict:
        """img (H, W, 3) uint8 -> the same shape"""
        for operation in random.choices(OPERATIONS, k=self.count):
            level = random.gauss(self.level, self.std)
            strength = min(max(level, 0), HIGHEST) / HIGHEST
            if random.random() < 0.5:
                image = operation(results['img'], strength)
                results['img'] = image.astype(np.uint8, copy=False)
        return results
