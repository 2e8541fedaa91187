"""Skip samples that cannot be used in training, and stop at them elsewhere.

In training the data set draws another sample, whose metainfo lists the
skipped ones for SkippedSamplesHook. In an evaluation a score without a sample
would be wrong. Only what is wrong with the data is handled: a file that cannot
be read or decoded, and annotations that contradict their image. Any other
exception of a transform is a bug, and passes.
"""

import traceback
from collections.abc import Iterator, Mapping
from logging import WARNING
from typing import Any

import cv2
from mmcv.transforms import BaseTransform
from mmcv.transforms import Compose as TransformCompose
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from ...compat import INNER_DATASETS
from ...config.build_errors import first_line
from ...errors import SampleError
from .files import by, header, of_size, problem

IN_A_ROW = 10  # then the disk is gone, or the pipeline does not fit the data
# A file that a data set may name for a sample -> the key it is loaded under.
FILES = {'img_path': 'img', 'seg_map_path': 'gt_seg_map'}
SIZE = ('height', 'width')
LIBRARIES = ('mmcv.', 'mmdet.', 'mmseg.', 'pvt_mm.')


class FaultTolerantPipeline(Compose):
    """A pipeline that skips a bad sample, or stops at it with one sentence.

    Args:
        pipeline: the pipeline as it was built.
        skip: return None for a bad sample; else raise.
        classes: how many there are, None if the data set does not know.
        ignore: the value of label maps that means no class.

    Attributes:
        ignore: all values that mean no class.
        ignored_by: the keys of the config that say so.
    """

    def __init__(
        self,
        pipeline: Compose | TransformCompose,
        *,
        skip: bool,
        classes: int | None,
        ignore: int,
    ) -> None:
        self.transforms = pipeline.transforms
        self.skip, self.classes = skip, classes
        self.ignore = {ignore}
        self.ignored_by = f'ignore_index={ignore}'
        self.skipped: list[str] = []  # that no sample has been told of
        self.row = 0

    def __call__(self, data: dict) -> dict | None:
        """Data of a sample -> input of the network; None if it is skipped.

        Raises:
            SampleError: the sample cannot be used and must not be skipped.
        """
        try:
            sample = self.attempt(data)
        except SampleError as error:
            self.refuse(error)
            return None
        if sample is not None:
            self.row = 0
            if self.skipped and 'inputs' in sample:
                self.report(sample)
        return sample

    def attempt(self, data: dict) -> dict | None:
        """Data of a sample -> input of the network, or None.

        Raises:
            SampleError: the sample cannot be used; its cause is what the
                transform raised.
        """
        info = {key: data.get(key) for key in (*FILES, *SIZE)}
        try:
            sample = super().__call__(data)
            if sample is not None:
                self.check(sample, info)
        except Exception as error:
            if not is_data_error(error, info, data):
                raise
            raise SampleError(blame(info, error)) from error
        return sample

    def check(self, sample: Mapping, info: Mapping) -> None:
        """Compare a sample with its annotation and the number of classes.

        Raises:
            MismatchError: its size or its labels contradict them.
        """
        written = tuple(info[key] for key in SIZE)
        for truth in samples_in(sample.get('data_samples')):
            read = tuple(truth.get('ori_shape', ()))
            if read and None not in written and read != written:
                raise MismatchError(
                    other_size(info['img_path'], read, written)
                )
            if 'gt_sem_seg' in truth:
                self.check_labels(sample, truth, info)

    def check_labels(
        self, sample: Mapping, truth: BaseDataElement, info: Mapping
    ) -> None:
        """Compare a label map with its image and the number of classes.

        Raises:
            MismatchError: it contradicts them.
        """
        labels = truth.gt_sem_seg.data.squeeze(0)
        # a label map to test with is not resized with its image
        wanted = tuple(
            sample['inputs'].shape[-2:]
            if self.skip
            else truth.get('ori_shape', ())
        )
        if labels.ndim > 2:
            raise MismatchError(
                f'{info["seg_map_path"]} has {labels.shape[-1]} channels: '
                'save the numbers of the classes as a grey or palette image'
            )
        if wanted and tuple(labels.shape) != wanted:
            raise MismatchError(
                f'{info["seg_map_path"]} has labels of size '
                f'{by(labels.shape)} for an image of {by(wanted)}'
            )
        beyond = {*labels.unique().tolist()} - self.ignore
        if self.classes and max(beyond, default=0) >= self.classes:
            raise MismatchError(
                f'{info["seg_map_path"]} has the label {max(beyond)} after '
                f'its transforms, but there are {self.classes} classes (0 to '
                f'{self.classes - 1}) and {self.ignored_by}'
            )

    def refuse(self, error: SampleError) -> None:
        """Note a sample that is skipped, or stop.

        Raises:
            SampleError: it must not be skipped, or too many were in a row;
                it has the cause of the error that is given.
        """
        if not self.skip:
            raise SampleError(
                f'{error}: a score without it would be wrong, so fix it or '
                'take it out of the data set'
            ) from error.__cause__
        self.skipped.append(str(error))
        self.row += 1
        if self.row >= IN_A_ROW:
            raise SampleError(
                f'{IN_A_ROW} samples in a row could not be used, the last: '
                f'{error}'
            ) from error.__cause__

    def report(self, sample: Mapping) -> None:
        """Add the faults of skipped samples to the metainfo of this one."""
        truth = next(samples_in(sample.get('data_samples')), None)
        if truth is not None:
            before = truth.get('skipped', ())
            truth.set_metainfo({'skipped': (*before, *self.skipped)})
        else:
            for what in self.skipped:
                print_log(f'Skipped: {what}', 'current', WARNING)
        self.skipped = []


