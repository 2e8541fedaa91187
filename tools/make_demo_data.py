#!/usr/bin/env python
"""Draw the demo data: a COCO-format and an ADE20K-format set of shapes."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pvt_mm.datasets import draw_all  # noqa: E402
from pvt_mm.engine.errors import UsageError  # noqa: E402


def count(text: str) -> int:
    """A number of images: at least 4, so that no special image is missing."""
    number = int(text)
    if number < 4:
        raise argparse.ArgumentTypeError(
            f'{number} is too few, 4 is the least'
        )
    return number


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/shapes', help='folder to make')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--images',
        type=count,
        default=1200,
        help='training images; a quarter more are held out',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        drawn = draw_all(args.out, args.images, args.seed)
    except (UsageError, OSError) as error:
        sys.exit(f'make_demo_data: {error}')
    print(f'{args.out}: {"drawn" if drawn else "complete already, reused"}')


if __name__ == '__main__':
    main()
