"""Read and write the measurements of several machines: results/*.csv."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

ROWS = Path('results/benchmark.csv')
FACTS = Path('results/benchmark_machine.csv')
SHARES = Path('results/benchmark_shares.csv')
MACHINE = 'machine'  # first column of each file: its processor


class Fact(NamedTuple):
    """What machine.describe says about a machine."""

    name: str
    value: str


def write_rows(
    path: Path, rows: Iterable[tuple], kind: type, machine: str
) -> None:
    """Write named tuples of a kind, in place of the machine's earlier ones.

    Args:
        path: csv; rows of other machines stay. Floats have five digits.
        rows: what was measured.
        kind: the type of the rows.
        machine: the name of the processor.
    """
    lines = []
    if path.exists():
        with open(path, newline='') as file:
            _, *lines = csv.reader(file)
    lines = [line for line in lines if line[0] != machine]
    for row in rows:
        cells = (f'{v:.5g}' if isinstance(v, float) else v for v in row)
        lines.append([machine, *cells])
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerows([[MACHINE, *kind._fields], *lines])


def read_rows(path: Path, kind: type) -> dict[str, list]:
    """Machine -> named tuples of a kind, with the types of its fields."""
    types = get_type_hints(kind)
    found: dict[str, list] = {}
    with open(path, newline='') as file:
        for line in csv.DictReader(file):
            rows = found.setdefault(line.pop(MACHINE), [])
            rows.append(
                kind(**{k: convert(v, types[k]) for k, v in line.items()})
            )
    return found


def convert(text: str, kind: Any) -> Any:
    """A text -> str, int or float; an empty float is None."""
    if kind in (str, int):
        return kind(text)
    return float(text) if text else None