def samples_in(data: Any) -> Iterator[BaseDataElement]:
    """The samples in the ``data_samples`` of a batch or of one image.

    Semi-supervised training has them by branch, with None where an image
    belongs to another one.
    """
    if isinstance(data, BaseDataElement):
        yield data
    elif isinstance(data, Mapping | list | tuple):
        parts = data.values() if isinstance(data, Mapping) else data
        for part in parts:
            yield from samples_in(part)


class MismatchError(ValueError):
    """A sample that could be read, but contradicts its annotation."""


def make_fault_tolerant(dataset: Any, *, skip: bool) -> None:
    """Replace the pipeline of each data set, also inside wrappers.

    A FaultTolerantPipeline stays.

    Args:
        dataset: a built data set.
        skip: whether samples that cannot be used are skipped.
    """
    for part in inner(dataset):
        pipeline = getattr(part, 'pipeline', None)
        if isinstance(pipeline, FaultTolerantPipeline):
            continue
        # mmdet's PipelineSwitchHook sets mmcv's Compose
        if isinstance(pipeline, Compose | TransformCompose):
            classes = (part.metainfo or {}).get('classes')
            part.pipeline = FaultTolerantPipeline(
                pipeline,
                skip=skip,
                classes=len(classes) if classes else None,
                ignore=getattr(part, 'ignore_index', 255),
            )


def report_skipped(dataset: Any, sample: Mapping) -> None:
    """Report what was skipped for a wrapper that mixes images.

    The samples inside it are parts of its own.

    Args:
        dataset: after :func:`make_fault_tolerant`.
        sample: input of the network.
    """
    for part in tolerant_parts(dataset):
        if part.pipeline.skipped:
            part.pipeline.report(sample)


def tolerant_parts(dataset: Any) -> list[Any]:
    """The data sets with a FaultTolerantPipeline, also inside wrappers."""
    return [
        part
        for part in inner(dataset)
        if isinstance(getattr(part, 'pipeline', None), FaultTolerantPipeline)
    ]


def inner(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers such as RepeatDataset."""
    parts = vars(dataset)
    for name in INNER_DATASETS:
        if name in parts:
            found = parts[name]
            for part in found if isinstance(found, list) else [found]:
                yield from inner(part)
            return
    yield dataset


def is_data_error(error: Exception, info: Mapping, data: Mapping) -> bool:
    """Whether bad data caused an exception of a pipeline, and not a bug.

    True if a file of the sample cannot be read; if a loading transform of
    mmcv, mmdet or mmseg raised; if OpenCV refused the image in another of
    theirs; or if a file that was not loaded yet cannot be decoded.

    Args:
        error: with the traceback from inside the pipeline.
        info: 'img_path' and 'seg_map_path' of the sample, as far as known.
        data: the sample when it failed, with 'img' and 'gt_seg_map' if they
            were loaded.
    """
    files = {key: info[key] for key in FILES if info.get(key)}
    if isinstance(error, MismatchError):
        return True
    if isinstance(error, OSError) and error.filename in files.values():
        return True
    code = failed_transform(error)[1]
    if code.startswith(LIBRARIES) and (
        code.endswith('.transforms.loading') or isinstance(error, cv2.error)
    ):
        return True
    if not isinstance(error, OSError):
        files = {k: file for k, file in files.items() if FILES[k] not in data}
    return any(map(problem, files.values()))


def failed_transform(error: Exception) -> tuple[str, str]:
    """Class and module of the innermost transform that an error passed."""
    found = '', ''
    for frame, _ in traceback.walk_tb(error.__traceback__):
        transform = frame.f_locals.get('self')
        if isinstance(transform, BaseTransform):
            found = type(transform).__name__, frame.f_globals['__name__']
    return found


def blame(info: Mapping, error: Exception) -> str:
    """Which file of a sample cannot be used, and why: one sentence.

    Args:
        info: 'img_path' and 'seg_map_path' of the sample, as far as known.
        error: what was raised for this sample.
    """
    if isinstance(error, MismatchError):
        return str(error)
    for path in filter(None, map(info.get, FILES)):
        if found := problem(path):
            return f'{path} {found}'
    # cv2's errors say in ``err`` what was wrong, without its source's path
    what = getattr(error, 'err', None) or first_line(error)
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
    exif = header(path)[0]
    if exif == 1 or read != written[::-1]:
        return said
    return (
        f'{said}: its EXIF orientation {exif} rotates it; store it rotated, '
        'or read it with '
        "LoadImageFromFile(color_type='color_ignore_orientation')"
    )
