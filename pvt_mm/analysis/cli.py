"""The command line of tools/get_flops.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..engine.config_file import load_config
from ..engine.errors import UsageError
from ..home import checkout, list_configs
from .flops import count
from .table import (
    COUNTS,
    PAGE,
    count_all,
    render,
    size_of,
    write_counts,
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        description='Count parameters and multiply-adds of configs; without '
        f'any, of all, and write {COUNTS} and {PAGE}.'
    )
    p.add_argument('configs', nargs='*', help='config files')
    p.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the image; that of the published counts if not given',
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Count what the command line names.

    Raises:
        UsageError: a config or a size cannot be used.
    """
    args = parser().parse_args(argv)
    if not args.configs:
        if args.size:
            raise UsageError('--size needs a config: the table has its own')
        root = checkout('flops without a config')
        counts = count_all(list_configs())
        (root / PAGE).parent.mkdir(exist_ok=True)
        write_counts(root / COUNTS, counts)
        (root / PAGE).write_text(render(counts))
        print(f'{len(counts)} configs: {PAGE}')
    for name in args.configs:
        cfg = load_config(name)
        size = tuple(args.size or size_of(Path(name).stem))
        if min(size) < 32:
            raise UsageError(f'--size {size[0]} {size[1]}: at least 32 32')
        c = count(cfg, size)
        print(
            f'{name}, {size[0]}x{size[1]}: {c.params:.3f} M parameters, '
            f'{c.true:.3f} G multiply-adds ({c.published:.3f} G counted as '
            f'in the papers, {c.naive:.3f} G without attention products)'
        )
