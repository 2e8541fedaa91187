"""Skip samples that cannot be used in training, and stop at them elsewhere.

In training the data set draws another sample, which takes the names of the
skipped ones to SkippedSamplesHook. In an evaluation a score without a sample
would be wrong. Only what is wrong with the data is handled: a file that cannot
be read or decoded, and annotations that contradict their image. Any other
exception of a transform is a bug, and passes.
"""

import traceback
from collections.abc import Iterable, Iterator, Mapping
from logging import WARNING
from typing import Any

import cv2
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from ...errors import SampleError
from .files import by, of_size, orientation, problem

IN_A_ROW = 10  # then the disk is gone, or the pipeline does not fit the data
# A file that a data set may name for a sample -> the key it is loaded under.
FILES = {'img_path': 'img', 'seg_map_path': 'gt_seg_map'}
SIZE = ('height', 'width')
LIBRARIES = ('mmcv.', 'mmdet.', 'mmseg.', 'pvt_mm.')


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
        """Data of a sample -> input of the network; None if it is skipped.

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
        """Transform the data of a sample -> (sample or None, fault or '')."""
        info = {key: data.get(key) for key in (*FILES, *SIZE)}
        try:
            sample = super().__call__(data)
            if sample is not None:
                self.check(sample, info)
        except Exception as error:
            unread = [info[k] for k in FILES if FILES[k] not in data]
            if not is_data_error(error, filter(None, unread)):
                raise
            return None, blame(info, error)
        return sample, ''

    def check(self, sample: Mapping, info: Mapping) -> None:
        """Compare a sample with its annotation and the number of classes.

        Raises:
            MismatchError: its size or its labels contradict them.
        """
        truth = sample.get('data_samples')
        if not isinstance(truth, BaseDataElement):
            return
        read = tuple(truth.get('ori_shape', ()))
        written = tuple(info[key] for key in SIZE)
        if read and None not in written and read != written:
            raise MismatchError(other_size(info['img_path'], read, written))
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
        """Note a sample that is skipped, or stop.

        Raises:
            SampleError: it must not be skipped, or too many were in a row.
        """
        if not self.skip:
            raise SampleError(
                f'{what}: a score without it would be wrong, so fix it or '
                'take it out of the data set'
            )
        self.skipped.append(what)
        if len(self.skipped) >= IN_A_ROW:
            raise SampleError(
                f'{IN_A_ROW} samples in a row could not be used, the last: '
                f'{what}'
            )

    def report(self, sample: Mapping) -> None:
        """Add the faults of skipped samples to the metainfo of this one."""
        truth = sample.get('data_samples')
        if isinstance(truth, BaseDataElement):
            truth.set_metainfo({'skipped': tuple(self.skipped)})
        else:
            for what in self.skipped:
                print_log(f'Skipped: {what}', 'current', WARNING)
        self.skipped = []


class MismatchError(ValueError):
    """A sample that could be read, but contradicts its annotation."""


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


def is_data_error(error: Exception, unread: Iterable[str]) -> bool:
    """Whether the data caused an exception of a pipeline, and no bug did.

    So it is if a file cannot be read; if a loading transform of the
    libraries cannot decode a file or an annotation; if OpenCV refuses the
    image in another one of their transforms; and if the exception came
    before a file was loaded that nobody can decode.

    Args:
        error: with the traceback from inside the pipeline.
        unread: image and label map that were not loaded yet.
    """
    if isinstance(error, MismatchError | OSError):
        return True
    code = ''  # module of the innermost code that belongs to a transform
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(frame.f_locals.get('self'), BaseTransform):
            code = frame.f_globals['__name__']
    if code.startswith(LIBRARIES) and (
        code.endswith('.transforms.loading') or isinstance(error, cv2.error)
    ):
        return True
    return any(map(problem, unread))


def blame(info: Mapping, error: Exception) -> str:
    """Which file of a sample cannot be used, and why: one sentence.

    Args:
        info: 'img_path' and 'seg_map_path', or None for each.
        error: what was raised for this sample.
    """
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


def other_size(path: str, read: tuple, written: tuple) -> str:
    """How the size of an image differs from that in its annotation.

    Args:
        path: the image.
        read: its (H, W).
        written: (H, W) of the annotation.
    """
    said = f'{path} is {by(read)}, but its annotation says {by(written)}'
    exif = orientation(path)
    if exif == 1 or read != written[::-1]:
        return said
    return (
        f'{said}: its EXIF orientation {exif} rotates it; store it rotated, '
        'or read it with '
        "LoadImageFromFile(color_type='color_ignore_orientation')"
    )
