"""Official recipes and ours -> docs/recipes.md."""

from collections.abc import Mapping, Sequence

from render.describe import describe
from render.grammar import DATA, METHODS, SCHEDULES
from render.official import FOLDER, Line, compare, notes, read

from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import HOME
from pvt_mm.families import FAMILIES

PAGE = FOLDER.parent / 'recipes.md'
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

Key = tuple[tuple[Line, ...], tuple[str, ...]]


def render() -> str:
    """The page."""
    groups: dict[Key, list[Mapping[str, str]]] = {}
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
    """One recipe: its configs, their sources, its table and remarks."""
    first, others = rows[0]['config'], len(rows) - 1
    title = f'## {first}' + (f' and {others} more' if others else '')
    configs = [
        f'- [{row["config"]}](../configs/{row["config"]}.py): {row["recipe"]}'
        for row in rows
    ]
    reasons = list(dict.fromkeys(line.why for line in lines if line.why))
    table = [
        '| hyper-parameter | official | ours | equal |',
        '| --- | --- | --- | --- |',
        *(table_line(line, reasons) for line in lines),
    ]
    footnotes = [f'{n}. {why}.' for n, why in enumerate(reasons, 1)]
    blocks = [[title], configs, table, footnotes]
    blocks.append([f'- {remark}' for remark in remarks])
    return '\n\n'.join('\n'.join(block) for block in blocks if block)


def table_line(line: Line, reasons: Sequence[str]) -> str:
    """One hyper-parameter."""
    mark = f' ({reasons.index(line.why) + 1})' if line.why else ''
    return (
        f'| {line.name} | {line.official} | {line.ours} | '
        f'{line.verdict}{mark} |'
    )


def main() -> None:
    """Write the page."""
    root = HOME
    PAGE.write_text(render())
    print(PAGE.relative_to(root))
