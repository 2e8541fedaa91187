"""Measurements as data: results/benchmark.csv."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from .baselines.build import enter
from .cases import US, Case
from .measure import (
    MIB,
    interleave,
    peak_bytes,
    precision,
    run,
    saved_bytes,
    stage_seconds,
)


class Row(NamedTuple):
    """One contestant of one case; empty where it was not measured.

    Args:
        name, height, width, batch, task, precision: as in Case.
        who: the contestant.
        seconds: median of a call.
        low, high: of the fastest and the slowest call.
        saved: MiB kept for the backward pass.
        peak: MiB of memory during a call beyond that before it.
        stages: seconds of each stage, with blanks between.
    """

    name: str
    height: int
    width: int
    batch: int
    task: str
    precision: str
    who: str
    seconds: float
    low: float
    high: float
    saved: float | None
    peak: float | None
    stages: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


def measure(case: Case, device: str) -> list[Row]:
    """Measure a case; equal maps of all contestants are asserted first."""
    models = enter(case.name, [US, *case.who], device)
    image = torch.randn(case.batch, 3, *case.size, device=device)
    with precision(case.precision, device):
        calls = {
            k: partial(run, m, image, case.task) for k, m in models.items()
        }
        seconds = interleave(calls, case.rounds)
        rows = []
        for who, model in models.items():
            times = seconds[who]
            memory = remembered(model, image, case.task, calls[who])
            stages = ''
            if who == US and case.task == 'inference':
                split = stage_seconds(model, image, case.rounds)
                stages = ' '.join(f'{value:.4f}' for value in split)
            rows.append(
                Row(
                    *(case.name, *case.size, case.batch, case.task),
                    *(case.precision, who),
                    *(median(times), min(times), max(times)),
                    *(*memory, stages),
                )
            )
            model.zero_grad(set_to_none=True)
    return rows


def remembered(
    model: nn.Module,
    image: torch.Tensor,
    task: str,
    call: Callable[[], None],
) -> tuple[float | None, float | None]:
    """MiB kept for the backward pass, and at the peak of a call."""
    saved = saved_bytes(model, image) / MIB if task == 'training' else None
    peak = peak_bytes(call, image.is_cuda)
    return saved, None if peak is None else peak / MIB


def write_rows(
    path: Path, rows: Iterable[tuple], fields: Sequence[str] = Row._fields
) -> None:
    """Keep rows with these fields as csv."""
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(fields)
        for row in rows:
            writer.writerow(
                f'{v:.5g}' if isinstance(v, float) else v for v in row
            )


def read_rows(path: Path) -> list[Row]:
    """Rows that were kept."""
    with open(path, newline='') as file:
        return [read_row(line) for line in csv.DictReader(file)]


def read_row(line: Mapping[str, str]) -> Row:
    """A row from its texts."""
    values = dict(line)
    for field in ('height', 'width', 'batch'):
        values[field] = int(values[field])
    for field in ('seconds', 'low', 'high', 'saved', 'peak'):
        values[field] = float(values[field]) if values[field] else None
    return Row(**values)


def write_facts(path: Path, facts: Mapping[str, str]) -> None:
    """Keep what the rows were measured on."""
    with open(path, 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows(facts.items())


def read_facts(path: Path) -> dict[str, str]:
    """What the rows were measured on."""
    with open(path, newline='') as file:
        return dict(csv.reader(file))
