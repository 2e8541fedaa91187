"""Run samples of a data set through its pipeline and report what fails."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from mmcv.transforms import LoadAnnotations
from torch.utils.data import DataLoader, Dataset

from ...config.build_errors import first_line, passed_own_code
from ...errors import SampleError
from .fault_tolerant_pipeline import FILES, failed_transform
from .files import absent, header
from .report import Finding, allowed, error, warning


class Look(NamedTuple):
    """What was seen of a sample.

    Attributes:
        path: of its image; '' if it has none.
        fault: why it cannot be used; '' if it can.
        exif: the EXIF orientation.
        size: (H, W) of the file.
        pixels: how many have each label (256,); None without a label map.
        truth: its ``data_samples``, where they are used.
        unknown: names of VOC's objects that are no class.
    """

    path: str
    fault: str = ''
    exif: int = 1
    size: tuple[int, int] | None = None
    pixels: np.ndarray | None = None
    truth: Any = None
    unknown: tuple[str, ...] = ()


class Looks(Dataset):
    """A data set of looks at samples.

    Args:
        part: a data set with a FaultTolerantPipeline.
        indices: its samples that are read.
        keep: whether a look has the truth.
    """

    def __init__(self, part: Any, indices: list[int], *, keep: bool) -> None:
        self.part, self.indices, self.keep = part, indices, keep
        self.classes = (part.metainfo or {}).get('classes') or ()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Look:
        data = self.part.get_data_info(self.indices[place])
        path = data.get('img_path') or ''
        exif, size, _ = header(path)
        maps = data.get('seg_map_path')
        given = {**data, 'seg_fields': []}
        try:
            sample = self.part.pipeline.attempt(data)
        except SampleError as error:
            return Look(path, str(error), exif)
        except Exception as error:
            if passed_own_code(error):
                raise
            raise SampleError(
                f'the pipeline fails in {failed_transform(error)[0]} '
                f'({type(error).__name__}: {first_line(error)})'
            ) from error
        fault = ''
        if header(maps)[2].startswith(('I', 'F')):
            fault = (
                f'{maps} has more than 8 bits per pixel; mmseg reads only the '
                'last 8'
            )
        truth = (sample or {}).get('data_samples') if self.keep else None
        unknown = tuple(self.unknown_names(given.get('xml_path')))
        return Look(
            path, fault, exif, size, self.pixels(given), truth, unknown
        )

    def unknown_names(self, path: str | None) -> Iterator[str]:
        """The names of objects in an XML file of VOC that are no class."""
        there = path and os.path.isfile(path)
        for each in ElementTree.parse(path).iter('object') if there else ():
            if (name := each.findtext('name')) not in self.classes:
                yield name

    def pixels(self, data: dict) -> np.ndarray | None:
        """How many pixels have each label, as mmseg loads the label map."""
        for transform in self.part.pipeline.transforms:
            if 'reduce_zero_label' in data and isinstance(
                transform, LoadAnnotations
            ):
                labels = transform(data)['gt_seg_map']
                return np.bincount(labels.ravel(), minlength=256)
        return None


def look_at(
    part: Any,
    images: int | None,
    workers: int,
    *,
    training: bool,
    use: Callable[[Any, Any], None] | None = None,
) -> tuple[list[Look], list[Finding]]:
    """Read samples of a data set, and say what is wrong with them.

    Args:
        part: a data set with a FaultTolerantPipeline.
        images: how many samples; None for all.
        workers: processes that read; 0 reads in this one.
        training: training skips what it cannot use, up to a share.
        use: gets the data set and the ``data_samples`` of each sample.
    """
    indices = list(range(len(part)))
    found: list[Finding] = []
    if names_files(part):
        gone, said = absent_files(part)
        found += unusable(said, len(gone), len(part), training)
        indices = [i for i in indices if i not in gone]
    if images is not None and images < len(indices):
        indices = random.Random(0).sample(indices, images)
    seen = Looks(part, indices, keep=use is not None)
    looks = []
    with kept_randomness():
        for look in DataLoader(seen, batch_size=None, num_workers=workers):
            if look.truth is not None:
                use(part, look.truth)
            looks.append(look._replace(truth=None))
    faults = [look.fault for look in looks if look.fault]
    found += unusable(faults, len(faults), len(looks), training)
    found += rotated(part, looks)
    unknown = Counter(name for look in looks for name in look.unknown)
    if unknown:
        text = ', '.join(f'{name!r} ({n})' for name, n in unknown.items())
        found.append(
            warning(
                'names that are no class',
                f'objects have names that metainfo.classes lacks, and are '
                f'left out: {text:.300}; for example in '
                f'{next(look.path for look in looks if look.unknown)}',
            )
        )
    return looks, found


def absent_files(part: Any) -> tuple[set[int], list[str]]:
    """Samples whose image or label map does not exist, and why."""
    infos = [part.get_data_info(index) for index in range(len(part))]
    gone: set[int] = set()
    said: list[str] = []
    for key in FILES:
        paths = [path for info in infos if (path := info.get(key))]
        first = os.path.dirname(paths[0]) if paths else ''
        folder = part.data_prefix.get(key) or first
        names = [
            path.removeprefix(os.path.join(folder, ''))
            if path.startswith(folder)
            else os.path.abspath(path)
            for path in paths
        ]
        missing, why = absent(names, folder)
        wanted = set(missing)
        gone |= {i for i, name in enumerate(names) if name in wanted}
        said += why
    return gone, said


def names_files(part: Any) -> bool:
    """Whether a list may name images or label maps that are not there.

    Of COCO's images :func:`check_annotation_files` tells.
    """
    keys = part.get_data_info(0) if len(part) else ()
    return bool({'reduce_zero_label', 'xml_path'} & {*keys})


def unusable(
    faults: Iterable[str], number: int, looked: int, training: bool
) -> Iterator[Finding]:
    """Faults as findings: warnings if training may skip that many samples.

    Args:
        faults: sentences about samples that cannot be used.
        number: how many samples they are about.
        looked: how many samples were looked at.
        training: whether it may skip any.
    """
    if not training or number > allowed(looked):
        for fault in faults:
            yield error('samples that cannot be used', fault)
    else:
        for fault in faults:
            yield warning(
                'samples that training skips', f'{fault}; training skips it'
            )


def rotated(part: Any, looks: Iterable[Look]) -> Iterator[Finding]:
    """Findings on images that their EXIF orientation rotates when read."""
    kinds = [getattr(t, 'color_type', '') for t in part.pipeline.transforms]
    if not {'color', 'grayscale'} & set(kinds):
        return
    for look in looks:
        if look.exif != 1 and not look.fault:
            yield warning(
                'images that EXIF rotates',
                f'{look.path} is rotated when it is read (EXIF orientation '
                f'{look.exif}); its annotation must be of the rotated image',
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
