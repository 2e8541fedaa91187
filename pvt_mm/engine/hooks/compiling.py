"""Compile the backbone of a detector or segmentor, and nothing else."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn


@HOOKS.register_module()
class CompileBackbone(Hook):
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
    sort_symbolic_strides()
    backbone.compile(fullgraph=True, dynamic=True)


def sort_symbolic_strides() -> None:
    """Let the compiler of torch 2.13 order strides of unknown sizes.

    It fails on a channels-last view that the backward pass needs, because
    it compares strides without what it knows of sizes (pytorch/pytorch
    issue 185510, mended by pull request 185871 in this way).
    """
    from torch._inductor import ir
    from torch._inductor.virtualized import V

    plain = ir.get_fill_order
    if plain.__name__ == 'get_fill_order_of_graph':
        return

    def get_fill_order_of_graph(strides: Sequence, shape_env=None) -> Sequence:
        if shape_env is None:
            shape_env = getattr(V.graph, 'sizevars', None)
            shape_env = getattr(shape_env, 'shape_env', None)
        return plain(strides, shape_env)

    ir.get_fill_order = get_fill_order_of_graph
