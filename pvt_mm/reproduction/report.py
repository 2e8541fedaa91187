"""Keep the verdict on each number in verdicts.csv and verdicts.md."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..checkpoints.atomic import write_whole
from ..errors import UsageError
from .plan import Job


class Outcome(NamedTuple):
    """The verdict on one number.

    Attributes:
        key: of the job.
        name: of the config.
        expected: published scores, as 'box_AP 37.2'.
        seen: the same as evaluated here, or empty.
        verdict: 'reproduced', 'off by ...' or 'not checkable: ...'.
        source: who published the number.
    """

    key: str
    name: str
    expected: str
    seen: str
    verdict: str
    source: str


def outcome(job: Job, verdict: str, seen: Mapping | None = None) -> Outcome:
    """The outcome of a job."""
    wanted = {k: v for k, v in (seen or {}).items() if k in job.expected}
    return Outcome(
        job.key,
        job.name,
        numbers(job.expected),
        numbers(wanted),
        verdict,
        job.source,
    )


def numbers(scores: Mapping[str, float]) -> str:
    """'box_AP 37.2, mask_AP 36.2'"""
    return ', '.join(f'{key} {value:.4g}' for key, value in scores.items())


def read(folder: Path) -> dict[str, Outcome]:
    """The outcomes of earlier runs by key."""
    path = folder / 'verdicts.csv'
    if not path.exists():
        return {}
    try:
        with open(path, newline='') as file:
            lines = list(csv.DictReader(file))
        return {line['key']: Outcome(**line) for line in lines}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(
            f'{path} is not as this command writes it: move it away'
        ) from error


def write(folder: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Replace both files.

    Raises:
        OSError: one cannot be written; what was there stays.
    """
    rows = [outcomes[key] for key in sorted(outcomes)]
    write_csv(folder / 'verdicts.csv', [Outcome._fields, *rows])
    head = ('config', 'published', 'here', 'verdict', 'source')
    lines = [head, ('---',) * len(head)]
    lines += [(r.name, r.expected, r.seen, r.verdict, r.source) for r in rows]
    text = '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
    write_whole(folder / 'verdicts.md', f'{text}\n'.encode())


def write_csv(path: Path, rows: Iterable[Sequence]) -> None:
    """Write rows as comma-separated values.

    Raises:
        OSError: the file cannot be written; what was there stays.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    write_whole(path, text.getvalue().encode())
