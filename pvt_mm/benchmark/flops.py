"""Multiply-adds and parameters of a config's model.

Three counts, because published ones follow two conventions and naive tools a
third:

* true: every convolution, linear layer and matrix product, by PyTorch's own
  counter; the attention runs in its mathematical form, because a fused
  ``scaled_dot_product_attention`` is not counted on every device;
* published: what the authors' tools added to that;
* naive: the true count without the attention's products, which is what a
  counter sees that knows modules only, or loses the fused attention.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..models.layers import ReducedAttention
from .forward import forward

# Height and width that published counts are for, by the name of the config.
SIZES = (
    (r'classifier_\w+_imagenet', (224, 224)),
    (r'classifier_\w+_cifar10', (64, 64)),
    (r'upernet_mpvit_\w+', (512, 2048)),
    (r'\w+_640', (640, 960)),
    (r'\w+_ade20k', (512, 512)),
    (r'\w+_cityscapes', (512, 1024)),
    (r'\w+_shapes', (160, 160)),
    (r'\w+', (800, 1280)),
)
NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm | nn.GroupNorm


class Count(NamedTuple):
    """Multiply-adds in G, parameters in M."""

    params: float
    true: float
    published: float
    naive: float

    def text(self, name: str, size: Sequence[int]) -> str:
        """One line about a config or backbone and an image size."""
        return (
            f'{name}, {size[0]}x{size[1]}: {self.params:.3f} M parameters, '
            f'{self.true:.3f} G multiply-adds ({self.published:.3f} G counted '
            f'as in the papers, {self.naive:.3f} G without attention products)'
        )


def size_of(name: str) -> tuple[int, int]:
    """Height and width of the image for a config."""
    return next(size for pattern, size in SIZES if re.fullmatch(pattern, name))


def count(cfg: Config, size: tuple[int, int]) -> Count:
    """Count the model of a config for one image.

    Args:
        cfg: a whole config.
        size: height and width of the image.
    """
    model = build(cfg)
    # mmcv's operators and Deformable DETR read values: not on 'meta'
    device = next(model.parameters()).device
    channels = cfg.model.backbone.get('in_channels', 3)
    image = torch.empty(1, channels, *size, device=device)
    return count_run(
        model, cfg.model.backbone.type, partial(forward, model, image)
    )


def count_run(
    model: nn.Module, family: str, run: Callable[[], object]
) -> Count:
    """Count one call of a model.

    Args:
        model: its parameters and layers are counted.
        family: class of its backbone, which decides the published count.
        run: calls the model once, for one image.
    """
    with (
        tally(model) as extra,
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
        torch.no_grad(),
    ):
        run()
    true = counter.get_total_flops() / 2
    added = by_fvcore if family == 'MPViT' else by_mmcv
    params = sum(p.numel() for p in model.parameters())
    return Count(
        params / 1e6,
        true / 1e9,
        (true + added(extra)) / 1e9,
        (true - extra['attention']) / 1e9,
    )


def build(cfg: Config, device: str | None = None) -> nn.Module:
    """The model of a config, without memory for its weights if possible."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    config = {**cfg.model, 'data_preprocessor': None}
    config['backbone'] = {**cfg.model.backbone, 'init_cfg': None}
    meta = 'cpu' if cfg.model.type == 'DeformableDETR' else 'meta'
    with torch.device(device or meta):
        return MODELS.build(config).eval().requires_grad_(False)


@contextmanager
def tally(model: nn.Module):
    """Count the elements of modules' outputs during a run, by kind."""
    counts = dict.fromkeys(
        ('attention', 'conv_bias', 'layer_norm', 'other_norm', 'relu'), 0
    )

    keys = {}

    def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
        kind = kind_of(module)
        if kind == 'attention':
            # each query meets each key, each weight each value
            counts[kind] += 2 * output.numel() * keys[module.kv]
        elif kind:
            counts[kind] += output.numel()
        elif isinstance(module, nn.Linear):
            keys[module] = output.shape[1] if output.ndim > 1 else 1

    handles = [m.register_forward_hook(hook) for m in model.modules()]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def kind_of(module: nn.Module) -> str | None:
    """The kind of a module in the counts; None if it is not counted."""
    if isinstance(module, ReducedAttention):
        return 'attention'
    if isinstance(module, nn.LayerNorm):
        return 'layer_norm'
    if isinstance(module, NORMS):
        return 'other_norm'
    if isinstance(module, nn.ReLU):
        return 'relu'
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        return 'conv_bias'
    return None


def by_mmcv(extra: Mapping[str, int]) -> int:
    """Operations that mmcv 1's counter adds (whai362/PVT, get_flops.py).

    Biases of convolutions, two operations per element of a norm, and ReLU;
    the products of the attention were added by hand.
    """
    norms = extra['layer_norm'] + extra['other_norm']
    return extra['conv_bias'] + 2 * norms + extra['relu']


def by_fvcore(extra: Mapping[str, int]) -> int:
    """Operations that fvcore's counter adds (youngwanLEE/MPViT)."""
    return 5 * extra['layer_norm'] + 2 * extra['other_norm']
