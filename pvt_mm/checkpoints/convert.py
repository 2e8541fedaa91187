"""Convert a weight file from one checkpoint format to another."""

from collections.abc import Sequence

from ..config.arguments import command_parser
from ..errors import CheckpointError, show
from .download import locate
from .formats import FORMATS, Converted, check_names, from_ours, to_ours
from .io import check_target, read_weights, write_weights

NAMES = tuple(dict.fromkeys(known.name for known in FORMATS))


def convert(
    source: str,
    target: str,
    to: str = 'pvt_mm',
    *,
    name: str = '',
    force: bool = False,
) -> list[str]:
    """Write a copy of source in another checkpoint format.

    Args:
        source: ``pvt://NAME``, an http(s) address or a file.
        target: file to write, .pth or .safetensors.
        to: format of the copy.
        name: of the set of weights, where source has several.
        force: replace target if it is there.

    Returns:
        lines that say what was done.

    Raises:
        CheckpointError: source cannot be read, holds what no backbone of
            its family has, or has no such form.
    """
    check_target(target, force=force)
    path = locate(source)
    weights = read_weights(path, name)
    try:
        ours = result = to_ours(weights)
        check_names(ours.state)
        container = 'state_dict'
        lines = [f'{path}: {ours.format}, {len(weights)} tensors']
        lines += counts(ours)
        if to != 'pvt_mm':
            result = from_ours(ours.state, to)
            container = result.format.container
            lines += [f'to {result.format}', *counts(result)]
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    write_weights(target, result.state, container=container, force=force)
    return [*lines, f'{target}: {to}, {len(result.state)} tensors']


def counts(converted: Converted) -> list[str]:
    """A line for each row of a report: tensors and what was done."""
    return [f'  {n:5d} {what}' for what, n in converted.report.items()]


def main(argv: Sequence[str] | None = None) -> None:
    """Convert the file that the command line names."""
    p = command_parser(__doc__)
    p.add_argument('source', help='pvt://NAME, an address or a file')
    p.add_argument('target', help='file to write: .pth or .safetensors')
    p.add_argument(
        '--to',
        choices=NAMES,
        default='pvt_mm',
        help='format of the copy; ours if not given',
    )
    p.add_argument(
        '--set',
        default='',
        metavar='NAME',
        help='which weights of a file with several, such as state_dict_ema '
        'or teacher',
    )
    p.add_argument(
        '--force', action='store_true', help='replace a file that is there'
    )
    args = p.parse_args(argv)
    options = dict(name=args.set, force=args.force)
    show(*convert(args.source, args.target, args.to, **options))
