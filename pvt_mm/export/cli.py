"""``pvt_mm export``: write a model as an ONNX or .pt2 file."""

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from ..checkpoints.atomic import check_writable, write_whole
from ..config.arguments import command_parser
from ..errors import UsageError
from .check import compare, runner
from .program import to_onnx, to_pt2, trace
from .target import Target, load_target

# Libraries that a kind of file needs to be written, and to be run.
NEEDS = {'.onnx': (['onnx', 'onnxscript'], ['onnxruntime']), '.pt2': ([], [])}


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    p = command_parser(
        'Write a backbone, or the model of a config, as a file that runs '
        'without pvt_mm: images -> maps, logits, label maps or objects.'
    )
    p.add_argument('target', help='config, or a backbone such as pvt_v2_b2')
    p.add_argument(
        'weights', nargs='?', help='pvt://NAME, an address or a file'
    )
    p.add_argument('--out', required=True, help='FILE.onnx or FILE.pt2')
    p.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(512, 512),
        metavar=('HEIGHT', 'WIDTH'),
        help='of the image, for --fixed and for the latency of --check; 512 '
        '512 if not given',
    )
    p.add_argument(
        '--fixed',
        action='store_true',
        help='one image of one size, in place of any batch and any size',
    )
    p.add_argument(
        '--with-preprocessing',
        action='store_true',
        help='images are uint8 and BGR, as OpenCV reads them; the file '
        'normalizes them',
    )
    p.add_argument(
        '--argmax',
        action='store_true',
        help='of a segmentor the class of each pixel, in place of logits',
    )
    p.add_argument(
        '--half',
        action='store_true',
        help='keep the weights as float16: an .onnx file of half the size, '
        'which computes in float32',
    )
    p.add_argument(
        '--check',
        action='store_true',
        help='write only what gives the same as the model, and time both',
    )
    p.add_argument(
        '--force', action='store_true', help='replace a file that is there'
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Export what the command line names.

    Raises:
        UsageError: something given cannot be used, or the file would give
            other results than the model.
        CheckpointError: the weights are not there or do not fit.
    """
    args = parser().parse_args(argv)
    out = Path(args.out)
    check_out(out, args.force)
    check_libraries(out.suffix, args.check)
    if args.half and out.suffix != '.onnx':
        raise UsageError('--half is for .onnx files')
    found = load_target(
        args.target,
        args.weights,
        argmax=args.argmax,
        raw=args.with_preprocessing,
        half=args.half,
    )
    size = check_size(found, tuple(args.size), args.fixed)
    for remark in found.remarks:
        print(remark)
    data = export(found, out.suffix, size, args.half)
    if args.check:
        run = runner(data, out.suffix)
        for line in compare(found, run, size, tuple(args.size)):
            print(line)
    write_whole(out, data, force=args.force)
    print(f'{out}: {", ".join(found.outputs)}; {len(data) / 2**20:.1f} MiB')


def check_out(out: Path, force: bool) -> None:
    """Stop before the export if the file cannot be written.

    Raises:
        OSError: nothing can be written there.
        UsageError: wrong suffix, an existing file, or no such folder.
    """
    if out.suffix not in NEEDS:
        raise UsageError(f'--out {out} must end with .onnx or .pt2')
    if os.path.lexists(out) and not force:
        raise UsageError(f'--out {out} is there already: use --force')
    folder = out.absolute().parent
    if not folder.is_dir():
        raise UsageError(f'--out {out}: {folder} is no folder: make it first')
    check_writable(out)


def check_libraries(suffix: str, check: bool) -> None:
    """Stop if a library is missing or too old.

    Raises:
        UsageError: names the missing libraries.
    """
    if torch.__version__ < '2.7':  # before, no Dim.DYNAMIC(min=...)
        raise UsageError(
            f'torch {torch.__version__} cannot export these models: pip '
            "install 'torch>=2.7'"
        )
    write, run = NEEDS[suffix]
    wanted = [*write, *(run if check else [])]
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise UsageError(
            f'{suffix} needs {" and ".join(missing)}: pip install '
            "'pvt_mm[export]'"
        )


def check_size(
    found: Target, size: tuple[int, int], fixed: bool
) -> tuple[int, int] | None:
    """Height and width of a fixed image; None for any size.

    Raises:
        UsageError: the size is too small for the model.
    """
    least = found.backbone.smallest if fixed else found.smallest
    if min(size) < least:
        raise UsageError(
            f'--size {size[0]} {size[1]}: at least {least} {least}'
        )
    return size if fixed else None


def export(
    found: Target,
    suffix: str,
    size: tuple[int, int] | None,
    half: bool = False,
) -> bytes:
    """The content of the file.

    Args:
        found: what is exported.
        suffix: .onnx or .pt2.
        size: fixed height and width; None for any.
        half: keep the weights as float16.
    """
    channels = found.backbone.in_channels
    sides = f'{size[0]}, {size[1]}' if size else 'H, W'
    shape = f'image ({1 if size else "B"}, {channels}, {sides})'
    about = {
        **found.about,
        'input': f'{shape}, uint8: as OpenCV reads it'
        if found.raw
        else f'{shape}, float32: values from 0 to 255, minus mean, by std',
        'smallest': list(size or [found.smallest] * 2),
    }
    if found.raw:
        about |= {'mean': [0.0] * channels, 'std': [1.0] * channels}
        about |= {'channels': 'BGR'}
    program = trace(found.model, channels, size, found.smallest, found.raw)
    if suffix == '.pt2':
        return to_pt2(program, about)
    least = 0 if size else found.smallest
    return to_onnx(program, about, found.outputs, half, least)
