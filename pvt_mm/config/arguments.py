"""Options that several commands have."""

import argparse

from .cfg_options import Options


def command_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every command.

    Args:
        description: what the command does, for ``--help``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        '--debug',  # read by cli.run, whatever the parser makes of the rest
        action='store_true',
        help='show the traceback of an error too',
    )
    return parser


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` to a command."""
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
    """The number from 0 to 1 of an option.

    Raises:
        ArgumentTypeError: it is not in this range.
    """
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not in 0..1')
    return value


def count(text: str) -> int:
    """The whole number from 1 on of an option.

    Raises:
        ArgumentTypeError: it is smaller.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not 1 or more')
    return value
