"""Search cuDNN's algorithms in training only."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class EvaluationAlgorithmsHook(Hook):
    """Switches ``cudnn_benchmark`` off in evaluations.

    It tries all algorithms of a convolution at each new size. In training
    images are crops of one size; in an evaluation nearly each has its own.
    """

    def before_val(self, runner) -> None:
        """Switch it off."""
        self.before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = False

    def after_val(self, runner) -> None:
        """Restore it."""
        torch.backends.cudnn.benchmark = self.before

    before_test, after_test = before_val, after_val
