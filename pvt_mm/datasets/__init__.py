"""Data sets, transforms and samplers that the OpenMMLab libraries lack.

``custom_imports = dict(imports=['pvt_mm.datasets'])`` registers what image
classification needs in mmengine's root registry. mmpretrain 1.2 has all of
it too, but cannot be imported without torchvision.
"""

from .classification_datasets import Cifar10, ImageFolder
from .classification_transforms import (
    PackLabelled,
    RandomResizedCrop,
    ResizeShort,
)
from .rand_augment import RandAugment
from .repeated_aug_sampler import RepeatedAugSampler

__all__ = [
    'Cifar10',
    'ImageFolder',
    'PackLabelled',
    'RandAugment',
    'RandomResizedCrop',
    'RepeatedAugSampler',
    'ResizeShort',
]
