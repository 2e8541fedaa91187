"""Mixed precision: fp16 as mmengine does it, and bfloat16 with mmcv.

In bfloat16 everything that mmcv needs in float32 stays in float32, on GPU and
CPU.
bfloat16 has float32's range, so that no loss is scaled, and 8 bits of
precision: a coordinate beyond 256 pixels would not even be whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.utils import apply_to
from torch import Tensor, nn

from ..config.additions import add_import
from ..errors import UsageError

# Operators of mmcv have no bfloat16 kernels; losses are sums of many numbers.
FLOAT32 = (
    'mmcv.ops.',
    'mmdet.models.losses.',
    'mmdet.models.roi_heads.roi_extractors.',
    'mmseg.models.losses.',
)
# The results of these go to assigners, NMS and losses.
FLOAT32_RESULT = (
    'mmdet.models.dense_heads.',
    'mmdet.models.roi_heads.bbox_heads.',
    'mmdet.models.roi_heads.mask_heads.',
)
HALVES = (torch.bfloat16, torch.float16)


def set_precision(cfg: Config, precision: str | None) -> None:
    """Train in 'fp16', 'bf16' or, for None, as the config says.

    Without a GPU a config of fp16 trains in fp32.

    Raises:
        UsageError: fp16 without a GPU, or an optim_wrapper of another type.
    """
    wrapper = cfg.optim_wrapper
    gpu = torch.cuda.is_available()
    if precision is None:
        if wrapper.get('type') == 'AmpOptimWrapper' and not gpu:
            wrapper.type = 'OptimWrapper'
            drop_loss_scale(wrapper)
            print_log('No GPU: mixed precision is fp32 in this run.')
        return
    if precision == 'fp16' and not gpu:
        raise UsageError(
            '--amp needs a GPU and there is none here: leave it out, or '
            'give --amp bf16'
        )
    if wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(
            f'--amp cannot change optim_wrapper.type={wrapper.type}: set '
            'the type to OptimWrapper in the config, or leave --amp out'
        )
    if precision == 'fp16':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        return
    drop_loss_scale(wrapper)
    wrapper.type = Bf16OptimWrapper.__name__
    add_import(cfg, Bf16OptimWrapper)


def drop_loss_scale(wrapper: ConfigDict) -> None:
    """Remove what only the fp16 wrapper knows."""
    for key in ('loss_scale', 'dtype', 'use_fp64'):
        wrapper.pop(key, None)


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Steps whose forward pass is in bfloat16 up to the float32 border."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Where the losses of a step are computed."""
        device = next(model.parameters()).device.type
        with (
            super().optim_context(model),
            torch.autocast(device, torch.bfloat16),
            float32_border(model, device),
        ):
            yield


@contextmanager
def float32_border(model: nn.Module, device: str) -> Iterator[None]:
    """Run losses, RoI extractors and operators of mmcv in float32.

    What the heads of a detector predict is float32 too.
    """
    changed = []
    for module in model.modules():
        if lives_in(module, FLOAT32):
            call = partial(in_float32, module.forward, device)
        elif lives_in(module, FLOAT32_RESULT):
            call = partial(to_float32, module.forward)
        else:
            continue
        module.forward = call
        changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def lives_in(module: nn.Module, modules: tuple[str, ...]) -> bool:
    """Whether a module, or what it inherits from, is defined there."""
    return any(
        f'{base.__module__}.'.startswith(modules)
        for base in type(module).__mro__
    )


def in_float32(
    forward: Callable, device: str, /, *args: Any, **kwargs: Any
) -> Any:
    """Call with halves turned into floats and without autocast."""
    args, kwargs = floats((args, kwargs))
    with torch.autocast(device, enabled=False):
        return forward(*args, **kwargs)


def to_float32(forward: Callable, /, *args: Any, **kwargs: Any) -> Any:
    """Call, and turn halves of the result into floats."""
    return floats(forward(*args, **kwargs))


def floats(data: Any) -> Any:
    """Tensors of 16-bit floats as 32-bit floats, in any nest of containers."""
    return apply_to(data, is_half, Tensor.float)


def is_half(value: Any) -> bool:
    """Whether a value is a tensor of 16-bit floats."""
    return isinstance(value, Tensor) and value.dtype in HALVES
