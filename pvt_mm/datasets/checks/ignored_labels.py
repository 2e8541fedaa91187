"""Check that a label which is no class is ignored by all that read it.

mmseg has an ``ignore_index`` in each data set, head and metric, and fills
borders with labels of transforms and of the data preprocessor. Heads and
metrics decide: the data set's own is read by no loss.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from torch import nn

from ...errors import UsageError
from .examine import BRIEF
from .fault_tolerant_pipeline import FaultTolerantPipeline, inner
from .samples import kept_randomness

# Attributes of transforms and data preprocessors: the label of a border.
FILLS = ('seg_pad_val', 'seg_fill_in', 'pad_val')


class Reader(NamedTuple):
    """A head that learns from labels, or a metric that counts them.

    Attributes:
        key: of its ignore_index in the config.
        ignored: the label that it ignores.
        fails: why it cannot read a label, '' if it can.
    """

    key: str
    ignored: Any
    fails: Callable[[int], str]

    def refuses(self, label: int) -> str:
        """Why it neither ignores a label nor can read it; '' if it does."""
        return '' if label == self.ignored else self.fails(label)


def heads_of(model: Any) -> list[Reader]:
    """The heads of a segmentor; none of another model.

    Args:
        model: built, also inside a wrapper.
    """
    model = getattr(model, 'module', model)
    found = []
    for name in ('decode_head', 'auxiliary_head'):
        part = getattr(model, name, None)
        several = isinstance(part, nn.ModuleList)
        for i, head in enumerate(part if several else [part]):
            if hasattr(head, 'ignore_index') and hasattr(head, 'out_channels'):
                key = f'model.{name}{f".{i}" if several else ""}.ignore_index'
                fails = partial(loss_error, head)
                found.append(Reader(key, head.ignore_index, fails))
    return found


def metrics_of(evaluator: Any, mode: str) -> list[Reader]:
    """The metrics that ignore a label.

    Args:
        evaluator: mmengine's, of the loop; None if it has none.
        mode: 'val' or 'test'.
    """
    return [
        Reader(
            f'{mode}_evaluator.ignore_index',
            metric.ignore_index,
            lambda label: 'the score would be wrong',
        )
        for metric in getattr(evaluator, 'metrics', ())
        if hasattr(metric, 'ignore_index')
    ]


def loss_error(head: Any, label: int) -> str:
    """The error of a head's loss at a label that is no class; '' if none.

    A head whose loss needs more than logits and labels has none.
    """
    from mmseg.structures import SegDataSample

    def loss(*labels: int) -> None:
        truth = PixelData(data=torch.tensor(labels).view(1, 1, -1))
        logits = torch.zeros(1, head.out_channels, 1, len(labels))
        head.loss_by_feat(logits, [SegDataSample(gt_sem_seg=truth)])

    with kept_randomness():
        try:
            loss(0, 0)
        except Exception:  # of any kind of head: nothing can be said
            return ''
        try:
            loss(0, label)
        except Exception as error:
            return f'{type(error).__name__}: {error}'
    return ''


def set_ignored(dataset: Any, readers: list[Reader]) -> None:
    """Let the pipelines accept the labels that all readers can read.

    Args:
        dataset: as it was built, after :func:`make_fault_tolerant`.
        readers: of its labels; without any, the data set's own ignore_index
            counts.
    """
    for part in tolerant_parts(dataset) if readers else ():
        given = {*part.pipeline.ignore, *(r.ignored for r in readers)}
        part.pipeline.ignore = {
            label
            for label in given - {None}
            if not any(reader.refuses(label) for reader in readers)
        }
        part.pipeline.ignored_by = ', '.join(
            f'{reader.key}={reader.ignored}' for reader in readers
        )


def tolerant_parts(dataset: Any) -> list[Any]:
    """The data sets with a FaultTolerantPipeline, also inside wrappers."""
    return [
        part
        for part in inner(dataset)
        if isinstance(getattr(part, 'pipeline', None), FaultTolerantPipeline)
    ]


def check_ignored_labels(model: Any, dataset: Any, batch_size: int) -> None:
    """Check that every label that reaches a loss is a class or ignored.

    Samples are read only if a loss would fail at a label of the config.

    Args:
        model: the model as it was built.
        dataset: of the training, after :func:`make_fault_tolerant`.
        batch_size: images that the data preprocessor gets together.

    Raises:
        UsageError: a loss would fail at a label that reaches it.
    """
    model = getattr(model, 'module', model)
    heads = heads_of(model)
    if not heads:
        return
    given = labels_of_config(model, dataset)
    wrong = {
        label: (head, why)
        for label in given
        for head in reversed(heads)  # the first one is named
        if (why := head.refuses(label))
    }
    if not wrong:
        return
    with accepting(dataset, [*given, *(head.ignored for head in heads)]):
        maps, batches = labels_seen(model, dataset, batch_size)
    for label in sorted(batches & set(wrong)):
        head, why = wrong[label]
        sources = ['the label maps'] * (label in maps) + given[label]
        raise UsageError(
            f'the label {label} of {" and ".join(sources)} reaches a loss '
            f'that fails at it ({why}), because {head.key}={head.ignored}: '
            'make these numbers equal'
        )


def labels_of_config(model: Any, dataset: Any) -> dict[int, list[str]]:
    """Labels that the config names beside the classes, with their keys.

    Args:
        model: the segmentor.
        dataset: of the training.
    """
    found = defaultdict(list)
    owners = {'model.data_preprocessor': model.data_preprocessor}
    for part in tolerant_parts(dataset):
        name = type(part).__name__
        if part is dataset:
            name = 'train_dataloader.dataset'
        if isinstance(getattr(part, 'ignore_index', None), int):
            key = f'{name}.ignore_index={part.ignore_index}'
            found[part.ignore_index].append(key)
        for i, transform in enumerate(part.pipeline.transforms):
            owners[f'{name}.pipeline.{i}'] = transform
    for name, owner in owners.items():
        for key, label in fills(owner):
            found[label].append(f'{name}.{key}={label}')
    return found


def fills(part: Any) -> Iterator[tuple[str, int]]:
    """Labels with which a transform or a data preprocessor fills borders."""
    for key in FILLS:
        value = getattr(part, key, None)
        if key == 'pad_val':  # of mmcv's Pad; others have the image's
            key = 'pad_val.seg'
            value = value.get('seg', 255) if isinstance(value, dict) else None
        if isinstance(value, int):
            yield key, value


def labels_seen(
    model: Any, dataset: Any, batch_size: int
) -> tuple[set[int], set[int]]:
    """The labels of some samples, and of the batches that heads get of them.

    Args:
        model: the segmentor.
        dataset: of the training.
        batch_size: images that the data preprocessor gets together.
    """
    count = min(BRIEF, len(dataset))
    indices = random.Random(0).sample(range(len(dataset)), count)
    maps: set[int] = set()
    batches: set[int] = set()
    with kept_randomness():
        for first in range(0, count, batch_size):
            chosen = indices[first : first + batch_size]
            batch = pseudo_collate([dataset[i] for i in chosen])
            maps |= labels_of(batch['data_samples'])
            padded = model.data_preprocessor(batch, True)
            batches |= labels_of(padded['data_samples'])
    return maps, batches


def labels_of(samples: Iterable[Any]) -> set[int]:
    """The labels of some samples."""
    return {
        label
        for sample in samples
        if 'gt_sem_seg' in sample
        for label in sample.gt_sem_seg.data.unique().tolist()
    }


@contextmanager
def accepting(dataset: Any, labels: Iterable[int]) -> Iterator[None]:
    """Context in which the pipelines accept more labels.

    Args:
        dataset: of the training.
        labels: that are no classes.
    """
    parts = tolerant_parts(dataset)
    before = [part.pipeline.ignore for part in parts]
    for part in parts:
        part.pipeline.ignore = {*part.pipeline.ignore, *labels}
    try:
        yield
    finally:
        for part, ignore in zip(parts, before, strict=True):
            part.pipeline.ignore, part.pipeline.skipped = ignore, []
