"""The command ``draw-data``: draw a synthetic data set."""

import argparse
from collections.abc import Sequence

from ...config.arguments import command_parser
from .shapes import IMAGES, draw_all


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Draw a synthetic data set in the formats of COCO and of ADE20K.'
    )
    p.add_argument(
        '--out',
        default='data/shapes',
        help='folder to make (default: data/shapes)',
    )
    p.add_argument('--seed', type=int, default=0, help='default: 0')
    p.add_argument(
        '--images',
        type=image_count,
        default=IMAGES,
        help='training images (default: %(default)s); a quarter as many are '
        'drawn for validation',
    )
    return p


def image_count(text: str) -> int:
    """A number of images: at least 4, so that no special image is missing."""
    number = int(text)
    if number < 4:
        raise argparse.ArgumentTypeError(
            f'{number} is too few, 4 is the least'
        )
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Draw both formats into a folder.

    Raises:
        OSError: the folder cannot be written.
        UsageError: it holds something else.
    """
    args = parser().parse_args(argv)
    drawn = draw_all(args.out, args.images, args.seed)
    print(f'{args.out}: {"drawn" if drawn else "complete already, reused"}')
