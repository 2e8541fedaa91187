"""Which published numbers to check, and when a number is reproduced."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import UsageError, nearest_names
from .results import KINDS, Row
from .training_log import Scores

# Metrics that are compared -> tolerance in percent points.
TOLERANCE = {'top1': 0.1, 'box_AP': 0.1, 'mask_AP': 0.1, 'mIoU': 0.2}
# Hosts that a program cannot download from.
BY_HAND = {
    'drive.google.com': 'Google Drive gives it to a browser only',
    'dropbox.com': "the authors' address is dead",
}


class Job(NamedTuple):
    """One number to check.

    Attributes:
        key: name of its folder and of a weight file given by hand.
        name: of the config.
        expected: score by name, in percent.
        weights: address of the weights, or empty.
        source: who published the score.
    """

    key: str
    name: str
    expected: dict[str, float]
    weights: str
    source: str


def plan(rows: Iterable[Row], names: Sequence[str] = ()) -> list[Job]:
    """The rows to check, the most trusted of a config first.

    A row that repeats a number of its config, to the digit or rounded, and
    has no weights of its own is left out.

    Raises:
        UsageError: a name that no row has, with the nearest ones.
    """
    rows = sorted(rows, key=lambda row: (row.name, KINDS.index(row.kind)))
    known = dict.fromkeys(row.name for row in rows if not row.no_config)
    for name in names:
        if name not in known:
            raise UsageError(
                f'nothing is published for a config {name}; '
                f'{nearest_names(name, known, 0.3)}'
            )
    jobs = []
    for row in rows:
        expected = judged(row)
        if row.no_config or not expected or (names and row.name not in names):
            continue
        if not row.weights and any(repeats(row, job) for job in jobs):
            continue
        key = unique(row, [job.key for job in jobs])
        jobs.append(Job(key, row.name, expected, row.weights, row.source))
    return jobs


def judged(row: Row) -> dict[str, float]:
    """The scores of a row that are compared."""
    return {k: float(v) for k, v in row.metrics.items() if k in TOLERANCE}


def repeats(row: Row, job: Job) -> bool:
    """Whether a job's verdict is the verdict on this row."""
    return row.name == job.name and all(
        metric in job.expected
        and abs(job.expected[metric] - value) < TOLERANCE[metric] + 1e-6
        for metric, value in judged(row).items()
    )


def unique(row: Row, taken: Sequence[str]) -> str:
    """The key of a row: name, kind if not official, number if taken."""
    key = row.name if row.kind == 'official' else f'{row.name}_{row.kind}'
    further = (f'{key}-{number}' for number in range(2, len(taken) + 3))
    return next(k for k in (key, *further) if k not in taken)


def verdict(expected: dict[str, float], seen: dict[str, float]) -> str:
    """'reproduced', or by how much which score is off."""
    off = []
    for metric, value in expected.items():
        if metric not in seen:
            return f'not checkable: the evaluation gave no {metric}'
        gap = seen[metric] - value
        if abs(gap) > TOLERANCE[metric] + 1e-6:
            off.append(f'{gap:+.2f} {metric}')
    return f'off by {", ".join(off)}' if off else 'reproduced'


def compare(expected: Scores, seen: Scores) -> tuple[list[str], bool]:
    """Compare two logs where both have the same score at the same step.

    Returns:
        a line per step and score, and whether the last step agrees.

    Raises:
        UsageError: there is no such step.
    """
    common = [
        step
        for step in sorted(expected.keys() & seen.keys())
        if expected[step].keys() & seen[step].keys()
    ]
    if not common:
        raise UsageError(
            'the logs have no step in common with the same score: expected '
            f'{sorted(expected)}, seen {sorted(seen)}'
        )
    lines, good = [], True
    for place in common:
        gaps = {
            key: seen[place][key] - value
            for key, value in expected[place].items()
            if key in seen[place]
        }
        good = all(abs(g) <= TOLERANCE[k] + 1e-6 for k, g in gaps.items())
        lines += [
            f'step {place}: {key} expected {expected[place][key]:.2f}, seen '
            f'{seen[place][key]:.2f}, {gap:+.2f}'
            for key, gap in gaps.items()
        ]
    return lines, good
