"""docs/performance.md and the README's table, from the measurements."""

from pathlib import Path

from ..config.paths import HOME
from . import report
from .rows import read_facts, read_rows
from .shares import read_shares, shares_table

ROWS = Path('results/benchmark.csv')
FACTS = Path('results/benchmark_machine.csv')
SHARES = Path('results/benchmark_shares.csv')
PAGE = Path('docs/performance.md')
PICTURE = Path('docs/performance.png')
EXPLAINED = Path('docs/performance_notes.md')


def render(root: Path = HOME) -> None:
    """Write the page, its picture and the README's block."""
    rows, facts = read_rows(root / ROWS), read_facts(root / FACTS)
    goals = report.goals_table(rows)
    found = read_shares(root / SHARES)
    per_pixel, straight = report.slope(rows, 'pvt_v2_b2_li')
    parts = [
        '# Performance',
        'Written by `make benchmark` from `results/benchmark.csv`; the notes '
        f'at the end are `{EXPLAINED}`.',
        report.machine_text(facts) + '.',
        'The contestants have the same weights and, asserted before every '
        'measurement, the same maps; they take turns; the numbers are '
        'medians with the fastest and the slowest call beside them. Training '
        'is forward and backward. "Kept" are the bytes that the forward pass '
        'keeps for the backward pass, each storage once, without weights; '
        '"peak" is what the process grew by during a call.',
        '## Goals',
        goals,
        '## Measurements',
        f'![seconds]({PICTURE.name})',
        report.rows_table(rows),
        '## Where our time goes',
        'Shares of one profiled call, with 10^9 operations per second where '
        f'they can be counted; the limits: {facts["product limit"]} in a '
        f'large product, {facts["memory limit"]} to memory.',
        shares_table(found),
        '## Stages, seconds in inference',
        report.stages_table(rows),
        f'PVT v2 b2_li takes {per_pixel:.3f} s per million pixels: a '
        f'straight line through the sizes above has R2 = {straight:.4f}.',
        (root / EXPLAINED).read_text().strip(),
    ]
    (root / PAGE).write_text('\n\n'.join(parts) + '\n')
    report.draw(root / PICTURE, rows, facts['processor'])
    report.insert(root / 'README.md', goals)
