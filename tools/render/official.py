"""The official recipes, and why ours differ where they do."""

import csv
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from typing import NamedTuple

from pvt_mm.config.paths import HOME
from pvt_mm.errors import UsageError

FOLDER = HOME / 'docs/recipes'
UNKNOWN = 'not stated'


class Line(NamedTuple):
    """One hyper-parameter, official and ours.

    Args:
        name: of the hyper-parameter.
        official: its official value, or UNKNOWN.
        ours: what the config says.
        why: the reason for a difference; '' where there is none.
    """

    name: str
    official: str
    ours: str
    why: str

    @property
    def verdict(self) -> str:
        """Whether the two are equal, as far as is known."""
        if self.official == UNKNOWN:
            return '?'
        return 'yes' if self.official == self.ours else 'no'


def read(name: str) -> list[dict[str, str]]:
    """The rows of a table in docs/recipes."""
    with open(FOLDER / name, newline='') as file:
        return list(csv.DictReader(file))


def compare(
    official: Mapping[str, str],
    ours: Mapping[str, str],
    reasons: list[dict[str, str]],
) -> Iterator[Line]:
    """Each hyper-parameter of a config beside the official one.

    Args:
        official: row of official.csv.
        ours: what :func:`describe` says of the config.
        reasons: rows of differences.csv.

    Raises:
        UsageError: something differs without a reason.
    """
    config = official['config']
    for name, value in ours.items():
        line = Line(name, official[name], value, '')
        if line.verdict == 'no':
            line = line._replace(why=reason(config, line, reasons))
        yield line


def reason(config: str, line: Line, reasons: list[dict[str, str]]) -> str:
    """Why a hyper-parameter differs."""
    for row in reasons:
        if row['name'] == line.name and fnmatch(config, row['config']):
            return row['why']
    raise UsageError(
        f'{config}: {line.name} is {line.ours!r}, officially '
        f'{line.official!r}; mend the config or say why in '
        'docs/recipes/differences.csv'
    )


def notes(config: str) -> list[str]:
    """What else is to be said of a config."""
    rows = read('notes.csv')
    return [row['note'] for row in rows if fnmatch(config, row['config'])]
