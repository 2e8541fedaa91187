"""docs/recipes.md: the official recipes, and why ours differ."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import NamedTuple

from render.describe import describe
from render.grammar import DATA, METHODS, SCHEDULES

from pvt_mm.benchmark.rows import table
from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import HOME
from pvt_mm.errors import UsageError
from pvt_mm.families import FAMILIES

PAGE = HOME / 'docs/recipes.md'
FOLDER = HOME / 'docs/recipes'
UNKNOWN = 'not stated'
COLUMNS = ('hyper-parameter', 'official', 'ours', 'equal')
INTRODUCTION = """\
# Recipes: the official ones and ours

Written by `tools/render_pages.py recipes` from the configs and from
[recipes/official.csv](recipes/official.csv), the official configs in the same
words; [recipes/differences.csv](recipes/differences.csv) says why something
differs, [recipes/notes.csv](recipes/notes.csv) what no hyper-parameter says.
A question mark stands where the official recipe says nothing, or where there
is none. Configs with the same recipe stand together.

A config is called `METHOD_FAMILY_ARCH_DATA[_SCHEDULE]`, where ARCH is a row of
the table in the family's file and SCHEDULE is absent if it is the family's
standard one:

| part | one of |
| --- | --- |
"""
PARTS = {
    'METHOD': METHODS,
    'FAMILY': FAMILIES,
    'DATA': DATA,
    'SCHEDULE': SCHEDULES[1:],
}


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
    """Why a hyper-parameter differs; a UsageError if nobody wrote it down."""
    for row in reasons:
        if row['name'] == line.name and fnmatch(config, row['config']):
            return row['why']
    raise UsageError(
        f'{config}: {line.name} is {line.ours!r}, officially '
        f'{line.official!r}; fix the config or give the reason in '
        'docs/recipes/differences.csv'
    )


def notes(config: str) -> list[str]:
    """The notes on a config, from notes.csv."""
    rows = read('notes.csv')
    return [row['note'] for row in rows if fnmatch(config, row['config'])]


def render() -> str:
    """The text of the page; configs with the same recipe stand together."""
    groups: dict[tuple, list[Mapping[str, str]]] = {}
    reasons = read('differences.csv')
    for row in read('official.csv'):
        cfg = load_config(row['config'])
        lines = tuple(compare(row, describe(cfg), reasons))
        groups.setdefault((lines, tuple(notes(row['config']))), []).append(row)
    parts = [
        f'| {part} | {", ".join(f"`{value}`" for value in values)} |'
        for part, values in PARTS.items()
    ]
    sections = [section(*key, rows) for key, rows in groups.items()]
    return '\n\n'.join([INTRODUCTION + '\n'.join(parts), *sections]) + '\n'


def section(
    lines: Sequence[Line], remarks: Sequence[str], rows: Sequence[Mapping]
) -> str:
    """A section: one recipe, its configs and sources, its table, notes."""
    first, others = rows[0]['config'], len(rows) - 1
    title = f'## {first}' + (f' and {others} more' if others else '')
    configs = [
        f'- [{row["config"]}](../configs/{row["config"]}.py): {row["recipe"]}'
        for row in rows
    ]
    reasons = list(dict.fromkeys(line.why for line in lines if line.why))
    cells = [
        (
            *line[:3],
            line.verdict
            + (f' ({reasons.index(line.why) + 1})' if line.why else ''),
        )
        for line in lines
    ]
    footnotes = [f'{n}. {why}.' for n, why in enumerate(reasons, 1)]
    blocks = [[title], configs, [table(COLUMNS, cells)], footnotes]
    blocks.append([f'- {remark}' for remark in remarks])
    return '\n\n'.join('\n'.join(block) for block in blocks if block)


def main() -> None:
    """Write the page."""
    PAGE.write_text(render())
    print(PAGE.relative_to(HOME))
