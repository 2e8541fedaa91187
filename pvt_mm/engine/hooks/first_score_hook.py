"""Evaluate the untrained network, as the first point of the curve."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class FirstScoreHook(Hook):
    """Evaluates once before the first iteration, but not a resumed run."""

    priority = 'LOWEST'  # after the hook that saves the best is ready

    def before_train(self, runner) -> None:
        """Evaluate a run that is not resumed."""
        if runner.iter == 0:
            runner.val_loop.run()
