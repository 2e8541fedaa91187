"""``pvt_mm analyze-log``: draw the curves of trainings."""

import argparse
from collections.abc import Sequence

from ..checkpoints.atomic import check_writable
from ..config.arguments import command_parser
from ..errors import UsageError, show
from ..reproduction.training_log import read_log
from .curves import draw_runs, summary


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    p = command_parser(
        'Draw loss, learning rate and scores of trainings in one '
        'picture, beside the published scores of their configs.'
    )
    p.add_argument('runs', nargs='+', help='work dirs, or logs')
    p.add_argument(
        '--out', required=True, metavar='FILE.png', help='picture to write'
    )
    p.add_argument(
        '--expected',
        nargs='+',
        default=[],
        metavar='LOG',
        help='published logs (scalars.json of mmengine, .log.json of mmdet 2 '
        'and mmseg 0, metrics.json of detectron2) to draw beside them',
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Draw what the command line names.

    Raises:
        UsageError: a log or the name of the picture cannot be used.
    """
    args = parser().parse_args(argv)
    check_picture(args.out)
    check_writable(args.out)
    runs = [read_log(path) for path in args.runs]
    logs = [read_log(path) for path in args.expected]
    draw_runs(args.out, runs, logs)
    for run in [*runs, *logs]:
        show(*summary(run))
    print(f'curves: {args.out}')


def check_picture(name: str) -> None:
    """Stop at a name that is not that of a picture.

    Raises:
        UsageError: its ending is not known.
    """
    endings = ('.png', '.jpg', '.pdf', '.svg')
    if not name.lower().endswith(endings):
        raise UsageError(
            f'--out {name}: the name must end with {", ".join(endings)}'
        )
