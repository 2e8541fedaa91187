"""The command line of tools/make_demo_data.py."""

import argparse
from collections.abc import Sequence

from ...config.arguments import command_parser
from ...errors import UsageError
from .shapes import draw_all


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Draw the demo data: a COCO-format and an ADE20K-format set of shapes.'
    )
    p.add_argument('--out', default='data/shapes', help='folder to make')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument(
        '--images',
        type=count,
        default=1200,
        help='training images; a quarter more are held out',
    )
    return p


def count(text: str) -> int:
    """A number of images: at least 4, so that no special image is missing."""
    number = int(text)
    if number < 4:
        raise argparse.ArgumentTypeError(
            f'{number} is too few, 4 is the least'
        )
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Draw what the command line names.

    Raises:
        UsageError: the folder holds something else or cannot be written.
    """
    args = parser().parse_args(argv)
    try:
        drawn = draw_all(args.out, args.images, args.seed)
    except OSError as error:
        raise UsageError(f'{args.out} cannot be drawn: {error}') from error
    print(f'{args.out}: {"drawn" if drawn else "complete already, reused"}')
