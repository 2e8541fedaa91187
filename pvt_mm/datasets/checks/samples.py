"""Run samples of a data set through its pipeline and report what fails."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ...errors import SampleError
from .fault_tolerant_pipeline import FILES, FaultTolerantPipeline, inner
from .files import missing, orientation, too_deep
from .report import Finding, allowed, error, note


class Faults(Dataset):
    """A data set of faults: (sentence or '', image path, EXIF orientation).

    Args:
        part: a data set with a FaultTolerantPipeline.
        indices: its samples that are read.
    """

    def __init__(self, part: Any, indices: list[int]) -> None:
        self.part, self.indices = part, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[str, str, int]:
        data = self.part.get_data_info(self.indices[place])
        path = data.get('img_path') or ''
        exif = orientation(path) if path else 1
        maps = data.get('seg_map_path')
        try:
            self.part.pipeline.attempt(data)
        except SampleError as error:
            return str(error), path, exif
        return maps and too_deep(maps) or '', path, exif


def check_samples(
    dataset: Any, *, training: bool, images: int | None, workers: int = 0
) -> Iterator[Finding]:
    """Findings on the samples of a data set.

    Args:
        dataset: as it was built, after :func:`make_fault_tolerant`.
        training: training skips what it cannot use, up to a share.
        images: how many samples of each part; None for all.
        workers: processes that read; 0 reads in this one.
    """
    for part in inner(dataset):
        pipeline = getattr(part, 'pipeline', None)
        if not isinstance(pipeline, FaultTolerantPipeline):
            continue  # of no library: it is left as it is
        indices = range(len(part))
        if images is not None and images < len(part):
            indices = random.Random(0).sample(indices, images)
            others = set(range(len(part))) - set(indices)
            yield from absent_files(part, others, training)
        yield from linked_folders(part)
        with kept_randomness():
            loader = DataLoader(
                Faults(part, list(indices)),
                batch_size=None,
                num_workers=workers,
            )
            found = list(loader)
        faults = [fault for fault, _, _ in found if fault]
        yield from unusable(faults, len(found), training)
        yield from rotated(part, found)


def absent_files(
    part: Any, indices: Iterable[int], training: bool
) -> Iterator[Finding]:
    """Findings on images and label maps that do not exist.

    Args:
        part: a data set; of COCO's, its annotation file is checked instead.
        indices: its samples that are not read.
        training: training skips what it cannot use, up to a share.
    """
    if not has_label_maps(part):
        return
    infos = [part.get_data_info(index) for index in indices]
    for key in FILES:
        paths = [info[key] for info in infos if info.get(key)]
        yield from absent(paths, training)


def linked_folders(part: Any) -> Iterator[Finding]:
    """Findings on folders that link to another one: mmseg reads both."""
    if not has_label_maps(part):
        return
    infos = map(part.get_data_info, range(len(part)))
    real: dict[str, str] = {}
    for folder in sorted({os.path.dirname(i['img_path']) for i in infos}):
        first = real.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            yield error(
                'folders that are read twice',
                f'{folder} is a link to {first}: its images would be read '
                'twice; remove the link',
            )


def has_label_maps(part: Any) -> bool:
    """Whether samples of a data set are an image and a label map each."""
    return bool(len(part) and part.get_data_info(0).get('seg_map_path'))


def absent(paths: list[str], training: bool) -> Iterator[Finding]:
    """Findings on the files that do not exist."""
    faults = [f'{path} is not there' for path in missing(paths)]
    yield from unusable(faults, len(paths), training)


def unusable(
    faults: list[str], looked: int, training: bool
) -> Iterator[Finding]:
    """Faults as findings: notes if training may skip that many samples.

    Args:
        faults: a sentence per sample that cannot be used.
        looked: how many samples were looked at.
        training: whether it may skip any.
    """
    if not training or len(faults) > allowed(looked):
        for fault in faults:
            yield error('samples that cannot be used', fault)
    else:
        for fault in faults:
            yield note(
                'samples that training skips', f'{fault}; training skips it'
            )


def rotated(part: Any, found: list[tuple[str, str, int]]) -> Iterator[Finding]:
    """Findings on images that their EXIF orientation rotates when read.

    Args:
        part: a data set with a FaultTolerantPipeline.
        found: items of its :class:`Faults`.
    """
    kinds = [getattr(t, 'color_type', '') for t in part.pipeline.transforms]
    if not {'color', 'grayscale'} & set(kinds):
        return
    for fault, path, exif in found:
        if exif != 1 and not fault:
            yield note(
                'images that EXIF rotates',
                f'{path} is rotated when it is read (EXIF orientation '
                f'{exif}); its annotation must be of the rotated image',
            )


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Restore the random states of python, numpy and torch at the end."""
    states = random.getstate(), np.random.get_state()
    gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
