"""Train a model: the command ``train`` from its first step to its last.

:func:`train` is the whole list of what a run goes through; the log of a run
has every change of the user's config, with the name of the step.
"""

import argparse
from collections.abc import Sequence

from mmengine.dist import get_world_size

from ..checkpoints import check_fit
from ..config.arguments import command_parser
from ..config.build_errors import building
from ..config.checks import check_custom_keys, warn_of_checkpoints
from ..config.data_files import check_paths
from ..datasets.checks.classes import check_batches, check_dataset
from ..datasets.checks.examine import check_annotations, check_samples_of
from .amp import set_precision
from .batch_size import POLICIES, fit_batch
from .gpu import prepare_gpu
from .hooks.compile_hook import CompileHook
from .hooks.deterministic_hook import make_deterministic
from .launch import call_in_first, number_process, start_processes
from .pre_run_checks import check_weights
from .resume import resume
from .run_config import (
    add_hook,
    add_run_arguments,
    allow_partial_weights,
    read_run_config,
    start_from,
)
from .run_hooks import add_run_hooks
from .runner import FaultTolerantRunner
from .work_dir import lock_work_dir


def train_parser() -> argparse.ArgumentParser:
    """The options of training."""
    p = command_parser('Train a detector, segmentor or classifier.')
    add_run_arguments(p)
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
        choices=POLICIES,
        default='recipe',
        help="if processes x images is not the recipe's batch: train on "
        'several batches in each iteration (recipe), scale the learning rate '
        'and what is counted in iterations (scale-lr), or change nothing '
        '(as-is)',
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
        '--no-sanity-check',
        action='store_true',
        help='start without a validation and a training pass as a trial',
    )
    p.add_argument(
        '--allow-partial-weights',
        action='store_true',
        help='start although the weights miss parameters of the backbone',
    )
    return p


def train(argv: Sequence[str] | None = None) -> None:
    """Train the model of a config.

    Raises:
        UsageError: something on the command line, in the config, the data
            or the weights cannot be used.
        Preempted: a signal ended the run; it can be resumed.
    """
    args = train_parser().parse_args(argv)
    number_process(args.launcher)

    # 1. The config: the file, the command line, and what a run adds.
    needed = ('train_dataloader', 'train_cfg', 'optim_wrapper')
    cfg, changes = read_run_config(args, needed)
    set_precision(cfg, args.amp, changes.remarks)
    changes.note('--amp' if args.amp else 'precision of this machine')
    prepare_gpu(cfg)
    changes.note('GPU')
    if args.allow_partial_weights:
        allow_partial_weights(cfg)
        changes.note('--allow-partial-weights')
    add_run_hooks(cfg, sanity_check=not args.no_sanity_check)
    changes.note('run hooks')
    if args.deterministic:
        make_deterministic(cfg, changes.remarks)
        changes.note('--deterministic')
    if args.compile:
        add_hook(cfg, CompileHook)
        changes.note('--compile')

    # 2. The processes; where the run begins; is everything there to read?
    start_processes(cfg, args.launcher, changes.remarks)
    changes.note('processes')
    if args.resume:
        resume(cfg, args.resume, changes.remarks)
        changes.note('--resume')
    start_from(cfg, partial=args.allow_partial_weights)
    changes.note('load_from')
    modes = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_paths(cfg, modes)
    check_weights(cfg)
    if not args.no_data_check:
        call_in_first(check_annotations, cfg, modes)

    # 3. The total batch that the processes make together.
    fit_batch(cfg, get_world_size(), args.batch, changes.remarks)
    changes.note(f'total batch, --batch {args.batch}')
    runner_class = FaultTolerantRunner
    if cfg.get('strategy'):
        from .fsdp import FSDPRunner, prepare_fsdp

        prepare_fsdp(cfg)
        changes.note('FSDP')
        runner_class = FSDPRunner

    # 4. The model, data sets and optimizer, as mmengine builds them.
    call_in_first(lock_work_dir, cfg.work_dir)
    with building(cfg, args.config):
        try:
            runner = runner_class.from_cfg(cfg)
        finally:
            changes.log()
    with building(cfg, args.config):
        loops = {mode: getattr(runner, f'{mode}_loop') for mode in modes}
        check_custom_keys(cfg, runner.model)
        warn_of_checkpoints(cfg)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    check_dataset(cfg, loops['train'].dataloader.dataset)
    check_batches(cfg, loops['train'].dataloader)
    if not args.no_data_check:
        call_in_first(check_samples_of, loops)
    if cfg.get('load_from'):
        check_fit(
            runner.model,
            cfg.load_from,
            '' if cfg.get('resume') else 'backbone.',
            allow_partial=args.allow_partial_weights,
        )

    # 5. mmengine's loop with the hooks of step 1; schedulers and evaluators
    # are built when it starts.
    with building(cfg, args.config, all_errors=False):
        try:
            runner.train()
        finally:
            runner.call_hook('restore_handlers')
