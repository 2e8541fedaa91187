"""docs/performance.md and the README's table of goals."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from baselines.cases import GOALS, least
from baselines.results import FACTS, ROWS, SHARES, Fact, read_rows
from baselines.shares import Share, shares_table
from render.results import insert

from pvt_mm.benchmark.rows import Row, rows_table, stages_table, table
from pvt_mm.benchmark.variants import OURS
from pvt_mm.config.paths import HOME

PAGE = Path('docs/performance.md')
NOTES = Path('docs/performance_notes.md')
UNITS = {'speed': ' times', 'share': ' of the memory (with_cp)'}


def main(root: Path = HOME) -> None:
    """Write the page and the README's block.

    Args:
        root: of the checkout.
    """
    rows, facts = read_rows(root / ROWS, Row), read_rows(root / FACTS, Fact)
    shares = read_rows(root / SHARES, Share)
    goals = goals_table(rows)
    parts = [
        '# Performance',
        f'Written by `make benchmark` from `{ROWS}`; the notes are '
        f'`{NOTES}`. A second machine adds its numbers to those that are '
        'there.',
        'The baselines have the same weights and, asserted before every '
        'measurement, the same maps; their calls are interleaved; the '
        'numbers are medians with the fastest and the slowest call beside '
        'them. Training is forward and backward. "Saved" are the bytes that '
        'the forward pass saves for the backward pass, each storage once, '
        'without weights; "peak" is what the process grew by during a call. '
        '"Ours unoptimized" are the same layers with PyTorch\'s products and '
        'without bands (`PVT_MM_CPU=plain`).',
        '## Goals',
        goals,
        (root / NOTES).read_text().strip(),
        *(
            part
            for machine in rows
            for part in machine_parts(
                machine,
                rows[machine],
                facts[machine],
                shares.get(machine, ()),
            )
        ),
    ]
    (root / PAGE).write_text('\n\n'.join(parts) + '\n')
    readme = root / 'README.md'
    readme.write_text(insert(readme.read_text(), 'benchmark', goals))


def machine_parts(
    machine: str,
    rows: Sequence[Row],
    facts: Sequence[Fact],
    shares: Sequence[Share],
) -> list[str]:
    """The part of the page on one machine."""
    limits = {fact.name: fact.value for fact in facts}
    per_pixel, r2 = slope(rows, 'pvt_v2_b2_li')
    return [
        f'## {machine}',
        '; '.join(f'{fact.name}: {fact.value}' for fact in facts) + '.',
        rows_table(rows),
        'Shares of one profiled call of ours, with 10^9 operations per '
        'second where they can be counted; the limits: '
        f'{limits["product limit"]} in a large product, '
        f'{limits["memory limit"]} to memory.',
        shares_table(shares),
        'Stages, seconds in inference:',
        stages_table(rows),
        f'PVT v2 b2_li takes {per_pixel:.3f} s per million pixels: a '
        f'straight line through the sizes above has R2 = {r2:.4f}.',
    ]


def goals_table(measured: Mapping[str, Sequence[Row]]) -> str:
    """Every goal beside what was measured on each machine."""
    lines = []
    for goal in GOALS:
        cells = []
        for machine, rows in measured.items():
            value = goal.measured(rows)
            if value is None or not machine.startswith(goal.maker):
                cells.append('')
            else:
                met = 'met' if goal.met(value) else '**gap**'
                cells.append(f'{value:.2f} {met}')
        if any(cells):
            sign = '>=' if goal.field == 'speed' else '<='
            lines.append(
                (
                    f'{goal.name}, {goal.size[0]} x {goal.size[1]}',
                    goal.task,
                    f'{goal.maker} {sign} {goal.bound:g}{UNITS[goal.field]}, '
                    f'{goal.model}'.strip(),
                    *cells,
                )
            )
    worst = [least(rows) for rows in measured.values()]
    cells = ['' if value is None else f'{value:.2f}' for value in worst]
    lines.append(
        ('every case', 'both', '>= 0.98 times, ours unoptimized', *cells)
    )
    return table(('backbone', 'task', 'goal', *measured), lines)


def slope(rows: Iterable[Row], name: str) -> tuple[float, float]:
    """Seconds per million pixels of our inference, by least squares.

    Returns:
        the slope of the line, and its R squared.
    """
    points = [
        (row.height * row.width / 1e6, row.seconds)
        for row in rows
        if (row.name, row.model, row.task) == (name, OURS, 'inference')
    ]
    x, y = zip(*points, strict=True)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xy = sum((a - mx) * (b - my) for a, b in points)
    xx, yy = (sum((v - m) ** 2 for v in s) for s, m in ((x, mx), (y, my)))
    return xy / xx, xy**2 / (xx * yy)
