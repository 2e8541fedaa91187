"""Save and restore gradients that are accumulated but not yet applied."""

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...compat import is_resuming


@HOOKS.register_module()
class AccumulationHook(Hook):
    """Saves gradients that are accumulated but not yet applied.

    A checkpoint holds their mean over the processes, and each process
    resumes with it: with what they add later the mean is the same, up to the
    order of the sum. Where a strategy divides the model, up to
    ``accumulative_counts - 1`` batches are lost, of a user who sets it.
    """

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}
        self.pending: dict[str, Tensor] = {}

    def before_write(self, runner) -> None:
        """Average the pending gradients over the processes.

        Only the main process, which saves, keeps them.
        """
        if isinstance(runner.model, DistributedDataParallel):
            self.collect(runner)
            if not is_main_process():
                self.pending = {}

    def collect(self, runner) -> None:
        """Copy the gradients, if the optimizer has not used them yet."""
        if not runner.optim_wrapper.should_update():
            self.pending = mean_gradients(plain(runner.model))

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        """Add them to the checkpoint, in the main process."""
        if get_world_size() == 1:
            self.collect(runner)
        if self.pending and 'optimizer' in checkpoint:
            checkpoint['gradients'] = self.pending
        self.pending = {}

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        """Read them from the checkpoint of a resumed run."""
        if is_resuming(runner):
            self.gradients = checkpoint.get('gradients', {})

    def before_train(self, runner) -> None:
        """Set them on the parameters, so that the next batches add to them."""
        if self.gradients:
            print_log(
                'Accumulated gradients of the checkpoint are restored.',
                'current',
            )
        for name, param in plain(runner.model).named_parameters():
            if name in self.gradients:
                param.grad = self.gradients[name].to(param)
        self.gradients = {}


def mean_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Name of a parameter -> mean of its gradient over the processes."""
    params = dict(model.named_parameters())
    there = torch.tensor([p.grad is not None for p in params.values()]).float()
    all_reduce(there, 'max')
    found = {}
    for (name, param), anywhere in zip(params.items(), there, strict=True):
        if anywhere:
            none = param.grad is None
            grad = torch.zeros_like(param) if none else param.grad.clone()
            all_reduce(grad, 'mean')
            found[name] = grad.detach().cpu()
    return found


def plain(model: nn.Module) -> nn.Module:
    """The model without the wrapper for several processes."""
    return model.module if is_model_wrapper(model) else model
