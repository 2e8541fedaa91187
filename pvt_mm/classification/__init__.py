"""What image classification needs beside a model: data, mixing, a score.

``custom_imports = dict(imports=['pvt_mm.classification'])`` registers it in
mmengine's root registry. mmpretrain 1.2 has all of this too, but cannot be
imported without torchvision.
"""

from .accuracy import TopAccuracy
from .datasets import Cifar10, ImageFolder
from .mixing import LabelledPreprocessor, MixingPreprocessor
from .rand_augment import RandAugment
from .sampler import RepeatedAugSampler
from .transforms import PackLabelled, RandomResizedCrop, ResizeShort

__all__ = [
    'Cifar10',
    'ImageFolder',
    'LabelledPreprocessor',
    'MixingPreprocessor',
    'PackLabelled',
    'RandAugment',
    'RandomResizedCrop',
    'RepeatedAugSampler',
    'ResizeShort',
    'TopAccuracy',
]
