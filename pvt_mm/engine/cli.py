"""The two verbs: train and test."""

import argparse
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.dist import get_world_size

from ..data_check.examine import check_before, check_samples_of
from ..data_check.guard import CarefulRunner
from .arguments import add_cfg_options
from .batch import WAYS, default_way, fit_batch
from .building import building
from .channels import check_channels
from .ending import run
from .gate import check_fit
from .preflight import check_data, check_dataset, check_weights
from .processes import start_processes
from .settings import train_config
from .testing import test_config

__all__ = ['run', 'test', 'train']


def parser(about: str) -> argparse.ArgumentParser:
    """The options that both verbs have."""
    p = argparse.ArgumentParser(description=about)
    p.add_argument('config', help='config file, for example configs/NAME.py')
    p.add_argument(
        '--work-dir', help='folder of logs; work_dirs/NAME if not given'
    )
    add_cfg_options(p)
    p.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes',
    )
    p.add_argument(
        '--no-data-check',
        action='store_true',
        help='start without a look at the annotations and some images',
    )
    p.add_argument('--local-rank', '--local_rank', help=argparse.SUPPRESS)
    return p


def train_parser() -> argparse.ArgumentParser:
    """The options of training."""
    p = parser('Train a detector or segmentor.')
    p.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint; without a name, from the last one '
        'in the work dir',
    )
    p.add_argument(
        '--amp',
        nargs='?',
        choices=['fp16', 'bf16'],
        const='fp16',
        help='mixed precision: fp16 if not said (needs a GPU), or bf16',
    )
    p.add_argument(
        '--compile', action='store_true', help='compile the backbone'
    )
    p.add_argument(
        '--batch',
        choices=WAYS,
        help="if the total batch is not the recipe's: accumulate gradients "
        'up to it (or scale the learning rate if that does not come out '
        'even), scale the learning rate, or leave it; the first, unless '
        '--cfg-options set a schedule or learning rate',
    )
    p.add_argument(
        '--auto-scale-lr',
        action='store_const',
        const='scale-lr',
        dest='batch',
        help='the same as --batch scale-lr',
    )
    p.add_argument(
        '--deterministic',
        action='store_true',
        help='the same numbers from two runs on the same machine; slower',
    )
    p.add_argument(
        '--allow-partial-weights',
        action='store_true',
        help='start although the weights miss parameters of the backbone',
    )
    return p


def test_parser() -> argparse.ArgumentParser:
    """The options of testing."""
    p = parser('Evaluate a trained detector or segmentor.')
    p.add_argument('checkpoint', help='weights of the whole model')
    p.add_argument(
        '--out', help='keep predictions: FILE.pkl, or a folder of label maps'
    )
    p.add_argument('--show-dir', help='folder for painted predictions')
    p.add_argument(
        '--tta',
        action='store_true',
        help='also test mirrored (segmentation: and scaled) images',
    )
    return p


def train(argv: Sequence[str] | None = None) -> None:
    """Train what the command line describes."""
    args = train_parser().parse_args(argv)
    cfg = train_config(args)
    modes = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_data(cfg, modes)
    check_weights(cfg)
    if not args.no_data_check:
        check_before(cfg, modes)
    start_processes(cfg, args.launcher)
    way = args.batch or default_way(args.cfg_options or {})
    fit_batch(cfg, get_world_size(), way)
    runs = runner_type(cfg)
    with building(cfg, args.config):
        runner = runs.from_cfg(cfg)
        check_channels(cfg.model, runner.model)
        check_dataset(cfg, runner.train_loop.dataloader.dataset)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if not args.no_data_check:
            check_samples_of(runner, modes)
    if cfg.get('load_from'):
        part = '' if cfg.get('resume') else 'backbone.'
        partial = args.allow_partial_weights
        check_fit(runner.model, cfg.load_from, part, allow_partial=partial)
    # schedulers and evaluators are built when it starts
    with building(cfg, args.config, all_errors=False):
        runner.train()


def runner_type(cfg: Config) -> type[CarefulRunner]:
    """Who runs a training: one of its own if a strategy divides the model."""
    if not cfg.get('strategy'):
        return CarefulRunner
    from .fsdp import FSDPRunner, prepare_fsdp

    prepare_fsdp(cfg)
    return FSDPRunner


def test(argv: Sequence[str] | None = None) -> None:
    """Test what the command line describes."""
    args = test_parser().parse_args(argv)
    cfg = test_config(args)
    check_data(cfg, ('test',))
    if not args.no_data_check:
        check_before(cfg, ('test',))
    start_processes(cfg, args.launcher)
    with building(cfg, args.config):
        runner = CarefulRunner.from_cfg(cfg)
        check_dataset(cfg, runner.test_loop.dataloader.dataset)
        if not args.no_data_check:
            check_samples_of(runner, ('test',))
    check_fit(runner.model, cfg.load_from)
    runner.test()
