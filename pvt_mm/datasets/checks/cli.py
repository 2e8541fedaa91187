"""The command ``check-dataset``: read all data of a config."""

import argparse
from collections.abc import Sequence
from contextlib import redirect_stdout

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import Dataset

from ...config.arguments import add_cfg_options, command_parser
from ...config.build_errors import building
from ...config.data_files import check_paths
from ...config.loading import open_config
from ...errors import UsageError
from .examine import check_annotation_files
from .fault_tolerant_pipeline import inner, make_fault_tolerant
from .ignored_labels import heads_of, metrics_of, set_ignored
from .report import Finding, counted, lines
from .samples import check_samples

EACH = 20  # findings of a kind that are printed


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Read everything that a training with this config would '
        'read, and list what is wrong; status 1 if anything must be fixed.'
    )
    p.add_argument('config', help='config file, for example configs/NAME.py')
    add_cfg_options(p)
    p.add_argument(
        '--images',
        type=count_or_all,
        default=None,
        metavar='N|all',
        help='number of images of each data set to read; all if not given',
    )
    p.add_argument(
        '--workers', type=int, default=2, help='processes that read images'
    )
    return p


def count_or_all(text: str) -> int | None:
    """A positive number, or None for 'all'."""
    if text == 'all':
        return None
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is neither N nor all')
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """Check the data of a config.

    Raises:
        UsageError: the data has errors, or the config cannot be used.
    """
    args = parser().parse_args(argv)
    cfg = open_config(args.config, args.cfg_options)
    modes = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_paths(cfg, modes)
    findings = list(check_annotation_files(cfg, modes))
    images = 0
    if not any(finding.error for finding in findings):
        for mode in modes:
            found, count = read_samples(cfg, mode, args)
            findings += found
            images += count
    for line in lines(findings, each=EACH):
        print(line)
    errors = sum(finding.error for finding in findings)
    said = counted(errors, 'error')
    notes = counted(len(findings) - errors, 'note')
    read = counted(images, 'image') if images else 'no image'
    print(f'{read} read; {said}, {notes}')
    if errors:
        raise UsageError(f'the data has {said}: to be fixed before a training')


def read_samples(
    cfg: Config, mode: str, args: argparse.Namespace
) -> tuple[list[Finding], int]:
    """Findings on the samples of one mode, and how many images were read.

    Args:
        cfg: the config.
        mode: 'train' or 'val'.
        args: the command line.
    """
    training = mode == 'train'
    with building(cfg, args.config), redirect_stdout(None):  # pycocotools
        dataset = DATASETS.build(cfg[f'{mode}_dataloader'].dataset)
        make_fault_tolerant(dataset, skip=training)
        if 'decode_head' in cfg.model:
            accept_ignored(cfg, mode, dataset)
    found = check_samples(
        dataset, training=training, images=args.images, workers=args.workers
    )
    sizes = [len(part) for part in inner(dataset)]
    return list(found), sum(min(n, args.images or n) for n in sizes)


def accept_ignored(cfg: Config, mode: str, dataset: Dataset) -> None:
    """Accept the labels that heads or metrics ignore, as a run does.

    Args:
        cfg: of a segmentor.
        mode: 'train' or 'val'.
        dataset: of the mode.
    """
    if mode == 'train':
        set_ignored(dataset, heads_of(MODELS.build(cfg.model)))
    else:
        evaluator = Evaluator(cfg[f'{mode}_evaluator'])
        set_ignored(dataset, metrics_of(evaluator, mode))
