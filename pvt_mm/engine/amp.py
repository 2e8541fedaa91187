"""Mixed precision: mmengine's fp16, and bfloat16 on GPU and CPU.

bfloat16 has float32's range, so no loss scaling is needed, and 8 bits of
precision: integers above 256 are not exact, so boxes, losses and mmcv's
operators stay in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.utils import apply_to
from torch import Tensor, nn

from ..errors import UsageError
from .run_config import add_import

# Operators of mmcv have no bfloat16 kernels; losses are sums of many numbers.
FLOAT32 = (
    'mmcv.ops.',
    'mmdet.models.losses.',
    'mmdet.models.roi_heads.roi_extractors.',
    'mmseg.models.losses.',
)
# Ends of names of mmdet's layers that give positions: 8 bits would round
# them to 1/256 of an image.
POSITIONS = ('reference_points_fc', 'reg_branches', 'fc_reg')
# The results of these go to assigners, NMS and losses.
FLOAT32_RESULT = (
    'mmdet.models.dense_heads.',
    'mmdet.models.roi_heads.bbox_heads.',
    'mmdet.models.roi_heads.mask_heads.',
)
WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper', 'Bf16OptimWrapper')
HALVES = (torch.bfloat16, torch.float16)
BORDER = 'float32_border_is_set'  # attribute of a model


def set_precision(
    cfg: Config, precision: str | None, remarks: list[str]
) -> None:
    """Train in 'fp16', 'bf16' or, for None, as the config says.

    Without a GPU a config of fp16 trains in fp32.

    Args:
        cfg: the config of a training run.
        precision: 'fp16', 'bf16' or None.
        remarks: sentences for the log are added here.

    Raises:
        UsageError: fp16 without a GPU, or an optim_wrapper of another type.
    """
    wrapper = cfg.optim_wrapper
    gpu = torch.cuda.is_available()
    if precision is None:
        if wrapper.get('type') == 'AmpOptimWrapper' and not gpu:
            wrapper.type = 'OptimWrapper'
            drop_loss_scale(wrapper)
            remarks.append('No GPU: mixed precision is fp32 in this run.')
        return
    if precision == 'fp16' and not gpu:
        raise UsageError(
            '--amp needs a GPU and there is none here: leave it out, or '
            'give --amp bf16'
        )
    kind = wrapper.get('type', WRAPPERS[0])
    if kind not in WRAPPERS:
        raise UsageError(
            f'--amp cannot change optim_wrapper.type={kind}: set the type to '
            f'{WRAPPERS[0]} in the config, or leave --amp out'
        )
    if precision == 'fp16':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        return
    drop_loss_scale(wrapper)
    wrapper.type = Bf16OptimWrapper.__name__
    add_import(cfg, Bf16OptimWrapper)


def drop_loss_scale(wrapper: ConfigDict) -> None:
    """Remove the arguments that only the fp16 wrapper has."""
    for key in ('loss_scale', 'dtype', 'use_fp64'):
        wrapper.pop(key, None)


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """OptimWrapper that runs the forward pass in bfloat16.

    What FLOAT32 and POSITIONS list runs in float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context in which a model computes its losses."""
        device = next(model.parameters()).device.type
        set_float32_border(model, device)
        with (
            super().optim_context(model),
            torch.autocast(device, torch.bfloat16),
        ):
            yield


def set_float32_border(model: nn.Module, device: str) -> None:
    """Let FLOAT32 and POSITIONS run in float32 wherever bfloat16 is on.

    The results of those of FLOAT32_RESULT become float32. A second call
    changes nothing; copies of the model are as it is.

    Args:
        model: its modules get a ``forward`` of their own.
        device: cpu or cuda.
    """
    if BORDER in vars(model):
        return
    setattr(model, BORDER, True)
    for name, module in model.named_modules():
        last = name.split('.')[-2:]  # a layer, or one in a list of them
        positions = any(part.endswith(POSITIONS) for part in last)
        if positions or lives_in(module, FLOAT32):
            call = in_float32
        elif lives_in(module, FLOAT32_RESULT):
            call = to_float32
        else:
            continue
        if 'forward' not in vars(module):  # of a copy it is there
            module.forward = partial(call, module.forward, device)


def in_bfloat16(device: str) -> bool:
    """Whether code runs under autocast to bfloat16."""
    return (
        torch.is_autocast_enabled(device)
        and torch.get_autocast_dtype(device) == torch.bfloat16
    )


def lives_in(module: nn.Module, modules: tuple[str, ...]) -> bool:
    """Whether a module's class or a base of it is defined in a package.

    Args:
        module: any module.
        modules: packages, each with a final dot.
    """
    return any(
        f'{base.__module__}.'.startswith(modules)
        for base in type(module).__mro__
    )


def in_float32(
    forward: Callable, device: str, /, *args: Any, **kwargs: Any
) -> Any:
    """Call without autocast, with 16-bit floats turned into 32-bit ones."""
    if not in_bfloat16(device):
        return forward(*args, **kwargs)
    args, kwargs = floats((args, kwargs))
    with torch.autocast(device, enabled=False):
        return forward(*args, **kwargs)


def to_float32(
    forward: Callable, device: str, /, *args: Any, **kwargs: Any
) -> Any:
    """Call, and turn 16-bit floats of the result into 32-bit ones."""
    result = forward(*args, **kwargs)
    return floats(result) if in_bfloat16(device) else result


def floats(data: Any) -> Any:
    """Nested containers, with tensors of 16-bit floats as 32-bit floats."""
    return apply_to(data, is_half, Tensor.float)


def is_half(value: Any) -> bool:
    """Whether a value is a tensor of 16-bit floats."""
    return isinstance(value, Tensor) and value.dtype in HALVES
