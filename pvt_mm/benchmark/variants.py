"""Models to compare with one of our backbones, with equal feature maps."""

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from importlib import import_module

import torch
from torch import Tensor, nn

from ..compat import inductor_backend
from ..config.paths import checkout
from ..errors import UsageError
from ..models.backbones import build_backbone
from ..models.backbones.fuse_conv_bn import fuse_for_inference
from ..models.layers import cpu

LIMIT = 1e-4  # largest difference of two maps, relative to the largest value
OURS = 'ours'
UNOPTIMIZED = 'ours unoptimized'
Builder = Callable[[str, nn.Module], nn.Module]


def compiled(name: str, ours: nn.Module) -> nn.Module:
    """Ours, compiled as CompileHook does, which would need mmcv."""
    model = deepcopy(ours)
    model.compile(backend=inductor_backend, fullgraph=True, dynamic=True)
    return model


class Unoptimized(nn.Module):
    """A backbone of ours without what makes it fast on the CPU.

    That is nn.Linear's products and no bands, whatever the processor.
    """

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> maps (B, C, H/s, W/s)"""
        with cpu.as_on('plain'):
            return self.ours(image)


def checkpointed(name: str, ours: nn.Module) -> nn.Module:
    """Ours with with_cp: blocks are computed again for the backward pass."""
    model = build_backbone(name, with_cp=True)
    model.load_state_dict(ours.state_dict())
    return model


# Name -> builder: (name of a backbone, our backbone) -> model.
VARIANTS: dict[str, Builder] = {
    OURS: lambda name, ours: ours,
    UNOPTIMIZED: lambda name, ours: Unoptimized(ours),
    'ours with_cp': checkpointed,
    'ours compiled': compiled,
    'ours fused': lambda name, ours: fuse_for_inference(ours),
}
# Built by tools/baselines.
BASELINES = ('timm', 'transformers', 'mmdet', 'official structure')


def builder(name: str) -> Builder:
    """The builder of a variant or of a baseline.

    Raises:
        UsageError: a baseline, but this is no checkout of the project.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    tools = str(checkout(f'--against {name!r}') / 'tools')
    if tools not in sys.path:
        sys.path.append(tools)
    return import_module('baselines').BUILDERS[name]


def build_equal(
    name: str, models: Sequence[str], device: str
) -> dict[str, nn.Module]:
    """Those models that are installed, with the same weights and maps.

    Args:
        name: of our backbone.
        models: names in VARIANTS or BASELINES.
        device: cpu or cuda.

    Returns:
        name -> model in eval mode, image (B, 3, H, W) -> four maps.

    Raises:
        UsageError: the maps of a model are not ours.
    """
    torch.manual_seed(0)
    ours = build_backbone(name)
    built = {}
    for other in models:
        try:
            built[other] = builder(other)(name, ours).to(device).eval()
        except ImportError as error:
            print(f'without {other}: {error}')
    image = torch.randn(1, 3, 96, 160, device=device)
    with torch.no_grad():
        expected = ours(image)
        for other, model in built.items():
            if other != 'ours compiled':  # compiled for the timed size only
                check_equal(f'{other} {name}', model(image), expected)
    return built


def check_equal(
    name: str, maps: Sequence[Tensor], expected: Sequence[Tensor]
) -> None:
    """Compare the maps (B, C, H, W) of two models.

    Raises:
        UsageError: they differ by more than rounding does.
    """
    for a, b in zip(maps, expected, strict=True):
        gap = float((a - b).abs().max() / b.abs().max())
        if not gap <= LIMIT:
            raise UsageError(f'the maps of {name} are off by {gap:.1e}')
