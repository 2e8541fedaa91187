"""Apply the config of now to a resumed run, and log what differs.

mmengine resumes with the schedule and the learning rate of the checkpoint,
whatever the config says.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.optim import Optimizer

from ...compat import is_resuming
from ...config.saved import literals, saved_config
from ...errors import UsageError
from ..config_changes import ABSENT, differences
from ..train_loops import by_epoch

# What a run learns from, in the order of the log.
SECTIONS = (
    *('model', 'train_dataloader', 'auto_scale_lr', 'optim_wrapper'),
    *('param_scheduler', 'train_cfg', 'custom_hooks', 'randomness'),
)
# A difference in these changes the learning rate of the iterations to come.
SCHEDULE = ('optim_wrapper', 'param_scheduler', 'train_cfg')
# Keys that change nothing that is learnt.
SPEED = (
    *('train_dataloader.num_workers', 'train_dataloader.prefetch_factor'),
    *('train_dataloader.persistent_workers', 'train_dataloader.pin_memory'),
    *('train_dataloader.batch_size', 'train_cfg.type', 'train_cfg.by_epoch'),
    *('train_cfg.batches_per_iter', 'train_cfg.val_interval'),
    'train_cfg.val_begin',
)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Makes the config of a resumed run count, and early stopping go on.

    Where optimizer or schedule of the config differ from those of the
    checkpoint, learning rates and other numbers become those that the run
    would have at this place if it had begun with the config of now.
    """

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        """Log what differs, and apply optimizer and schedule of the config.

        Raises:
            UsageError: they cannot be applied.
        """
        if not is_resuming(runner):
            return
        meta = checkpoint['meta']
        states = meta.get('early_stopping', [])
        for hook, state in zip(early_stopping(runner), states, strict=False):
            vars(hook).update(state)
        before = saved_config(meta)
        if not before:
            print_log(
                'The checkpoint has no config: none is compared with.',
                'current',
            )
        found = list(changed(before, runner.cfg.pretty_text))
        if found:
            lines = [f'{key}: {old!r} -> {new!r}' for key, old, new in found]
            title = 'Config of the checkpoint -> config of now, which counts:'
            print_log('\n  '.join([title, *lines]), 'current')
        here = len(runner.train_dataloader)
        moved = here != meta.get('batches_per_epoch', here)
        if (moved and by_epoch(runner)) or any(
            key.startswith(SCHEDULE) for key, *_ in found
        ):
            apply_schedule(runner, checkpoint)

    def before_train(self, runner) -> None:
        """Lay out the state of the optimizer as the parameters are."""
        if is_resuming(runner):
            lay_out_moments(runner.optim_wrapper.optimizer)

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        """Write the state of early stopping, and no function of a schedule.

        OneCycleLR has one. It comes from the config again, and a file that
        names a function is not read back.
        """
        checkpoint['meta']['early_stopping'] = [
            dict(wait_count=h.wait_count, best_score=float(h.best_score))
            for h in early_stopping(runner)
        ]
        for state in flat(checkpoint.get('param_schedulers')):
            for key in [k for k, value in state.items() if callable(value)]:
                del state[key]


def early_stopping(runner) -> list[EarlyStoppingHook]:
    """The hooks of a run that may end it early."""
    return [h for h in runner.hooks if isinstance(h, EarlyStoppingHook)]


def changed(old: dict[str, Any], text: str) -> Iterator[tuple]:
    """(key, old value, new value) of what a run learns from.

    Args:
        old: the config of the checkpoint; without any nothing is compared.
        text: the config of now, as mmengine writes it.
    """
    new = literals(text)
    for section in SECTIONS if old else ():
        for key, *values in differences(
            old.get(section, ABSENT), new.get(section, ABSENT), section
        ):
            if key not in SPEED and not key.startswith('model.backbone.init'):
                yield key, *values


def apply_schedule(runner, checkpoint: dict) -> None:
    """Put optimizer and schedule of the config into a checkpoint.

    The schedulers make the steps of a run that began with this config.

    Args:
        runner: its optimizer and schedulers are new.
        checkpoint: with the place in ``meta``; it is changed.

    Raises:
        UsageError: a scheduler depends on scores, or the optimizer's state
            is of another kind.
    """
    schedulers = runner.param_schedulers or []
    plain = isinstance(runner, Runner) and isinstance(schedulers, list)
    if not plain or any(needs_scores(s) for s in schedulers):
        raise UsageError(
            '--resume: optimizer and schedule cannot change where a schedule '
            'depends on scores (ReduceOnPlateau), or with a strategy or '
            'several optimizers: restore optim_wrapper, param_scheduler and '
            'train_cfg as the log lists them'
        )
    state, wrapper = checkpoint['optimizer'], runner.optim_wrapper
    groups, theirs = wrapper.optimizer.param_groups, state['param_groups']
    sizes = [[len(g['params']) for g in each] for each in (groups, theirs)]
    kinds = [
        (cfg.get('optim_wrapper') or {}).get('optimizer', {}).get('type')
        for cfg in (saved_config(checkpoint['meta']), runner.cfg)
    ]
    if sizes[0] != sizes[1] or kinds[0] not in (None, kinds[1]):
        raise UsageError(
            '--resume: optim_wrapper has another optimizer or other groups '
            'of parameters than the checkpoint: restore optimizer.type and '
            "paramwise_cfg, or start anew from the checkpoint's weights with "
            'load_from'
        )
    make_steps(runner, checkpoint['meta'])
    print_log(
        f'Learning rate: {theirs[0]["lr"]:.4g} in the checkpoint -> '
        f'{groups[0]["lr"]:.4g}, that of the config at this place.',
        'current',
    )
    for group, other in zip(groups, theirs, strict=True):
        other.update({k: v for k, v in group.items() if k != 'params'})
    if 'base_param_settings' in state:  # the rate that mmengine logs
        state['base_param_settings'] = wrapper.base_param_settings
    checkpoint['param_schedulers'] = [s.state_dict() for s in schedulers]


def flat(found: Any) -> list:
    """Schedulers, or their states, of one optimizer or of several."""
    return sum(found.values(), []) if isinstance(found, dict) else found or []


def needs_scores(scheduler: Any) -> bool:
    """Whether a scheduler steps by the scores of evaluations."""
    return getattr(scheduler, 'need_val_args', False)


def make_steps(runner, meta: dict) -> None:
    """Let the schedulers make the steps of the iterations that are done.

    Args:
        runner: with new schedulers.
        meta: ``epoch`` and ``iter`` that are reached.
    """
    iterations, epochs = meta['iter'], meta['epoch']
    length = len(runner.train_dataloader)
    if not by_epoch(runner):
        epochs = 0
    with warnings.catch_warnings():
        # the optimizer makes no steps
        warnings.filterwarnings('ignore', '.*optimizer.step.*')
        for done in range(1, iterations + 1):
            step(runner, by_epoch=False)
            if done % length == 0 and done // length <= epochs:
                step(runner, by_epoch=True)


def step(runner, *, by_epoch: bool) -> None:
    """Make one step of the schedulers by epochs, or by iterations."""
    for scheduler in runner.param_schedulers or []:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def lay_out_moments(optimizer: Optimizer) -> None:
    """Give an optimizer's state the memory layout of its parameters.

    A checkpoint may come from a CPU; one kernel for all tensors of a
    parameter takes one layout only.
    """
    for param, state in optimizer.state.items():
        for name, value in state.items():
            if getattr(value, 'shape', None) != param.shape:
                continue
            if value.stride() != param.stride():
                state[name] = torch.empty_like(param).copy_(value)
