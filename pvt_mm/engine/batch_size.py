"""Fit a run to the total batch that its learning rate was made for."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from ..errors import UsageError

POLICIES = ('recipe', 'scale-lr', 'as-is')

# Who sets one of these means the numbers as they stand.
SCHEDULE = ('train_cfg', 'param_scheduler', 'optim_wrapper')


def default_policy(options: Mapping[str, Any]) -> str:
    """The policy of a run without ``--batch``.

    Args:
        options: its --cfg-options.
    """
    own = any(key.lstrip('+').startswith(SCHEDULE) for key in options)
    return 'as-is' if own else 'recipe'


def fit_batch(
    cfg: Config, processes: int, policy: str, remarks: list[str]
) -> None:
    """Make up for a total batch that is not the recipe's.

    Args:
        cfg: the config of a training run; its ``auto_scale_lr`` tells the
            total batch that its learning rate was made for.
        processes: how many train together.
        policy: 'recipe' accumulates gradients until the batch is the recipe's,
            or scales if that does not come out even; 'scale-lr' scales the
            learning rate with the batch; 'as-is' changes nothing. Either
            way the run sees as many images as the recipe.
        remarks: sentences for the log are added here.

    Raises:
        UsageError: 'scale-lr' for a config that does not tell its batch, or
            a batch size below 1.
    """
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
    text += f' x {steps} steps' if steps > 1 else ''
    remarks.append(
        f'Batch: {text}, recipe {wanted}: {plan(cfg, total, wanted, policy)}'
    )


def plan(cfg: Config, total: int, wanted: int, policy: str) -> str:
    """Change the config -> what was done, for the log."""
    if cfg.auto_scale_lr.get('enable'):
        return 'mmengine scales the learning rate, as the config says.'
    if total == wanted:
        return 'as the recipe.'
    if policy == 'as-is':
        return 'left as it is (--batch recipe makes up for it).'
    if policy == 'recipe' and wanted % total == 0:
        factor = wanted // total
        steps = cfg.optim_wrapper.get('accumulative_counts', 1)
        cfg.optim_wrapper.accumulative_counts = steps * factor
        stretch(cfg, factor)
        return f'gradients of {steps * factor} steps are accumulated.'
    optimizer = cfg.optim_wrapper.get('optimizer') or {}
    if 'lr' not in optimizer:
        return 'left as it is: there is no optim_wrapper.optimizer.lr.'
    # mmengine would scale it without regard to accumulated steps
    old, optimizer.lr = optimizer.lr, optimizer.lr * (total / wanted)
    cfg.auto_scale_lr.base_batch_size = total
    stretch(cfg, wanted / total)
    return f'the learning rate is scaled, {old:.4g} -> {optimizer.lr:.4g}.'


def stretch(cfg: Config, factor: float) -> None:
    """Multiply everything that is counted in iterations."""

    def multiply(holder: Any, *names: str) -> None:
        for name in holder.keys() & names:
            holder[name] = multiplied(holder[name], factor)

    for scheduler in schedulers(cfg):
        if scheduler.get('by_epoch', True) is False:
            multiply(scheduler, 'begin', 'end', 'T_max', 'milestones')
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
