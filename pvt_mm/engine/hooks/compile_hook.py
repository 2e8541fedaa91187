"""Compile the backbone of a detector or segmentor, and nothing else."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn

from ...compat import inductor_backend


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the backbone with torch.compile before a run.

    mmengine's own ``compile`` option compiles the whole training step, and
    fails at assigners and NMS of changing sizes. A backbone is one graph for
    images of all sizes; names of parameters stay.
    """

    def before_run(self, runner) -> None:
        """Mark the backbone: torch compiles it at its first image."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        compile_backbone(model.backbone)


def compile_backbone(backbone: nn.Module) -> None:
    """Compile a backbone in place, as one graph for images of all sizes.

    The processes exchange the statistics of SyncBN between two graphs.
    """
    synced = any(isinstance(m, nn.SyncBatchNorm) for m in backbone.modules())
    backbone.compile(
        backend=inductor_backend, fullgraph=not synced, dynamic=True
    )
