"""Build the config of a run from a file and the command line."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from ..checkpoints import locate
from ..checkpoints.atomic import check_writable
from ..config.arguments import add_cfg_options
from ..config.cfg_options import merge_options
from ..config.checks import check_config
from ..config.inheritance import warn_of_names_without_effect
from ..config.loading import load_config
from ..errors import UsageError
from .config_changes import ConfigChanges
from .pre_run_checks import weight_configs

HOOKS = 'pvt_mm.engine.hooks'


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``train`` and ``test`` have in common."""
    parser.add_argument(
        'config', help='config file, for example configs/NAME.py'
    )
    parser.add_argument(
        '--work-dir', help='folder of logs; work_dirs/NAME if not given'
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes',
    )
    parser.add_argument(
        '--no-data-check',
        action='store_true',
        help='start without a look at the annotations and some images',
    )
    parser.add_argument('--local-rank', '--local_rank', help=argparse.SUPPRESS)


def read_run_config(
    args: argparse.Namespace, needed: Sequence[str]
) -> tuple[Config, ConfigChanges]:
    """Read the config file, and merge --cfg-options and --work-dir into it.

    Args:
        args: with the options of :func:`add_run_arguments`.
        needed: top-level keys that the run needs, beside ``model``.

    Raises:
        OSError: the work dir cannot be written.
        UsageError: the file or an option cannot be used.
    """
    cfg = load_config(args.config)
    changes = ConfigChanges(cfg)
    merge_options(cfg, args.cfg_options or {})
    changes.note('--cfg-options')
    check_config(cfg)
    warn_of_names_without_effect(cfg, load_config)
    if missing := [key for key in ('model', *needed) if not cfg.get(key)]:
        raise UsageError(f'{args.config} has no {" and no ".join(missing)}')
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    check_writable(cfg.work_dir, folder=True)
    changes.note('work dir')
    if cfg.get('test_dataloader') and cfg.get('test_cfg') is None:
        cfg.test_cfg = dict(type='TestLoop')
        changes.note("mmengine's loop")
    return cfg, changes


def allow_partial_weights(cfg: Config) -> None:
    """Let the backbone start from weights that miss some parameters.

    Raises:
        UsageError: its config names no weights.
    """
    found = list(weight_configs(cfg))
    if not found:
        raise UsageError(
            '--allow-partial-weights: the config of the backbone names no '
            'weights (model.backbone.init_cfg)'
        )
    for weights in found:
        weights.allow_partial = True


def start_from(cfg: Config, *, partial: bool) -> None:
    """Start from a checkpoint of a whole model, if the config names one.

    Args:
        cfg: the config; ``load_from`` becomes a local file.
        partial: the checkpoint may miss parameters of the backbone, which
            then keeps its own weights.
    """
    if not cfg.get('load_from'):
        return
    cfg.load_from = str(locate(cfg.load_from))
    # every weight comes from there: download no others for nothing
    if not partial and cfg.model.get('backbone', {}).get('init_cfg'):
        cfg.model.backbone.init_cfg = None


def add_hook(cfg: Config, hook: type) -> None:
    """Add a hook of this package to a run, once."""
    hooks = list(cfg.get('custom_hooks') or [])
    if any(other.get('type') == hook.__name__ for other in hooks):
        return
    cfg.custom_hooks = [*hooks, dict(type=hook.__name__)]
    add_import(cfg, hook)


def add_import(cfg: Config, part: type) -> None:
    """Import the module of a class in the config of the work dir as well.

    Any tool can run that config then.
    """
    module = part.__module__
    module = HOOKS if module.startswith(HOOKS) else module
    known = cfg.get('custom_imports') or {}
    imports = list(known.get('imports', []))
    if module not in imports:
        cfg.custom_imports = {**known, 'imports': [*imports, module]}
