"""The command ``pvt_mm browse-dataset``."""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.progress import track

from ..checkpoints.atomic import check_writable, write_image
from ..config.arguments import add_cfg_options, command_parser, count
from ..config.build_errors import building
from ..config.data_files import check_paths
from ..config.loading import open_config
from ..errors import UsageError
from .browse import Batches

OUT = Path('work_dirs/browse')


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Draw what the network gets: images after augmentation and padding, '
        'with their boxes, masks, label maps or classes.'
    )
    p.add_argument('config', help='config file, for example configs/NAME.py')
    p.add_argument(
        '--out',
        type=Path,
        default=OUT,
        help=f'folder of pictures (default: {OUT})',
    )
    p.add_argument(
        '--number',
        type=count,
        default=20,
        metavar='N',
        help='of pictures (default: 20)',
    )
    p.add_argument('--split', choices=['train', 'val'], default='train')
    p.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of order and augmentation (default: 0)',
    )
    add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Draw images of the data set that the command line names.

    Raises:
        UsageError: the config or the data cannot be used.
    """
    args = parser().parse_args(argv)
    check_writable(args.out, folder=True)
    cfg = open_config(args.config, args.cfg_options)
    if not cfg.get(f'{args.split}_dataloader'):
        raise UsageError(f'{args.config} has no {args.split}_dataloader')
    check_paths(cfg, (args.split,))
    with building(cfg, args.config):
        batches = Batches(cfg, args.split, args.seed)
    views = track(islice(batches, args.number), 'images', total=args.number)
    drawn = 0
    for drawn, view in enumerate(views, 1):
        name = '_'.join(filter(None, [f'{drawn:04}', view.name]))
        write_image(args.out / f'{name}.png', batches.draw(view))
    print(f'{drawn} pictures of {args.split}: {args.out}')
