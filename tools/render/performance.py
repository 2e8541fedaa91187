"""docs/performance.md, its picture and the README's table of goals."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from baselines.cases import GOALS
from baselines.results import FACTS, ROWS, SHARES, read_facts, read_rows
from baselines.shares import Share, shares_table
from render.results import insert

from pvt_mm.benchmark.rows import Row, rows_table, stages_table, table
from pvt_mm.benchmark.variants import OURS
from pvt_mm.config.paths import HOME
from pvt_mm.visualization.figures import pyplot, save

PAGE = Path('docs/performance.md')
PICTURE = Path('docs/performance.png')
NOTES = Path('docs/performance_notes.md')
UNITS = {'speed': ' times', 'memory': ' MiB', 'share': ' of the memory'}


def main(root: Path = HOME) -> None:
    """Write the page, its picture and the README's block.

    Args:
        root: of the checkout.
    """
    rows, facts = read_rows(root / ROWS, Row), read_facts(root / FACTS)
    goals = goals_table(rows)
    machine = '; '.join(f'{name}: {value}' for name, value in facts.items())
    per_pixel, r2 = slope(rows, 'pvt_v2_b2_li')
    parts = [
        '# Performance',
        f'Written by `make benchmark` from `{ROWS}`; the notes at the end '
        f'are `{NOTES}`.',
        f'{machine}.',
        'The baselines have the same weights and, asserted before every '
        'measurement, the same maps; their calls are interleaved; the '
        'numbers are medians with the fastest and the slowest call beside '
        'them. Training is forward and backward. "Saved" are the bytes that '
        'the forward pass saves for the backward pass, each storage once, '
        'without weights; "peak" is what the process grew by during a call.',
        '## Goals',
        goals,
        '## Measurements',
        f'![seconds]({PICTURE.name})',
        rows_table(rows),
        '## Shares of the time',
        'Shares of one profiled call of ours, with 10^9 operations per '
        'second where they can be counted; the limits: '
        f'{facts["product limit"]} in a large product, '
        f'{facts["memory limit"]} to memory.',
        shares_table(read_rows(root / SHARES, Share)),
        '## Stages, seconds in inference',
        stages_table(rows),
        f'PVT v2 b2_li takes {per_pixel:.3f} s per million pixels: a '
        f'straight line through the sizes above has R2 = {r2:.4f}.',
        (root / NOTES).read_text().strip(),
    ]
    (root / PAGE).write_text('\n\n'.join(parts) + '\n')
    draw(root / PICTURE, rows, facts['processor'])
    readme = root / 'README.md'
    readme.write_text(insert(readme.read_text(), 'benchmark', goals))


def goals_table(rows: Sequence[Row]) -> str:
    """Every goal beside what was measured."""
    lines = []
    for goal in GOALS:
        value = goal.measured(rows)
        if value is None:
            continue
        sign = '>=' if goal.field == 'speed' else '<='
        against = '' if goal.model == OURS else f', {goal.model}'
        digits = 0 if goal.field == 'memory' else 2
        lines.append(
            (
                goal.name,
                f'{goal.size[0]} x {goal.size[1]}',
                goal.task,
                f'{sign} {goal.bound:g}{UNITS[goal.field]}{against}',
                f'{value:.{digits}f}',
                'met' if goal.met(value) else '**gap**',
            )
        )
    return table(('backbone', 'image', 'task', 'goal', 'measured', ''), lines)


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


def draw(file: Path, rows: Sequence[Row], title: str) -> None:
    """Bars of seconds, a panel per case."""
    cases = list(dict.fromkeys(row[:6] for row in rows))
    cases = [c for c in cases if sum(r[:6] == c for r in rows) > 1]
    figure, panels = pyplot.subplots(
        *(len(cases), 1),
        figsize=(8, 1.5 * len(cases)),
        layout='constrained',
        squeeze=False,
    )
    figure.suptitle(title, fontsize=9)
    for axes, case in zip(panels[:, 0], cases, strict=True):
        bars = [row for row in rows if row[:6] == case][::-1]
        colours = [
            '#0050ff' if r.model.startswith(OURS) else '#b0b0b0' for r in bars
        ]
        drawn = axes.barh(
            [row.model for row in bars],
            [row.seconds for row in bars],
            color=colours,
        )
        axes.bar_label(drawn, fmt='%.2f s', padding=3, fontsize=8)
        axes.margins(x=0.12)
        name, height, width, batch, task, precision = case
        axes.set_title(
            f'{name}, {task}, {batch} x {height} x {width}, {precision}',
            fontsize=9,
        )
    save(figure, file)
