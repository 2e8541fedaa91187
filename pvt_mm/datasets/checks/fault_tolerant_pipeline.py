"""Skip samples that cannot be used in training, and stop at them elsewhere.

In training the data set draws another sample, which takes the names of the
skipped ones to SkippedSamplesHook. In an evaluation a score without a sample
would be wrong. Only what is wrong with the data is handled: a file that cannot
be read or decoded, and annotations that contradict their image. Any other
exception of a transform is a bug, and passes.
"""

import traceback
from collections.abc import Iterator, Mapping
from logging import WARNING
from typing import Any

import cv2
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from ...errors import SampleError
from .files import by, of_size, orientation, problem

IN_A_ROW = 10  # then the disk is gone, or the pipeline does not fit the data


class FaultTolerantPipeline(Compose):
    """The transforms of a pipeline, and what to do about a bad sample.

    Args:
        pipeline: the pipeline as it was built.
        skip: return None for a bad sample, or stop.
        classes: how many there are, None if the data set does not know.
        ignore: the value of label maps that means no class.
    """

    def __init__(
        self,
        pipeline: Compose,
        *,
        skip: bool,
        classes: int | None,
        ignore: int,
    ) -> None:
        self.transforms = pipeline.transforms
        self.skip, self.classes, self.ignore = skip, classes, ignore
        self.skipped: list[str] = []

    def __call__(self, data: dict) -> dict | None:
        """What a data set knows of a sample -> what the network needs.

        Raises:
            SampleError: the sample cannot be used and must not be skipped.
        """
        sample, fault = self.attempt(data)
        if fault:
            self.refuse(fault)
        elif sample is not None and self.skipped:
            self.report(sample)
        return sample

    def attempt(self, data: dict) -> tuple[dict | None, str]:
        """The sample or None, and what is wrong with the data or ''."""
        info = {key: data.get(key) for key in FILES + SIZE}
        try:
            sample = super().__call__(data)
            if sample is not None:
                self.check(sample, info)
        except Exception as error:
            if not is_data_error(info, error):
                raise
            return None, blame(info, error)
        return sample, ''

    def check(self, sample: Mapping, info: Mapping) -> None:
        """Stop at sizes and labels that do not fit the image."""
        truth = sample.get('data_samples')
        if not isinstance(truth, BaseDataElement):
            return
        read = tuple(truth.get('ori_shape', ()))
        written = tuple(info[key] for key in SIZE)
        if read and None not in written and read != written:
            raise MismatchError(turned(info['img_path'], read, written))
        if 'gt_sem_seg' not in truth:
            return
        labels = truth.gt_sem_seg.data.squeeze(0)
        # a label map to test with is not resized with its image
        wanted = tuple(sample['inputs'].shape[-2:]) if self.skip else read
        if wanted and tuple(labels.shape) != wanted:
            raise MismatchError(
                f'{info["seg_map_path"]} has labels of size '
                f'{by(labels.shape)} for an image of {by(wanted)}'
            )
        beyond = labels[labels != self.ignore]
        if self.classes and beyond.numel() and beyond.max() >= self.classes:
            raise MismatchError(
                f'{info["seg_map_path"]} has the label {int(beyond.max())}, '
                f'but there are {self.classes} classes (0 to '
                f'{self.classes - 1}, and {self.ignore} for none)'
            )

    def refuse(self, what: str) -> None:
        """Skip a sample, or stop."""
        if not self.skip:
            raise SampleError(
                f'{what}: a score without it would be wrong, so mend it or '
                'take it out of the data set'
            )
        self.skipped.append(what)
        if len(self.skipped) >= IN_A_ROW:
            raise SampleError(
                f'{IN_A_ROW} samples in a row could not be used, the last: '
                f'{what}'
            )

    def report(self, sample: Mapping) -> None:
        """Let a good sample take along the names of those before it."""
        truth = sample.get('data_samples')
        if isinstance(truth, BaseDataElement):
            truth.set_metainfo({'skipped': tuple(self.skipped)})
        else:
            for what in self.skipped:
                print_log(f'Skipped: {what}', 'current', WARNING)
        self.skipped = []


class MismatchError(ValueError):
    """A sample that could be read, but contradicts itself."""


# Modules whose transforms read images and annotations.
LOADING = (
    'mmcv.transforms.loading',
    'mmdet.datasets.transforms.loading',
    'mmseg.datasets.transforms.loading',
)
LIBRARIES = ('mmcv.', 'mmdet.', 'mmseg.', 'pvt_mm.')
# What a data set may know of a sample.
FILES = ('img_path', 'seg_map_path')
SIZE = ('height', 'width')


def make_fault_tolerant(dataset: Any, *, skip: bool) -> None:
    """Replace the pipeline of each data set, also inside wrappers.

    Args:
        dataset: a built data set.
        skip: whether samples that cannot be used are skipped.
    """
    for part in inner(dataset):
        pipeline = getattr(part, 'pipeline', None)
        if isinstance(pipeline, Compose):
            classes = (part.metainfo or {}).get('classes')
            part.pipeline = FaultTolerantPipeline(
                pipeline,
                skip=skip,
                classes=len(classes) if classes else None,
                ignore=getattr(part, 'ignore_index', 255),
            )


def inner(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers such as RepeatDataset."""
    parts = vars(dataset)
    for name in ('datasets', 'dataset', '_dataset'):
        if name in parts:
            found = parts[name]
            for part in found if isinstance(found, list) else [found]:
                yield from inner(part)
            return
    yield dataset


def is_data_error(info: Mapping, error: Exception) -> bool:
    """Whether the data is to blame for an exception of a pipeline.

    That is a file that cannot be read or decoded, an annotation that a
    loading transform of the libraries cannot read, and an image that OpenCV
    refuses inside a transform of the libraries.
    """
    if isinstance(error, MismatchError | OSError):
        return True
    modules = [
        frame.f_globals.get('__name__', '')
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    if any(module in LOADING for module in modules):
        return True
    transforms = [m for m in modules if '.transforms.' in m]
    if isinstance(error, cv2.error) and transforms:
        return transforms[-1].startswith(LIBRARIES)
    return any(problem(info[key]) for key in FILES if info[key])


def blame(info: Mapping, error: Exception) -> str:
    """Which file of a sample cannot be used, and why: one sentence."""
    if isinstance(error, MismatchError):
        return str(error)
    for path in filter(None, (info[key] for key in FILES)):
        if found := problem(path):
            return f'{path} {found}'
    # cv2's errors say in ``err`` what was wrong, without its source's path
    what = getattr(error, 'err', None) or str(error).strip().split('\n')[0]
    return (
        f'{info["img_path"]}{of_size(info["img_path"])} fails in the pipeline '
        f'({type(error).__name__}: {what})'
    )


def turned(path: str, read: tuple, written: tuple) -> str:
    """How the size of an image differs from what its annotation says."""
    said = f'{path} is {by(read)}, but its annotation says {by(written)}'
    turn = orientation(path)
    if turn == 1 or read != written[::-1]:
        return said
    return (
        f'{said}: its EXIF orientation {turn} turns it; store it turned, or '
        "read it with LoadImageFromFile(color_type='color_ignore_orientation')"
    )
