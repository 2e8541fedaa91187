"""The command ``pvt_mm demo``."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ..config.arguments import command_parser
from ..errors import UsageError
from .models import Models, Run, find_runs

WORK = Path('work_dirs')
# Nobody else in the network sees the page unless asked for.
HERE = '127.0.0.1'


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'A page in the browser: choose a model and an image, see '
        f'the result. Without options, the models trained in {WORK}.'
    )
    p.add_argument(
        '--config', nargs='+', default=[], help='configs to choose from'
    )
    p.add_argument(
        '--weights', nargs='+', default=[], help='weights, one per config'
    )
    p.add_argument(
        '--device', help='cpu, cuda or cuda:N; a GPU if there is one'
    )
    p.add_argument('--port', type=int, default=7860)
    p.add_argument(
        '--host',
        default=HERE,
        help='0.0.0.0 for other machines, which are asked for a password '
        f'(default: {HERE})',
    )
    return p


def choose(args: argparse.Namespace) -> Mapping[str, Run]:
    """The models that the command line names, or those in work_dirs.

    Raises:
        UsageError: there is none, or not as many weights as configs.
    """
    if len(args.config) != len(args.weights):
        raise UsageError(
            f'{len(args.config)} --config and {len(args.weights)} --weights: '
            'give as many of the one as of the other'
        )
    pairs = zip(args.config, args.weights, strict=True)
    runs = {
        f'{Path(config).stem}: {Path(weights).name}': Run(config, weights)
        for config, weights in pairs
    }
    runs = runs or find_runs(WORK)
    if not runs:
        raise UsageError(
            f'no trained model in {WORK.absolute()}: train one (make train), '
            'or give --config and --weights'
        )
    return runs


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until it is stopped.

    Raises:
        UsageError: gradio is missing, or there is no model to show.
    """
    args = parser().parse_args(argv)
    if find_spec('gradio') is None:
        raise UsageError(
            "gradio is not installed: pip install 'gradio>=6' (the extra "
            'pvt_mm[demo])'
        )
    models = Models(choose(args), args.device)
    models.predictor(next(iter(models.runs)))  # errors before the page opens
    from .page import serve

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with TemporaryDirectory() as uploads:
        os.environ['GRADIO_TEMP_DIR'] = uploads
        serve(models, args.host, args.port)
