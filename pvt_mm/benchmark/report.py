"""Tables and a picture of the measurements."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .cases import GOALS, US, Goal
from .rows import Row

BEGIN, END = '<!-- benchmark -->', '<!-- /benchmark -->'
UNITS = {'speed': ' times', 'memory': ' MiB', 'share': ' of the memory'}


def machine_text(facts: Mapping[str, str]) -> str:
    """One sentence about the machine."""
    return '; '.join(f'{name}: {value}' for name, value in facts.items())


def rows_table(rows: Sequence[Row]) -> str:
    """Every row, with our speed against it."""
    head = (
        *('backbone', 'image', 'task', 'who', 'seconds', 'spread'),
        *('images / s', 'ours is faster', 'kept MiB', 'peak MiB'),
    )
    lines = [head, ('---',) * len(head)]
    for row in rows:
        precision = '' if row.precision == 'float32' else f' {row.precision}'
        lines.append(
            (
                row.name,
                f'{row.batch} x {row.height} x {row.width}',
                row.task + precision,
                row.who,
                f'{row.seconds:.3f}',
                f'{row.low:.3f} to {row.high:.3f}',
                f'{row.batch / row.seconds:.2f}',
                f'{row.seconds / ours(rows, row).seconds:.2f}',
                number(row.saved),
                number(row.peak),
            )
        )
    return markdown(lines)


def ours(rows: Iterable[Row], row: Row) -> Row:
    """Our row of the same case."""
    return next(r for r in rows if r[:6] == row[:6] and r.who == US)


def number(value: float | None) -> str:
    """A whole number, or nothing."""
    return '' if value is None else f'{value:.0f}'


def goals_table(rows: Sequence[Row]) -> str:
    """Every goal beside what was measured."""
    head = ('backbone', 'image', 'task', 'goal', 'measured', '')
    lines = [head, ('---',) * len(head)]
    for goal in GOALS:
        value = reached(goal, rows)
        if value is None:
            continue
        sign = '>=' if goal.field == 'speed' else '<='
        against = '' if goal.who == US else f', {goal.who}'
        digits = 0 if goal.field == 'memory' else 2
        lines.append(
            (
                goal.name,
                f'{goal.size[0]} x {goal.size[1]}',
                goal.task,
                f'{sign} {goal.bound:g}{UNITS[goal.field]}{against}',
                f'{value:.{digits}f}',
                'met' if met(goal, value) else '**gap**',
            )
        )
    return markdown(lines)


def reached(goal: Goal, rows: Sequence[Row]) -> float | None:
    """What was measured for a goal, if it was."""
    found = {
        row.who: row
        for row in rows
        if (row.name, row.size, row.task) == goal[:3]
        and (row.batch, row.precision) == (1, 'float32')
    }
    if not {goal.who, US} <= set(found):
        return None
    us, them = found[US], found[goal.who]
    if goal.field == 'speed':
        return them.seconds / us.seconds
    return them.saved if goal.field == 'memory' else us.saved / them.saved


def met(goal: Goal, value: float) -> bool:
    """Whether a measured value is on the right side of its bound."""
    return (
        value >= goal.bound if goal.field == 'speed' else value <= goal.bound
    )


def stages_table(rows: Iterable[Row]) -> str:
    """Seconds of each stage of our backbones."""
    rows = [row for row in rows if row.stages]
    count = max((len(row.stages.split()) for row in rows), default=0)
    head = ('backbone', 'image', *(f'stage {i + 1}' for i in range(count)))
    lines = [head, ('---',) * len(head)]
    for row in rows:
        image = f'{row.height} x {row.width}'
        lines.append((row.name, image, *row.stages.split()))
    return markdown(lines)


def slope(rows: Iterable[Row], name: str) -> tuple[float, float]:
    """Seconds per million pixels of our inference, and how straight it is.

    The line of least squares and its R squared.
    """
    points = [
        (row.height * row.width / 1e6, row.seconds)
        for row in rows
        if (row.name, row.who, row.task) == (name, US, 'inference')
    ]
    x, y = zip(*points, strict=True)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xy = sum((a - mx) * (b - my) for a, b in points)
    xx, yy = (sum((v - m) ** 2 for v in s) for s, m in ((x, mx), (y, my)))
    return xy / xx, xy**2 / (xx * yy)


def markdown(lines: Iterable[Sequence[str]]) -> str:
    """Lines of cells as a table."""
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def insert(path: Path, text: str) -> bool:
    """Put text between the marks of a page; False if it has none."""
    page = path.read_text() if path.is_file() else ''
    block = re.compile(f'{BEGIN}.*?{END}', re.DOTALL)
    if not block.search(page):
        return False
    path.write_text(block.sub(lambda _: f'{BEGIN}\n{text}\n{END}', page))
    return True


def draw(file: Path, rows: Sequence[Row], title: str) -> None:
    """Bars of seconds, a panel per case."""
    from ..visualization.figures import pyplot, save

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
            '#0050ff' if r.who.startswith(US) else '#b0b0b0' for r in bars
        ]
        drawn = axes.barh(
            [row.who for row in bars],
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
