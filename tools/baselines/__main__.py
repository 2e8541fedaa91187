"""Measure every case beside the baselines: ``make benchmark``.

It writes results/benchmark*.csv and docs/performance.md, on the CPU;
``make benchmark-gpu`` is baselines.gpu.
"""

import sys

from render import performance

from pvt_mm.benchmark.cli import add_threads, prepare
from pvt_mm.benchmark.rows import Row, measure, rows_table
from pvt_mm.cli import run
from pvt_mm.config.arguments import command_parser
from pvt_mm.config.paths import HOME
from pvt_mm.models.layers.cpu import keep_freed_memory

from .cases import CASES, PROFILED
from .results import FACTS, ROWS, SHARES, Fact, write_rows
from .shares import Share, profile_case, shares_table


def main() -> None:
    """Measure, and write the results."""
    parser = command_parser('Measure every case beside the baselines.')
    add_threads(parser)
    parser.set_defaults(device='cpu')
    keep_freed_memory()
    device, facts = prepare(parser.parse_args())
    name, rows = facts['processor'], []
    for case in CASES:
        found = measure(case, device)
        print(rows_table(found), flush=True)
        rows += found
        write_rows(HOME / ROWS, rows, Row, name)
    shares = [s for case in PROFILED for s in profile_case(case)]
    print(shares_table(shares))
    machine = [Fact(*pair) for pair in facts.items()]
    write_rows(HOME / FACTS, machine, Fact, name)
    write_rows(HOME / SHARES, shares, Share, name)
    performance.main()
    print(performance.goals_table({name: rows}))


if __name__ == '__main__':
    sys.exit(run(main))
