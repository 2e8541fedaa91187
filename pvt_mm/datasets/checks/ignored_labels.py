"""Find the labels that are no class and that heads or metrics can read.

mmseg has an ``ignore_index`` in each data set, head and metric. Heads and
metrics decide: the data set's own is read by no loss.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.structures import PixelData
from torch import nn

from .fault_tolerant_pipeline import tolerant_parts
from .samples import kept_randomness


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
