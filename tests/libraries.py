"""The same backbones in other libraries, which our converters must equal."""

import re
from collections.abc import Mapping

import golden
import torch
from baselines.torchvision_stub import stub_torchvision
from torch import Tensor, nn

# PVT v2: depths, dims and what else differs from the defaults.
TRANSFORMERS_V2 = {
    'b0': ((2, 2, 2, 2), (32, 64, 160, 256), False),
    'b2': ((3, 4, 6, 3), (64, 128, 320, 512), False),
    'b2_li': ((3, 4, 6, 3), (64, 128, 320, 512), True),
}


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
    with stub_torchvision():
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
