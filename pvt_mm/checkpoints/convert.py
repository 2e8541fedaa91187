"""Convert a weight file from one dialect to another."""

from collections.abc import Sequence

from ..config.arguments import command_parser
from ..errors import CheckpointError
from .download import locate
from .formats import DIALECTS, check_names, from_ours, to_ours
from .io import read_weights, write_weights

NAMES = tuple(dict.fromkeys(dialect.name for dialect in DIALECTS))


def convert(
    source: str, target: str, to: str = 'pvt_mm', *, force: bool = False
) -> list[str]:
    """Write a copy of source in another dialect.

    Args:
        source: ``pvt://NAME``, an http(s) address or a file.
        target: file to write, .pth or .safetensors.
        to: dialect of the copy.
        force: replace target if it is there.

    Returns:
        lines that say what was done.

    Raises:
        CheckpointError: source cannot be read, holds what no backbone of
            its family has, or has no such form.
    """
    path = locate(source)
    weights = read_weights(path)
    try:
        found, ours = to_ours(weights)
        check_names(ours.state)
        result, container = ours, 'state_dict'
        lines = [f'{path}: {found}, {len(weights)} tensors']
        lines += [f'  {n:5d} {what}' for what, n in ours.report.items()]
        if to != 'pvt_mm':
            target_found, result = from_ours(ours.state, to)
            container = target_found.dialect.container
            lines.append(f'to {target_found}')
            lines += [f'  {n:5d} {what}' for what, n in result.report.items()]
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    write_weights(target, result.state, container=container, force=force)
    return [*lines, f'{target}: {to}, {len(result.state)} tensors']


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of tools/convert_checkpoint.py."""
    p = command_parser(__doc__)
    p.add_argument('source', help='pvt://NAME, an address or a file')
    p.add_argument('target', help='file to write: .pth or .safetensors')
    p.add_argument(
        '--to',
        choices=NAMES,
        default='pvt_mm',
        help='dialect of the copy; ours if not given',
    )
    p.add_argument(
        '--force', action='store_true', help='replace a file that is there'
    )
    args = p.parse_args(argv)
    for line in convert(args.source, args.target, args.to, force=args.force):
        print(line)
