"""What a run changes for GPUs: optimizer, copies, memory layout.

docs/gpu.md says why.
"""

import torch
from mmengine.config import Config
from torch import nn

from ..compat import copy_without_waiting
from ..models.backbones.pyramid import Pyramid
from ..models.layers import PointwiseConv
from .hooks.evaluation_algorithms_hook import EvaluationAlgorithmsHook
from .run_config import add_hook

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Optimizers that torch has in one kernel, unless one of these is set.
FUSED = ('Adam', 'AdamW')
IMPLEMENTATIONS = {'fused', 'foreach', 'capturable', 'differentiable'}
# Their modules take maps of any memory layout; mmcv's operators read memory
# as (B, C, H, W), and a user's own may do so.
ANY_LAYOUT = ('torch.', 'mmengine.', 'mmcv.cnn.', 'mmdet.', 'mmseg.')
ANY_LAYOUT += ('mmpretrain.', 'pvt_mm.')
# torch 2.13 copies its input to (B, C, H, W) on a GPU.
ONE_LAYOUT = (nn.GroupNorm,)


def prepare_gpu(cfg: Config) -> None:
    """Change what the user has not set, where there is a GPU.

    Args:
        cfg: the config of a training or a test.
    """
    if not torch.cuda.is_available():
        return
    for loader in LOADERS:
        if cfg.get(loader):
            cfg[loader].setdefault('pin_memory', True)
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    if optimizer.get('type') in FUSED and not IMPLEMENTATIONS & set(optimizer):
        # one kernel, which leaves out a bad step by itself (NonFiniteHook)
        optimizer.fused = True
    if (cfg.get('env_cfg') or {}).get('cudnn_benchmark'):
        add_hook(cfg, EvaluationAlgorithmsHook)


def prepare_model(model: nn.Module) -> None:
    """Prepare a model for a GPU, before it is wrapped for several processes.

    Images are copied while the GPU works, and the weights of the backbone
    are in channels-last, as its maps are. What follows the backbone is so
    too, and gets its maps without a copy, if nothing there needs another
    layout.

    Args:
        model: of mmengine's runner.
    """
    copy_without_waiting(model)
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, Pyramid):
        return
    lay_out_weights(backbone)
    behind = set(model.modules()) - set(backbone.modules())
    if all(map(takes_any_layout, behind)):
        lay_out_weights(model)
        backbone.map_layout = torch.channels_last


def lay_out_weights(model: nn.Module) -> None:
    """Put the weights of convolutions in channels-last.

    Also those of 1x1 and of depthwise convolutions, whose memory is the same
    in both: DDP compares their gradients' strides with those of the weights
    (pytorch/pytorch#157862). A PointwiseConv is a matrix product.
    """
    for module in model.modules():
        product = isinstance(module, PointwiseConv)
        if isinstance(module, nn.Conv2d) and not product:
            module.to(memory_format=torch.channels_last)


def takes_any_layout(module: nn.Module) -> bool:
    """Whether a module works on channels-last maps, and without a copy."""
    home = f'{type(module).__module__}.'
    return home.startswith(ANY_LAYOUT) and not isinstance(module, ONE_LAYOUT)
