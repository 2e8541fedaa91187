"""The command ``benchmark``: speed and memory of backbones and configs."""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from ..config.arguments import command_parser, count
from ..config.loading import load_model_config
from ..errors import UsageError
from ..families import split_name
from ..models.backbones import build_backbone
from . import flops
from .forward import forward
from .machine import describe
from .measure import MIB, PRECISIONS, finish, interleave, peak_bytes
from .rows import Case, measure, rows_table, stages_table
from .variants import BASELINES, OURS, VARIANTS


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser('Measure speed and memory of backbones and configs.')
    p.add_argument(
        'targets', nargs='+', help='pvt_v2_b2, mpvit_small, ... or configs'
    )
    p.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(512, 512),
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images (default: 512 512)',
    )
    p.add_argument(
        '--batch', type=count, default=1, help='images at a time (default: 1)'
    )
    p.add_argument(
        '--rounds', type=count, default=5, help='measured calls (default: 5)'
    )
    p.add_argument('--train', action='store_true', help='backward too')
    p.add_argument(
        '--against',
        nargs='+',
        choices=[n for n in (*VARIANTS, *BASELINES) if n != OURS],
        default=(),
        help='compare with variants of the backbone, and in a checkout with '
        'the same backbone of other libraries',
    )
    p.add_argument('--precision', choices=PRECISIONS, default='float32')
    add_machine_arguments(p)
    return p


def add_machine_arguments(p: argparse.ArgumentParser) -> None:
    """``--device`` and ``--threads``."""
    p.add_argument('--device', choices=['cpu', 'cuda'])
    add_threads(p)


def add_threads(p: argparse.ArgumentParser) -> None:
    """``--threads``, as many as cores unless given."""
    cores = len(os.sched_getaffinity(0))
    p.add_argument('--threads', type=count, default=cores)


def prepare(args: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """Set the threads and print the machine -> device, facts about it.

    Raises:
        UsageError: there is no such device.
    """
    cuda = torch.cuda.is_available()
    device = args.device or ('cuda' if cuda else 'cpu')
    if device == 'cuda' and not cuda:
        raise UsageError('--device cuda: torch finds no GPU here')
    torch.set_num_threads(args.threads)
    facts = describe(device)
    print('; '.join(f'{name}: {value}' for name, value in facts.items()))
    return device, facts


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line names.

    Raises:
        UsageError: a target, size or device cannot be used.
    """
    args = parser().parse_args(argv)
    if min(args.size) < 32:
        raise UsageError('--size: both numbers at least 32')
    device, _ = prepare(args)
    for target in args.targets:
        if split_name(target) and not Path(target).is_file():
            measure_backbone(target, args, device)
        else:
            measure_config(target, args, device)


def measure_backbone(name: str, args: argparse.Namespace, device: str) -> None:
    """Print the FLOPs, seconds and memory of one backbone."""
    with torch.device('meta'):
        model = build_backbone(name).eval()
        image = torch.empty(1, 3, *args.size)
    cost = flops.count_run(model, type(model).__name__, partial(model, image))
    print(cost.text(name, args.size))
    task = 'training' if args.train else 'inference'
    case = Case(
        *(name, tuple(args.size), task, tuple(args.against)),
        *(args.rounds, args.batch, args.precision),
    )
    rows = measure(case, device)
    print(rows_table(rows))
    if rows[0].stages:
        print(stages_table(rows))
    rate = 2 * cost.true * args.batch / rows[0].seconds
    passes = 3 if args.train else 1  # backward: two products for each
    print(f'{passes * rate:.0f} GFLOP/s in what is counted')


def measure_config(name: str, args: argparse.Namespace, device: str) -> None:
    """Print the FLOPs, seconds and memory of a config's model and backbone.

    In inference only.
    """
    if args.train or args.against or args.precision != 'float32':
        raise UsageError(
            f'{name}: --train, --against and --precision are for backbones; '
            'name one, such as pvt_v2_b2'
        )
    cfg = load_model_config(name)
    size = tuple(args.size)
    print(flops.count(cfg, size).text(name, size))
    model = flops.build(cfg, device)
    image = torch.randn(args.batch, 3, *size, device=device)
    calls = {
        'model': partial(finish, partial(forward, model, image), device),
        'backbone': partial(finish, partial(model.backbone, image), device),
    }
    for part, times in interleave(calls, args.rounds).items():
        peak = peak_bytes(calls[part], device == 'cuda')
        text = '' if peak is None else f', peak {peak / MIB:.0f} MiB'
        print(
            f'{part}: {median(times):.3f} s ({min(times):.3f} to '
            f'{max(times):.3f}){text}'
        )
