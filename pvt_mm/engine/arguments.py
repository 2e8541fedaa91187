"""Arguments that several verbs have."""

import argparse

from .options import Options


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='change the config: a.b.0.c=1, list=[1,2]; a key that nothing '
        'reads is an error and +KEY=VALUE adds it anyway; data_root=FOLDER '
        "moves every path below the config's data root",
    )


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not in 0..1')
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not 1 or more')
    return value
