"""Measure one backbone beside others; print the measurements as tables."""

from collections.abc import Iterable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from .measure import (
    MIB,
    interleave,
    peak_bytes,
    precision,
    run,
    saved_bytes,
    stage_seconds,
)
from .variants import OURS, build_equal


class Case(NamedTuple):
    """What is measured on one image.

    Args:
        name: of the backbone.
        size: height and width of the image.
        task: 'inference' or 'training' (forward and backward).
        against: names in variants.VARIANTS or BASELINES besides ours.
        rounds: measured calls of each.
        batch: images at a time.
        precision: one of measure.PRECISIONS.
    """

    name: str
    size: tuple[int, int]
    task: str
    against: tuple[str, ...] = ()
    rounds: int = 5
    batch: int = 1
    precision: str = 'float32'


class Row(NamedTuple):
    """One model of one case; empty where it was not measured.

    Args:
        name, height, width, batch, task, precision: as in Case.
        model: the name of the variant or baseline.
        seconds: median of a call.
        low, high: of the fastest and the slowest call.
        saved: MiB saved for the backward pass.
        peak: MiB of memory during a call beyond that before it.
        stages: seconds of each stage, with blanks between.
    """

    name: str
    height: int
    width: int
    batch: int
    task: str
    precision: str
    model: str
    seconds: float
    low: float
    high: float
    saved: float | None
    peak: float | None
    stages: str


def measure(case: Case, device: str) -> list[Row]:
    """Measure a case, after the maps of all models were found equal.

    Raises:
        UsageError: they are not.
    """
    with precision('float32', device):  # maps are compared without TF32
        models = build_equal(case.name, [OURS, *case.against], device)
    image = torch.randn(case.batch, 3, *case.size, device=device)
    with precision(case.precision, device):
        calls = {
            k: partial(run, m, image, case.task) for k, m in models.items()
        }
        seconds = interleave(calls, case.rounds)
        rows = []
        for name, model in models.items():
            times = seconds[name]
            saved, peak, stages = None, None, ''
            if case.task == 'training':
                saved = saved_bytes(model, image) / MIB
            bytes_ = peak_bytes(calls[name], image.is_cuda)
            if bytes_ is not None:
                peak = bytes_ / MIB
            if name == OURS and case.task == 'inference':
                split = stage_seconds(model, image, case.rounds)
                stages = ' '.join(f'{value:.4f}' for value in split)
            rows.append(
                Row(
                    *(case.name, *case.size, case.batch, case.task),
                    *(case.precision, name),
                    *(median(times), min(times), max(times)),
                    *(saved, peak, stages),
                )
            )
            model.zero_grad(set_to_none=True)
    return rows


def rows_table(rows: Sequence[Row]) -> str:
    """Every row, with the speed of ours against it."""
    head = (
        *('backbone', 'image', 'task', 'model', 'seconds', 'spread'),
        *('images / s', 'ours is faster', 'saved MiB', 'peak MiB'),
    )
    ours = {row[:6]: row.seconds for row in rows if row.model == OURS}
    lines = [
        (
            row.name,
            f'{row.batch} x {row.height} x {row.width}',
            row.task + f' {row.precision}'.removesuffix(' float32'),
            row.model,
            f'{row.seconds:.3f}',
            f'{row.low:.3f} to {row.high:.3f}',
            f'{row.batch / row.seconds:.2f}',
            f'{row.seconds / ours[row[:6]]:.2f}',
            *('' if v is None else f'{v:.0f}' for v in (row.saved, row.peak)),
        )
        for row in rows
    ]
    return table(head, lines)


def stages_table(rows: Iterable[Row]) -> str:
    """Seconds of each stage of our backbones."""
    rows = [row for row in rows if row.stages]
    count = max((len(row.stages.split()) for row in rows), default=0)
    head = ('backbone', 'image', *(f'stage {i + 1}' for i in range(count)))
    lines = [
        (row.name, f'{row.height} x {row.width}', *row.stages.split())
        for row in rows
    ]
    return table(head, lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Cells -> a table of markdown."""
    lines = [head, ('---',) * len(head), *lines]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
