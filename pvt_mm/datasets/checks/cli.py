"""The command line of tools/check_dataset.py."""

import argparse
from collections.abc import Sequence
from contextlib import redirect_stdout

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from ...config.arguments import add_cfg_options, command_parser
from ...config.build_errors import building
from ...config.cfg_options import merge_options
from ...config.data_files import check_paths
from ...config.loading import load_config
from ...errors import UsageError
from .examine import check_annotation_files
from .fault_tolerant_pipeline import inner, make_fault_tolerant
from .report import Finding, lines
from .samples import check_samples

EACH = 20  # sentences of a kind that are written out


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Read everything that a training with this config would '
        'read, and say what is wrong; status 1 if something must be mended.'
    )
    p.add_argument('config', help='config file, for example configs/NAME.py')
    add_cfg_options(p)
    p.add_argument(
        '--images',
        type=number,
        default=None,
        metavar='N|all',
        help='how many images of each data set are read; all if not given',
    )
    p.add_argument(
        '--workers', type=int, default=2, help='processes that read images'
    )
    return p


def number(text: str) -> int | None:
    """A positive number, or None for 'all'."""
    if text == 'all':
        return None
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is neither N nor all')
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """Check the data of a config.

    Raises:
        UsageError: something must be mended, or the config is at fault.
    """
    args = parser().parse_args(argv)
    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options or {})
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    modes = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_paths(cfg, modes)
    findings = list(check_annotation_files(cfg, modes))
    looked = 0
    if not any(finding.mend for finding in findings):
        with building(cfg, args.config):
            for mode in modes:
                found, images = read_all(cfg, mode, args)
                findings += found
                looked += images
    for line in lines(findings, each=EACH):
        print(line)
    wrong = sum(finding.mend for finding in findings)
    notes = len(findings) - wrong
    state = f'{looked:,} images read' if looked else 'no image read yet'
    print(f'{state}; {wrong:,} to mend, {notes:,} to note')
    if wrong:
        raise UsageError(
            f'{wrong:,} of what was found must be mended before a training'
        )


def read_all(
    cfg: Config, mode: str, args: argparse.Namespace
) -> tuple[list[Finding], int]:
    """What is wrong with the samples of one mode, and how many were read."""
    with redirect_stdout(None):  # pycocotools tells what it does
        dataset = DATASETS.build(cfg[f'{mode}_dataloader'].dataset)
    training = mode == 'train'
    make_fault_tolerant(dataset, skip=training)
    found = check_samples(
        dataset, training=training, images=args.images, workers=args.workers
    )
    sizes = [len(part) for part in inner(dataset)]
    return list(found), sum(min(n, args.images or n) for n in sizes)
