"""Compile the backbone of a detector or segmentor, and nothing else."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn

from ...compat import inductor_backend


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the backbone with torch.compile before a run.

    mmengine's own ``compile`` option takes the whole training step, in which
    assigners and NMS of changing sizes break. A backbone is one graph for
    images of all sizes; checkpoints keep their names.
    """

    def before_run(self, runner) -> None:
        """Compile in place; the work is done at the first image."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        compile_backbone(model.backbone)


def compile_backbone(backbone: nn.Module) -> None:
    """Compile a backbone in place, as one graph for images of all sizes."""
    backbone.compile(backend=inductor_backend, fullgraph=True, dynamic=True)
