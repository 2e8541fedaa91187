"""A data set's pipeline that no file can crash in hour ten.

In training a sample that cannot be used is skipped: the data set draws
another one, and its name travels with that one to the hook that counts.
Anywhere else it stops the run, because a score without it would be wrong.
"""

from collections.abc import Iterator, Mapping
from logging import WARNING
from typing import Any

from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from ..engine.errors import SampleError
from .files import by, of_size, orientation, problem

IN_A_ROW = 10  # then the disk is gone, or the pipeline does not fit the data


class Guard(Compose):
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
        """The sample, and what is wrong with it; both may be nothing."""
        info = {key: data.get(key) for key in FILES + SIZE}
        try:
            sample = super().__call__(data)
            if sample is not None:
                self.check(sample, info)
        except Exception as error:
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
            raise Misfit(turned(info['img_path'], read, written))
        if 'gt_sem_seg' not in truth:
            return
        labels = truth.gt_sem_seg.data.squeeze(0)
        # a label map to test with is not resized with its image
        wanted = tuple(sample['inputs'].shape[-2:]) if self.skip else read
        if wanted and tuple(labels.shape) != wanted:
            raise Misfit(
                f'{info["seg_map_path"]} has labels of size '
                f'{by(labels.shape)} for an image of {by(wanted)}'
            )
        beyond = labels[labels != self.ignore]
        if self.classes and beyond.numel() and beyond.max() >= self.classes:
            raise Misfit(
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


class Misfit(ValueError):
    """A sample that could be read, but contradicts itself."""


class CarefulRunner(Runner):
    """mmengine's Runner, with a guard around the pipeline of each data set."""

    def build_dataloader(self, dataloader: Any, *args, **kwargs) -> DataLoader:
        """Build a data loader; only that of training skips samples."""
        training = dataloader is self._train_dataloader
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        guard(loader.dataset, skip=training)
        return loader


# What a data set may know of a sample.
FILES = ('img_path', 'seg_map_path')
SIZE = ('height', 'width')


def guard(dataset: Any, *, skip: bool) -> None:
    """Put a guard around the pipeline of each data set inside wrappers."""
    for part in inner(dataset):
        pipeline = getattr(part, 'pipeline', None)
        if isinstance(pipeline, Compose):
            classes = (part.metainfo or {}).get('classes')
            part.pipeline = Guard(
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


def blame(info: Mapping, error: Exception) -> str:
    """Which file of a sample is at fault, and why."""
    if isinstance(error, Misfit):
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
