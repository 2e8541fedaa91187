"""The command ``flops``: parameters and multiply-adds of configs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..config.arguments import command_parser
from ..config.loading import load_model_config
from ..errors import UsageError
from .flops import count, size_of


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser('Count parameters and multiply-adds of configs.')
    p.add_argument('configs', nargs='+', help='config files')
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
    for name in args.configs:
        cfg = load_model_config(name)
        size = tuple(args.size or size_of(Path(name).stem))
        if min(size) < 32:
            raise UsageError(f'--size {size[0]} {size[1]}: at least 32 32')
        print(count(cfg, size).text(name, size))
