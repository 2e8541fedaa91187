"""A config file and the options of the command line -> the run's config."""

import os
import warnings
import zipfile
from argparse import Namespace
from difflib import get_close_matches
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from ..checkpoints import locate
from .bf16 import Bf16OptimWrapper
from .compiling import CompileBackbone
from .errors import UsageError
from .options import merge_options
from .randomness import PlaceSeedHook

ROOT = Path(__file__).parents[2]  # of the checkout


def load_config(name: str) -> Config:
    """Read a config file, named from here or from the checkout's root."""
    path = Path(name)
    if not path.is_file() and (ROOT / name).is_file():
        path = ROOT / name
    if not path.is_file():
        known = [str(p.relative_to(ROOT)) for p in ROOT.glob('configs/*.py')]
        near = get_close_matches(name, known, n=3, cutoff=0.3)
        raise UsageError(
            f'there is no config file {name}; nearest: '
            f'{", ".join(near) or "none"}'
        )
    # mmengine asks pkg_resources for every inherited file, which warns
    warnings.filterwarnings('ignore', '.*pkg_resources is deprecated.*')
    try:
        return Config.fromfile(path)
    except ModuleNotFoundError as error:
        remedy = 'python -m pvt_mm.doctor says what is missing'
        raise UsageError(f'{path}: {error}; {remedy}') from error
    except (SyntaxError, KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(f'{path} is not a usable config: {error}') from error


def train_config(args: Namespace) -> Config:
    """The config of a training run."""
    cfg = common_config(args)
    if args.amp:
        use_amp(cfg, args.amp)
    elif not torch.cuda.is_available():
        drop_amp(cfg)
    if args.allow_partial_weights:
        allow_partial(cfg)
    add_hook(cfg, PlaceSeedHook)
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
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    return cfg


def add_hook(cfg: Config, hook: type) -> None:
    """Add a hook of this package to a run, once."""
    hooks = list(cfg.get('custom_hooks') or [])
    if any(other.get('type') == hook.__name__ for other in hooks):
        return
    cfg.custom_hooks = [*hooks, dict(type=hook.__name__)]
    add_import(cfg, hook)


def add_import(cfg: Config, part: type) -> None:
    """Let any tool run the config that is written to the work dir."""
    known = cfg.get('custom_imports') or {}
    imports = [*known.get('imports', []), part.__module__]
    cfg.custom_imports = {**known, 'imports': imports}


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


def resume(cfg: Config, checkpoint: str) -> None:
    """Continue from a checkpoint; 'auto' is the last one of the work_dir."""
    if checkpoint == 'auto':
        checkpoint = last_checkpoint(cfg.work_dir)
    if not checkpoint:
        print_log(
            f'--resume: {cfg.work_dir} holds no checkpoint, so the run '
            'starts from the beginning.'
        )
        return
    cfg.resume, cfg.load_from = True, checkpoint


def start_from(cfg: Config, *, partial: bool) -> None:
    """Start from a checkpoint of a whole model."""
    cfg.load_from = str(locate(cfg.load_from))
    # every weight comes from there: download no others for nothing
    if not partial and cfg.model.get('backbone', {}).get('init_cfg'):
        cfg.model.backbone.init_cfg = None


def last_checkpoint(work_dir: str) -> str | None:
    """The newest whole checkpoint of a folder.

    A process that was killed while it wrote one leaves a file that torch
    cannot open: zip files have their table of contents at the end.
    """
    found = sorted(Path(work_dir).glob('*_*.pth'), key=os.path.getmtime)
    found = [p for p in found if p.stem.split('_')[0] in ('epoch', 'iter')]
    for path in reversed(found):
        if zipfile.is_zipfile(path):
            return str(path)
        print_log(f'--resume: {path} is cut short and is passed over.')
    return None
