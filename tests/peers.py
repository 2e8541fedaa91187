"""The same backbones in other libraries: what our converters are held to."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import golden
import torch
from torch import Tensor, nn

# PVT v2: depths, dims and what else differs from the defaults.
TRANSFORMERS_V2 = {
    'b0': ((2, 2, 2, 2), (32, 64, 160, 256), False),
    'b2': ((3, 4, 6, 3), (64, 128, 320, 512), False),
    'b2_li': ((3, 4, 6, 3), (64, 128, 320, 512), True),
}


class AnyClass(type):
    """A class with every attribute, each a class like it."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith('__'):
            raise AttributeError(name)
        return AnyClass(name, (), {})


class AnyModule(ModuleType):
    """A package in which every name is a class."""

    __path__ = ()

    def __getattr__(self, name: str) -> type:
        return getattr(AnyClass('Any', (), {}), name)


class StandIn(MetaPathFinder, Loader):
    """Finds torchvision, which timm imports and these models do not use."""

    def find_spec(self, name: str, *args: object) -> ModuleSpec | None:
        if name.split('.')[0] == 'torchvision':
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return AnyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """Only what is imported inside sees a torchvision; a real one stays."""
    finder = StandIn()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if isinstance(sys.modules[name], AnyModule):
                del sys.modules[name]


def fill(model: nn.Module) -> nn.Module:
    """Random weights that follow from the model's own names."""
    state = model.state_dict()
    model.load_state_dict(
        {key: golden.weight(key, tuple(t.shape)) for key, t in state.items()}
    )
    return model.eval()


def official_eps(model: nn.Module, *loose: str) -> nn.Module:
    """Set every LayerNorm to the official eps.

    Args:
        model: one that has 1e-6 in all of them.
        loose: patterns of the ends of names, patch embeddings and
            reductions, where the official eps is PyTorch's 1e-5.
    """
    for pattern in loose:
        norms = [
            module
            for name, module in model.named_modules()
            if re.search(f'{pattern}$', name)
        ]
        assert norms, pattern
        for norm in norms:
            assert norm.eps == 1e-6
            norm.eps = 1e-5
    return model


def timm_classifier(arch: str) -> nn.Module:
    """timm's PVT v2 with its head of 1000 classes."""
    with torchvision_stand_in():
        from timm.models import pvt_v2
    return fill(getattr(pvt_v2, f'pvt_v2_{arch}')())


def timm_maps(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Maps of the four stages."""
    return model.forward_intermediates(image, intermediates_only=True)


def transformers_pvt_v2(arch: str) -> nn.Module:
    """transformers' PVT v2 with a head of 1000 classes."""
    from transformers import PvtV2Config, PvtV2ForImageClassification

    depths, dims, linear = TRANSFORMERS_V2[arch]
    config = PvtV2Config(
        depths=depths,
        hidden_sizes=dims,
        mlp_ratios=(8, 8, 4, 4),
        linear_attention=linear,
        num_labels=1000,
    )
    return fill(PvtV2ForImageClassification(config))


def transformers_pvt() -> nn.Module:
    """transformers' PVT tiny, which has no other form than with a head."""
    from transformers import PvtConfig, PvtForImageClassification

    config = PvtConfig(
        depths=(2, 2, 2, 2), mlp_ratios=(8, 8, 4, 4), num_labels=1000
    )
    return fill(PvtForImageClassification(config))


def transformers_maps(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Maps of the four stages of PVT v2."""
    return list(model.pvt_v2(image, output_hidden_states=True).hidden_states)


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of its map."""
    return max(
        float((a - b).abs().max() / b.abs().max())
        for a, b in zip(ours, theirs, strict=True)
    )


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts have the same keys and bits."""
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)
