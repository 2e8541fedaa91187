"""The command line of tools/benchmark.py."""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from ..config.arguments import command_parser
from ..config.loading import load_config
from ..config.paths import checkout
from ..errors import UsageError
from . import page, report
from .baselines.build import MAKERS, build
from .cases import CASES, CASES_CUDA, PROFILED, Case
from .flops import build as build_whole
from .flops import count, count_run
from .forward import forward
from .machine import describe
from .measure import MIB, PRECISIONS, interleave, peak_bytes
from .rows import measure, write_facts, write_rows
from .shares import shares, shares_table, write_shares


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Measure speed and memory beside other libraries; '
        'without a target, all of the table, which is then kept.'
    )
    p.add_argument(
        'targets', nargs='*', help='pvt_v2_b2, mpvit_small, ... or configs'
    )
    p.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(512, 512),
        metavar=('HEIGHT', 'WIDTH'),
    )
    p.add_argument('--batch', type=int, default=1, help='images at a time')
    p.add_argument('--rounds', type=int, default=5, help='measured calls')
    p.add_argument('--train', action='store_true', help='backward too')
    p.add_argument(
        '--against', nargs='+', choices=list(MAKERS)[1:], default=()
    )
    p.add_argument('--precision', choices=PRECISIONS, default='float32')
    p.add_argument('--device', choices=['cpu', 'cuda'])
    p.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument(
        '--render', action='store_true', help='only write the page again'
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line names.

    Raises:
        UsageError: a target, size or device cannot be used.
    """
    args = parser().parse_args(argv)
    if args.render:
        page.render(checkout('benchmark --render'))
        return
    cuda = torch.cuda.is_available()
    device = args.device or ('cuda' if cuda else 'cpu')
    check(args, cuda, device)
    torch.set_num_threads(args.threads)
    facts = describe(device)
    print(report.machine_text(facts))
    if not args.targets:
        measure_all(device, facts)
    for target in args.targets:
        if Path(target).suffix == '.py':
            whole(target, args, device)
        else:
            backbone(target, args, device)


def check(args: argparse.Namespace, cuda: bool, device: str) -> None:
    """Stop at what cannot be measured."""
    if device == 'cuda' and not cuda:
        raise UsageError('--device cuda: torch finds no GPU here')
    if min(args.size) < 32:
        raise UsageError('--size: both numbers at least 32')
    if min(args.batch, args.rounds, args.threads) < 1:
        raise UsageError('--batch, --rounds and --threads: at least 1')


def measure_all(device: str, facts: dict[str, str]) -> None:
    """The whole table; on the CPU it is kept and the page written."""
    root, rows = checkout('benchmark without a target'), []
    for case in CASES_CUDA if device == 'cuda' else CASES:
        found = measure(case, device)
        print(report.rows_table(found), flush=True)
        rows += found
    end = '' if device == 'cpu' else '_cuda'
    for path, write, data in (
        (page.ROWS, write_rows, rows),
        (page.FACTS, write_facts, facts),
    ):
        write(root / path.with_stem(path.stem + end), data)
    if device == 'cpu':
        parts = [share for case in PROFILED for share in shares(case)]
        write_shares(root / page.SHARES, parts)
        print(shares_table(parts))
        page.render(root)
        print(report.goals_table(rows))


def backbone(name: str, args: argparse.Namespace, device: str) -> None:
    """One backbone: what it costs by count, and by the clock."""
    with torch.device('meta'):
        model = build(name).eval()
        image = torch.empty(1, 3, *args.size)
    cost = count_run(model, type(model).__name__, partial(model, image))
    print(cost_text(name, cost, args.size))
    task = 'training' if args.train else 'inference'
    case = Case(name, tuple(args.size), task, tuple(args.against))
    case = case._replace(
        rounds=args.rounds, batch=args.batch, precision=args.precision
    )
    rows = measure(case, device)
    print(report.rows_table(rows))
    if rows[0].stages:
        print(report.stages_table(rows))
    rate = 2 * cost.true * args.batch / rows[0].seconds
    passes = 3 if args.train else 1  # backward: two products for each
    print(f'{passes * rate:.0f} GFLOP/s in what is counted')


def whole(name: str, args: argparse.Namespace, device: str) -> None:
    """The whole model of a config and its backbone, in inference."""
    if args.train or args.against or args.precision != 'float32':
        raise UsageError(
            f'{name}: --train, --against and --precision are for backbones; '
            'name one, such as pvt_v2_b2'
        )
    cfg = load_config(name)
    size = tuple(args.size)
    print(cost_text(name, count(cfg, size), size))
    model = build_whole(cfg, device)
    image = torch.randn(args.batch, 3, *size, device=device)

    def without_gradients(call) -> None:
        with torch.no_grad():
            call()
        if device == 'cuda':
            torch.cuda.synchronize()

    calls = {
        'whole': partial(without_gradients, partial(forward, model, image)),
        'backbone': partial(without_gradients, partial(model.backbone, image)),
    }
    for part, times in interleave(calls, args.rounds).items():
        peak = peak_bytes(calls[part], device == 'cuda')
        text = '' if peak is None else f', peak {peak / MIB:.0f} MiB'
        print(
            f'{part}: {median(times):.3f} s ({min(times):.3f} to '
            f'{max(times):.3f}){text}'
        )


def cost_text(name: str, cost, size: Sequence[int]) -> str:
    """What was counted."""
    return (
        f'{name}, {size[0]}x{size[1]}: {cost.params:.3f} M parameters, '
        f'{cost.true:.3f} G multiply-adds ({cost.published:.3f} G counted as '
        'in the papers)'
    )
