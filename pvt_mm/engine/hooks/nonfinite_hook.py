"""Leave out steps whose loss or gradients are NaN or infinite."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import Tensor
from torch.optim import Optimizer

from ...datasets.checks.fault_tolerant_pipeline import samples_in
from ...errors import UsageError
from ..launch import Later

# They leave a step out on the device, where its flag ``found_inf`` is 1: the
# interface of torch's GradScaler. SGD's first step would then leave its
# momentum unset (torch 2.13).
LEAVE_OUT = (torch.optim.Adam, torch.optim.AdamW)


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Skips steps with NaN or infinite gradients; several in a row end a run.

    A step that the scaler of fp16 skips counts only if a loss is not finite
    either. The gradients are equal in all processes, so these compare
    nothing, but for a model that is divided (FSDP).

    A fused Adam or AdamW leaves a bad step out on the device, and the host
    reads at the end of the iteration that it did. For any other optimizer
    the host must know before the step, and waits for the gradients; but not
    where clipping, which waits for their norm, has done so.

    Args:
        in_a_row: consecutive bad steps after which the run ends.
    """

    def __init__(self, in_a_row: int = 3) -> None:
        self.in_a_row = in_a_row
        self.row = 0
        # whether the step of this iteration is left out; None: no step
        self.left_out: bool | Later | None = None
        self.by_scaler = True
        # (loss, batch) of each iteration since the last step
        self.seen: list[tuple[Tensor, Any]] = []
        self.good: str | None = None

    def before_train(self, runner) -> None:
        """Check the gradients before each step of the optimizer."""
        self.runner = runner
        optimizer = runner.optim_wrapper.optimizer
        optimizer.register_step_pre_hook(self.look)
        optimizer.register_step_post_hook(self.forget)

    def look(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Leave the step out if one of the gradients is not finite."""
        found = getattr(optimizer, 'found_inf', None)
        self.by_scaler = found is not None
        if self.by_scaler:
            # a fused optimizer gets gradients that are still scaled, and
            # skips this step itself
            self.left_out = Later(found)
            return
        bad = self.not_finite(optimizer)
        if isinstance(bad, Tensor) and leaves_out(optimizer):
            optimizer.found_inf, optimizer.grad_scale = bad, None
            self.left_out = Later(bad)
            return
        self.left_out = bool(bad)
        if self.left_out:
            optimizer.zero_grad()

    def forget(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Remove the flag of the step that has been made."""
        if not self.by_scaler and hasattr(optimizer, 'found_inf'):
            del optimizer.found_inf, optimizer.grad_scale

    def not_finite(self, optimizer: Optimizer) -> bool | Tensor:
        """Whether a gradient of a step is not finite, in any process.

        Returns:
            what the host knows, because clipping has computed the norm; else
            1.0 or 0.0 on the device.
        """
        wrapper = self.runner.optim_wrapper
        if getattr(wrapper, 'grad_name', None) == 'grad_norm':
            norm = wrapper.message_hub.get_scalar('train/grad_norm')
            return not math.isfinite(norm.current())
        groups = optimizer.param_groups
        params = [param for group in groups for param in group['params']]
        bad = not_finite([p.grad for p in params if p.grad is not None])
        if self.runner.cfg.get('strategy'):
            # of a divided model each process has some of the gradients
            all_reduce(bad, 'max')
        return bad

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Count consecutive bad steps.

        Raises:
            UsageError: ``in_a_row`` of them.
        """
        loss = torch.as_tensor(outputs['loss']).detach()
        self.seen.append((loss, data_batch))
        if not runner.optim_wrapper.should_update():
            return  # gradients are being accumulated
        bad = self.left_out
        if isinstance(bad, Later):
            bad = bool(bad.read()[0])
        if bad is not False:  # None: the scaler made no step
            self.judge(runner)
        else:
            self.row = 0
        self.left_out, self.by_scaler, self.seen = None, True, []

    def judge(self, runner) -> None:
        """Count a step that was left out, unless only the scale was at fault.

        Raises:
            UsageError: ``in_a_row`` of them.
        """
        losses = [loss.item() for loss, _ in self.seen]
        bad = []
        for loss, (_, batch) in zip(losses, self.seen, strict=True):
            bad += [] if math.isfinite(loss) else names(batch)
        wrong = not all(map(math.isfinite, losses))
        # in all processes: a loss may say why
        if self.by_scaler and not any(all_gather_object(wrong)):
            self.row = 0
            return
        self.count(runner, losses[-1], bad)

    def count(self, runner, loss: float, bad: list[str]) -> None:
        """Count a bad step, and log it.

        Args:
            runner: runs the training.
            loss: of the last batch.
            bad: images of batches whose loss is not finite.

        Raises:
            UsageError: ``in_a_row`` of them.
        """
        if self.row == 0:
            self.good = runner.message_hub.runtime_info.get('last_ckpt')
        self.row += 1
        images = sum(all_gather_object(bad), [])
        # only gradients went wrong: any image may be the reason
        last = names(self.seen[-1][1])
        images = images or sum(all_gather_object(last), [])
        gradients = '' if self.by_scaler else ', gradients are not finite'
        what = (
            f'iteration {runner.iter + 1}: the loss is {loss}{gradients}, '
            f'images {", ".join(images)}'
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


def not_finite(grads: list[Tensor]) -> Tensor:
    """1.0 on their device if a gradient is not finite, else 0.0.

    The largest absolute value of finite numbers is finite; a norm of squares
    may overflow, but takes a CPU a tenth of the time.
    """
    grads = [grad for grad in grads if grad.numel()]
    if not any(grad.is_cuda for grad in grads):
        norm = torch.nn.utils.get_total_norm(grads)
        if norm.isfinite():
            return torch.zeros(())
    largest = torch.nn.utils.get_total_norm(grads, math.inf)
    return largest.isfinite().logical_not().float()


def leaves_out(optimizer: Optimizer) -> bool:
    """Whether an optimizer leaves a step out where its flag says so."""
    fused = all(group.get('fused') for group in optimizer.param_groups)
    return fused and type(optimizer) in LEAVE_OUT


def names(batch: Mapping) -> list[str]:
    """The image files of a batch; their ids where no file is known."""
    found = {
        str(sample.get('img_path') or sample.get('img_id', '?')): None
        for sample in samples_in(batch.get('data_samples'))
    }
    return list(found)
