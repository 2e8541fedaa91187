"""Read and write the measurements: results/benchmark*.csv."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

ROWS = Path('results/benchmark.csv')
FACTS = Path('results/benchmark_machine.csv')
SHARES = Path('results/benchmark_shares.csv')


def write_rows(path: Path, rows: Iterable[tuple], kind: type) -> None:
    """Write named tuples of a kind as csv, with five digits of a float."""
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(kind._fields)
        for row in rows:
            writer.writerow(
                f'{v:.5g}' if isinstance(v, float) else v for v in row
            )


def read_rows(path: Path, kind: type) -> list:
    """Read named tuples of a kind, with the types of its fields."""
    types = get_type_hints(kind)
    with open(path, newline='') as file:
        return [
            kind(**{k: convert(v, types[k]) for k, v in line.items()})
            for line in csv.DictReader(file)
        ]


def convert(text: str, kind: Any) -> Any:
    """A text -> str, int or float; an empty float is None."""
    if kind in (str, int):
        return kind(text)
    return float(text) if text else None


def write_facts(path: Path, facts: Mapping[str, str]) -> None:
    """Write what machine.describe gives."""
    with open(path, 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows(facts.items())


def read_facts(path: Path) -> dict[str, str]:
    """Read what machine.describe gave."""
    with open(path, newline='') as file:
        return dict(csv.reader(file))
