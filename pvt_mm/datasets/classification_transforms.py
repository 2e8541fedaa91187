"""Transforms of image classification: crop, resize, pack."""

import math
import random

import numpy as np
import torch
from mmcv.image import imcrop, imresize
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy import ndarray

TRIES = 10


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """A random part of the image, resized to a square (bicubic).

    The training augmentation of GoogLeNet (arXiv:1409.4842, section 6).

    Args:
        size: side of the square in pixels.
        area: range of the part's share of the image.
        aspect: range of width / height, drawn on a logarithmic scale.
    """

    def __init__(
        self,
        size: int,
        area: tuple[float, float] = (0.08, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size, self.area, self.aspect = size, area, aspect

    def transform(self, results: dict) -> dict:
        """img (H, W, 3) -> (size, size, 3)"""
        image = results['img']
        x, y, w, h = self.part(*image.shape[:2])
        image = image[y : y + h, x : x + w]
        results['img'] = resize(image, self.size, self.size)
        results['img_shape'] = (self.size, self.size)
        return results

    def part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """x, y, width and height of a part, in pixels."""
        low, high = map(math.log, self.aspect)
        for _ in range(TRIES):
            area = random.uniform(*self.area) * height * width
            aspect = math.exp(random.uniform(low, high))
            w = round(math.sqrt(area * aspect))
            h = round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                x, y = (
                    random.randint(0, width - w),
                    random.randint(0, height - h),
                )
                return x, y, w, h
        # no part fits: the middle, as near to the wanted aspect as it can be
        w = min(width, round(height * self.aspect[1]))
        h = min(height, round(width / self.aspect[0]))
        return (width - w) // 2, (height - h) // 2, w, h


@TRANSFORMS.register_module()
class ResizeShort(BaseTransform):
    """The whole image with a given short side (bicubic), then its middle.

    Args:
        edge: short side in pixels.
        crop: side of the square cut from the middle.
    """

    def __init__(self, edge: int, crop: int) -> None:
        self.edge, self.crop = edge, crop

    def transform(self, results: dict) -> dict:
        """img (H, W, 3) -> (crop, crop, 3)"""
        image = results['img']
        height, width = image.shape[:2]
        scale = self.edge / min(height, width)
        # the long side rounds down, as in torchvision
        size = [
            max(self.edge, int(side * scale + 1e-6))
            for side in (width, height)
        ]
        image = resize(image, *size)
        left, top = (round((side - self.crop) / 2) for side in size)
        box = (left, top, left + self.crop - 1, top + self.crop - 1)
        results['img'] = imcrop(image, np.array(box))
        results['img_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class PackLabelled(BaseTransform):
    """Give the image and its label to the classifier."""

    def transform(self, results: dict) -> dict:
        """img (H, W, C) and gt_label -> inputs (C, H, W) and labels"""
        image = results['img'].transpose(2, 0, 1).copy()
        return {
            'inputs': torch.from_numpy(image),
            'labels': results['gt_label'],
        }


def resize(image: ndarray, width: int, height: int) -> ndarray:
    """Bicubic, with Pillow: it smooths when it shrinks, OpenCV does not."""
    return imresize(
        image, (width, height), interpolation='bicubic', backend='pillow'
    )
