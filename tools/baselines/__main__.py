"""Measure every case beside the baselines: ``make benchmark``.

On the CPU, results/benchmark*.csv and docs/performance.md are written; with
``--device cuda`` results/benchmark_cuda.csv and its machine.
"""

import sys

from render import performance

from pvt_mm.benchmark.cli import add_machine_arguments, prepare
from pvt_mm.benchmark.rows import Row, measure, rows_table
from pvt_mm.cli import run
from pvt_mm.config.arguments import command_parser
from pvt_mm.config.paths import HOME
from pvt_mm.models.layers.cpu import keep_freed_memory

from .cases import CASES, CASES_CUDA, PROFILED
from .results import FACTS, ROWS, SHARES, Fact, write_rows
from .shares import Share, profile_case, shares_table


def main() -> None:
    """Measure, and write the results."""
    parser = command_parser('Measure every case beside the baselines.')
    add_machine_arguments(parser)
    keep_freed_memory()
    device, facts = prepare(parser.parse_args())
    cuda, rows = device == 'cuda', []
    for case in CASES_CUDA if cuda else CASES:
        found = measure(case, device)
        print(rows_table(found), flush=True)
        rows += found
    end = '_cuda' if cuda else ''
    name = facts['GPU' if cuda else 'processor']
    write_rows(HOME / ROWS.with_stem(ROWS.stem + end), rows, Row, name)
    found = [Fact(*pair) for pair in facts.items()]
    write_rows(HOME / FACTS.with_stem(FACTS.stem + end), found, Fact, name)
    if not cuda:
        shares = [s for case in PROFILED for s in profile_case(case)]
        write_rows(HOME / SHARES, shares, Share, name)
        print(shares_table(shares))
        performance.main()
        print(performance.goals_table({name: rows}))


if __name__ == '__main__':
    sys.exit(run(main))
