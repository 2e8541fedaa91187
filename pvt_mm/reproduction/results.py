"""Read the published results, results/FAMILY/results.csv."""

import csv
from pathlib import Path
from typing import NamedTuple

from ..config.paths import HOME
from ..errors import UsageError
from ..families import FAMILIES

# Who says so; the order is that of trust in the number for this config.
KINDS = ('official', 'paper', 'mmdet', 'others', 'ours')


class Row(NamedTuple):
    """One result as it was published.

    Attributes:
        name: of the config without ending, also where there is none.
        kind: one of KINDS.
        metrics: score by name, in percent, as printed.
        params: in millions, as printed; empty where not given.
        gflops: as printed (multiply-adds); empty where not given.
        input: what the FLOPs were counted for.
        weights: address of the trained weights.
        log: address of the training log.
        source: repository and line, or paper and table.
        no_config: why there is no config of this name; else empty.
        note: anything a reader of the number should know.
    """

    name: str
    kind: str
    metrics: dict[str, str]
    params: str
    gflops: str
    input: str
    weights: str
    log: str
    source: str
    no_config: str
    note: str


def read_results(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        UsageError: it is missing, or a line is not of the form of a Row.
    """
    try:
        with open(path, newline='') as file:
            lines = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f'{path} cannot be read: {error}') from error
    return [read_row(path, n, line) for n, line in enumerate(lines, 2)]


def read_row(path: Path, number: int, line: dict) -> Row:
    """One line of a file."""
    if set(line) != set(Row._fields) or None in line.values():
        raise UsageError(
            f'{path} line {number}: the columns must be '
            f'{",".join(Row._fields)}'
        )
    if line['kind'] not in KINDS:
        raise UsageError(
            f'{path} line {number}: kind {line["kind"]!r} is none of '
            f'{", ".join(KINDS)}'
        )
    try:
        return Row(**{**line, 'metrics': read_metrics(line['metrics'])})
    except ValueError as error:
        raise UsageError(
            f'{path} line {number}: {line["metrics"]!r} is not like '
            "'box_AP=37.2; mask_AP=36.2'"
        ) from error


def read_metrics(text: str) -> dict[str, str]:
    """'box_AP=37.2; mask_AP=36.2' -> its numbers by name, as printed."""
    pairs = (part.strip().split('=') for part in text.split(';') if part)
    metrics = dict(pairs)
    for value in metrics.values():
        float(value)
    return metrics


def family_results(family: str) -> list[Row]:
    """The rows of results/FAMILY/results.csv."""
    return read_results(HOME / 'results' / family / 'results.csv')


def all_results() -> list[Row]:
    """All rows of all families."""
    return [row for family in FAMILIES for row in family_results(family)]
