"""Fit a run to the total batch that its learning rate was made for."""

import re
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from ..errors import UsageError
from .run_config import add_import
from .train_loops import LOOP_TYPES

POLICIES = ('recipe', 'scale-lr', 'as-is')
# Arguments of mmengine's and mmdet's schedulers that count iterations.
COUNTS = ('begin', 'end', 'T_max', 'milestones', 'step_size', 'periods')
# Schedulers of iterations that these arguments describe completely.
STRETCHED = re.compile(
    '(Constant|CosineAnnealing|CosineRestart|Linear|MultiStep|Poly'
    '|QuadraticWarmup|Step)(LR|Momentum|ParamScheduler)'
)


def fit_batch(
    cfg: Config, processes: int, policy: str, remarks: list[str]
) -> None:
    """Make up for a total batch that is not the recipe's.

    Args:
        cfg: the config of a training run; its ``auto_scale_lr`` tells the
            total batch that its learning rate was made for.
        processes: how many train together.
        policy: 'recipe' trains on several batches in each iteration, so that
            an iteration is one of the recipe; 'scale-lr' scales the learning
            rate with the batch, and what is counted in iterations, so that
            the run sees as many images; 'as-is' changes nothing.
        remarks: sentences for the log are added here.

    Raises:
        UsageError: the batch cannot be made up for; it says what fits.
    """
    forget(cfg)
    wanted = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not wanted:
        if policy == 'scale-lr':
            raise UsageError(
                '--batch scale-lr must know the batch that the learning rate '
                'was made for: add auto_scale_lr=dict(base_batch_size=N) to '
                'the config'
            )
        return
    images = cfg.train_dataloader.batch_size
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    if images < 1 or steps < 1:
        raise UsageError(
            f'train_dataloader.batch_size={images} and '
            f'optim_wrapper.accumulative_counts={steps} must be 1 or more'
        )
    total = processes * images * steps
    text = f'{processes} process(es) x {images} images'
    if steps > 1:
        text += f' x optim_wrapper.accumulative_counts={steps}'
    if cfg.auto_scale_lr.get('enable'):
        done = 'mmengine scales the learning rate, as the config says.'
    elif total == wanted:
        done = 'as the recipe.'
    elif policy == 'as-is':
        done = 'left as it is (--batch recipe makes up for it).'
    elif policy == 'recipe':
        done = accumulate(cfg, wanted, total, text, processes)
    else:
        done = scale(cfg, wanted, total)
    remarks.append(f'Batch: {text}, recipe {wanted}: {done}')


def forget(cfg: Config) -> None:
    """Restore mmengine's loop in the config of a work dir."""
    for theirs, ours in LOOP_TYPES.items():
        if cfg.train_cfg.get('type') == ours.__name__:
            cfg.train_cfg.type = theirs
            del cfg.train_cfg['batches_per_iter']


def accumulate(
    cfg: Config, wanted: int, total: int, text: str, processes: int
) -> str:
    """Train on several batches in each iteration -> a note for the log.

    Args:
        cfg: the config of a training run.
        wanted: images of a step in the recipe.
        total: images that the processes take at a time.
        text: how the total is made up.
        processes: how many train together.

    Raises:
        UsageError: the recipe's batch is no multiple of the total.
    """
    others = (
        '--batch scale-lr (learning rate and schedule change) or --batch '
        'as-is (nothing changes)'
    )
    if cfg.optim_wrapper.get('accumulative_counts', 1) > 1:
        raise UsageError(
            f'{text} are {total} images in a step of the optimizer, and the '
            f'recipe has {wanted}: leave accumulative_counts out, so that '
            f'batches are added up to the recipe, or choose {others}'
        )
    if wanted % total:
        fit = [
            n
            for n in range(1, wanted // processes + 1)
            if wanted % (n * processes) == 0
        ]
        change = (
            f'set train_dataloader.batch_size to {" or ".join(map(str, fit))}'
            if fit
            else f'start a number of processes that divides {wanted}'
        )
        raise UsageError(
            f"{text}: the recipe's batch of {wanted} images is no multiple "
            f'of {total}; {change}, or choose {others}'
        )
    epochs = cfg.train_cfg.get('by_epoch', 'max_epochs' in cfg.train_cfg)
    default = EpochBasedTrainLoop if epochs else IterBasedTrainLoop
    kind = cfg.train_cfg.get('type', default.__name__)
    loop = LOOP_TYPES.get(kind.split('.')[-1])
    if loop is None:
        raise UsageError(
            f'train_cfg.type={kind!r} trains on one batch in an iteration, '
            f'{text}, and the recipe has {wanted}: choose {others}'
        )
    cfg.train_cfg.pop('by_epoch', None)
    cfg.train_cfg.type = loop.__name__
    cfg.train_cfg.batches_per_iter = wanted // total
    add_import(cfg, loop)
    return f'each iteration trains on {wanted // total} batches.'


def scale(cfg: Config, wanted: int, total: int) -> str:
    """Scale learning rate and schedule -> a note for the log.

    Args:
        cfg: the config of a training run.
        wanted: images of a step in the recipe.
        total: images of a step in this run.

    Raises:
        UsageError: the schedule of a scheduler cannot be scaled.
    """
    optimizer = cfg.optim_wrapper.get('optimizer') or {}
    if 'lr' not in optimizer:
        raise UsageError(
            '--batch scale-lr: there is no optim_wrapper.optimizer.lr; '
            'choose --batch recipe or as-is'
        )
    # mmengine would scale it without regard to accumulated steps
    old, optimizer.lr = optimizer.lr, optimizer.lr * (total / wanted)
    cfg.auto_scale_lr.base_batch_size = total
    stretch(cfg, wanted / total)
    return f'the learning rate is scaled, {old:.4g} -> {optimizer.lr:.4g}.'


def stretch(cfg: Config, factor: float) -> None:
    """Multiply everything that is counted in iterations.

    Raises:
        UsageError: a scheduler counts iterations in a way of its own.
    """

    def multiply(holder: Any, *names: str) -> None:
        for name in holder.keys() & names:
            holder[name] = multiplied(holder[name], factor)

    for i, scheduler in enumerate(schedulers(cfg)):
        if scheduler.get('by_epoch', True):
            continue
        kind = str(scheduler.get('type')).split('.')[-1]
        if not STRETCHED.fullmatch(kind):
            raise UsageError(
                f'--batch scale-lr cannot fit param_scheduler.{i} ({kind} by '
                'iterations) to another number of iterations: choose --batch '
                'recipe or as-is'
            )
        multiply(scheduler, *COUNTS)
    if 'max_iters' in cfg.train_cfg:
        names = ('max_iters', 'val_interval', 'val_begin')
        multiply(cfg.train_cfg, *names, 'dynamic_intervals')
        hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        if hook.get('by_epoch', True) is False:
            multiply(hook, 'interval')


def multiplied(value: Any, factor: float) -> Any:
    """A number of iterations, or nested ones, times a factor; at least 1.

    None, 0 for the start, -1 for never and infinity stay.
    """
    if isinstance(value, list | tuple):
        return type(value)(multiplied(each, factor) for each in value)
    if not value or not 0 < value < float('inf'):
        return value
    return max(round(value * factor), 1)


def schedulers(cfg: Config) -> Iterator[Any]:
    """The parameter schedulers of a config."""
    found = cfg.get('param_scheduler') or []
    yield from found if isinstance(found, list) else [found]
