"""A config file and the options of the command line -> the run's config."""

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from ..checkpoints import locate
from .additions import add_hook, add_import
from .bf16 import Bf16OptimWrapper
from .config_file import load_config
from .deterministic import be_deterministic
from .errors import UsageError
from .guards import guard
from .hooks.compiling import CompileBackbone
from .keys import check_names
from .options import merge_options
from .resuming import resume


def train_config(args: Namespace) -> Config:
    """The config of a training run."""
    cfg = common_config(args)
    if args.amp:
        use_amp(cfg, args.amp)
    elif not torch.cuda.is_available():
        drop_amp(cfg)
    if args.allow_partial_weights:
        allow_partial(cfg)
    guard(cfg)
    if args.deterministic:
        be_deterministic(cfg)
    if args.compile:
        add_hook(cfg, CompileBackbone)
    if args.resume:
        resume(cfg, args.resume)
    if cfg.get('load_from'):
        start_from(cfg, partial=args.allow_partial_weights)
    return cfg


def common_config(args: Namespace) -> Config:
    """The config of any run: options merged, working directory chosen."""
    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options or {})
    check_names(cfg)
    if not isinstance(cfg.get('model'), Mapping):
        raise UsageError(
            f'{args.config}: model={cfg.get("model")!r} must be a dict with '
            'a type'
        )
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    return cfg


def use_amp(cfg: Config, precision: str) -> None:
    """Train in mixed precision, 'fp16' or 'bf16'."""
    if precision == 'fp16' and not torch.cuda.is_available():
        raise UsageError(
            '--amp needs a GPU and there is none here: leave it out, or '
            'give --amp bf16'
        )
    wrapper = cfg.optim_wrapper
    if wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(
            f'--amp cannot change optim_wrapper.type={wrapper.type}: set '
            'the type to OptimWrapper in the config, or leave --amp out'
        )
    if precision == 'fp16':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        return
    drop_loss_scale(wrapper)
    wrapper.type = Bf16OptimWrapper.__name__
    add_import(cfg, Bf16OptimWrapper)


def drop_amp(cfg: Config) -> None:
    """Train a recipe of mixed precision in fp32, as there is no GPU."""
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') != 'AmpOptimWrapper':
        return
    wrapper.type = 'OptimWrapper'
    drop_loss_scale(wrapper)
    print_log('No GPU: mixed precision is fp32 in this run.')


def drop_loss_scale(wrapper: ConfigDict) -> None:
    """Remove what only the fp16 wrapper knows."""
    for key in ('loss_scale', 'dtype', 'use_fp64'):
        wrapper.pop(key, None)


def allow_partial(cfg: Config) -> None:
    """Let the backbone start from weights that miss some parameters."""
    weights = cfg.model.get('backbone', {}).get('init_cfg')
    if not weights:
        raise UsageError(
            '--allow-partial-weights: the config of the backbone names no '
            'weights (model.backbone.init_cfg)'
        )
    weights.allow_partial = True


def start_from(cfg: Config, *, partial: bool) -> None:
    """Start from a checkpoint of a whole model."""
    cfg.load_from = str(locate(cfg.load_from))
    # every weight comes from there: download no others for nothing
    if not partial and cfg.model.get('backbone', {}).get('init_cfg'):
        cfg.model.backbone.init_cfg = None
