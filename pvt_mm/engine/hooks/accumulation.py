"""Gradients that are accumulated, but not yet applied, survive a stop."""

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn


@HOOKS.register_module()
class KeepGradientsHook(Hook):
    """Puts pending gradients into checkpoints that a run goes on from.

    Each of several processes has its own, and a checkpoint is the first
    one's: there up to ``accumulative_counts - 1`` batches are lost.
    """

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        """Add them, between two steps of the optimizer only."""
        pending = not runner.optim_wrapper.should_update()
        if pending and get_world_size() == 1 and 'optimizer' in checkpoint:
            checkpoint['gradients'] = {
                name: param.grad.cpu()
                for name, param in plain(runner.model).named_parameters()
                if param.grad is not None
            }

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        """Find those of a run that goes on."""
        if runner._resume:
            self.gradients = checkpoint.get('gradients', {})

    def before_train(self, runner) -> None:
        """Go on adding to them."""
        if self.gradients:
            print_log('The gradients of these iterations are not lost.')
        for name, param in plain(runner.model).named_parameters():
            if name in self.gradients:
                param.grad = self.gradients[name].to(param)
        self.gradients = {}


def plain(model: nn.Module) -> nn.Module:
    """The model inside the wrapper of several processes."""
    return model.module if is_model_wrapper(model) else model
