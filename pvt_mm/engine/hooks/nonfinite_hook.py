"""Leave out steps whose loss or gradients are NaN or infinite."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import Tensor
from torch.optim import Optimizer

from ...datasets.checks.fault_tolerant_pipeline import samples_in
from ...errors import UsageError
from ..launch import max_over_processes
from .preemption_hook import PreemptionHook


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Skips steps with NaN or infinite gradients; several in a row end a run.

    A step that the scaler of fp16 skips counts only if a loss is not finite
    either. The gradients are equal in all processes, so these compare
    nothing, but for a model that is divided (FSDP).

    Args:
        in_a_row: consecutive bad steps after which the run ends.
    """

    def __init__(self, in_a_row: int = 3) -> None:
        self.in_a_row = in_a_row
        self.row = 0
        self.bad_step = False
        self.applied = False
        self.images: list[str] = []  # of iterations with a bad loss
        self.good: str | None = None

    def before_train(self, runner) -> None:
        """Check the gradients before each step of the optimizer."""
        self.runner = runner
        runner.optim_wrapper.optimizer.register_step_pre_hook(self.look)

    def look(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Set the gradients to None if one of them is not finite."""
        self.applied = True
        found = getattr(optimizer, 'found_inf', None)
        if found is not None:
            # a fused optimizer gets gradients that are still scaled, and
            # skips this step itself
            self.applied = not found.item()
            return
        if not self.finite(optimizer):
            self.bad_step = True
            optimizer.zero_grad()

    def finite(self, optimizer: Optimizer) -> bool:
        """Whether the gradients of a step are finite, in all processes.

        Clipping has computed their norm.
        """
        wrapper = self.runner.optim_wrapper
        if getattr(wrapper, 'grad_name', None) == 'grad_norm':
            norm = wrapper.message_hub.get_scalar('train/grad_norm')
            return math.isfinite(norm.current())
        groups = optimizer.param_groups
        params = [param for group in groups for param in group['params']]
        bad = not finite([p.grad for p in params if p.grad is not None])
        if self.runner.cfg.get('strategy'):
            # of a divided model each process has some of the gradients
            (bad,) = self.compare(int(bad))
        return not bad

    def compare(self, bad: int) -> list[int]:
        """The largest in all processes, with their signals if they have any.

        Args:
            bad: 1 in a process whose gradients are not finite.
        """
        for hook in self.runner.hooks:
            if isinstance(hook, PreemptionHook):
                return hook.compare(bad)
        return max_over_processes(bad)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Count consecutive bad steps.

        Raises:
            UsageError: ``in_a_row`` of them.
        """
        loss = torch.as_tensor(outputs['loss']).item()
        if not math.isfinite(loss):
            self.images += names(data_batch)
        if not runner.optim_wrapper.should_update():
            return  # gradients are being accumulated
        bad = self.bad_step
        if not self.applied:  # in all processes: a loss may say why
            bad = any(all_gather_object(bool(self.images)))
        if bad:
            self.count(runner, loss, data_batch)
        else:
            self.row = 0
        self.bad_step, self.applied, self.images = False, False, []

    def count(self, runner, loss: float, batch: Mapping) -> None:
        """Count a bad step, and log it.

        Raises:
            UsageError: ``in_a_row`` of them.
        """
        if self.row == 0:
            self.good = runner.message_hub.runtime_info.get('last_ckpt')
        self.row += 1
        images = sum(all_gather_object(self.images), [])
        # only gradients went wrong: any image may be the reason
        images = images or sum(all_gather_object(names(batch)), [])
        what = (
            f'iteration {runner.iter + 1}: the loss is {loss}'
            f'{", gradients are not finite" if self.bad_step else ""}, images '
            f'{", ".join(images)}'
        )
        if self.row < self.in_a_row:
            print_log(
                f'{what}: this step is left out.', 'current', logging.WARNING
            )
            return
        raise UsageError(
            f'{what}; {self.row} steps in a row; the last good checkpoint is '
            f'{self.good or "none"}; look at these images, or lower the '
            'learning rate or clip gradients (optim_wrapper.clip_grad)'
        )


def finite(grads: list[Tensor]) -> bool:
    """Whether all gradients are finite.

    If their norm overflows, each tensor is checked.
    """
    if math.isfinite(torch.nn.utils.get_total_norm(grads)):
        return True
    return all(bool(grad.isfinite().all()) for grad in grads)


def names(batch: Mapping) -> list[str]:
    """The image files of a batch; their ids where no file is known."""
    found = {
        str(sample.get('img_path') or sample.get('img_id', '?')): None
        for sample in samples_in(batch.get('data_samples'))
    }
    return list(found)
