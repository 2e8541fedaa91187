"""The same backbone from several libraries, with the same weights."""

import re
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...checkpoints.formats import from_ours
from ...engine.hooks.compile_hook import compile_backbone
from ...errors import UsageError
from ...models.backbones import build_backbone
from ...models.fuse_conv_bn import fuse_for_inference
from .plain_mpvit import PlainMPViT
from .torchvision_stub import torchvision_stand_in

LIMIT = 1e-4  # largest difference of two maps, relative to the largest value


def build(name: str, **options: object) -> nn.Module:
    """Our backbone of a name such as pvt_v2_b2.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return build_backbone(name, **options)
    except ValueError as error:
        raise UsageError(
            f'{name} is neither a config file nor a backbone: {error}'
        ) from error


class Maps(nn.Module):
    """A model of another library as a backbone: image -> four maps."""

    def __init__(
        self, model: nn.Module, maps: Callable[[nn.Module, Tensor], list]
    ) -> None:
        super().__init__()
        self.model = model
        self.maps = maps

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.maps(self.model, image)


def timm(name: str, ours: nn.Module) -> nn.Module:
    """timm's; it has PVT v2 only."""
    with torchvision_stand_in():
        from timm.models import pvt_v2
    model = getattr(pvt_v2, name)(num_classes=0)
    take_weights(model, ours, 'timm')
    return Maps(
        model,
        lambda m, x: m.forward_intermediates(x, intermediates_only=True),
    )


def transformers(name: str, ours: nn.Module) -> nn.Module:
    """transformers'; its PVT knows one image size, so PVT v2 only."""
    from transformers import PvtV2Config, PvtV2Model

    blocks = [stage.blocks for stage in ours.stages]
    config = PvtV2Config(
        depths=[len(b) for b in blocks],
        hidden_sizes=list(ours.out_channels),
        mlp_ratios=[
            b[0].mlp.fc1.out_features // b[0].mlp.fc1.in_features
            for b in blocks
        ],
        linear_attention=name.endswith('_li'),
    )
    model = PvtV2Model(config)
    take_weights(model, ours, 'transformers')
    set_eps(model, r'patch_embedding\.layer_norm|attention\.layer_norm')
    return Maps(
        model,
        lambda m, x: list(m(x, output_hidden_states=True).hidden_states),
    )


def mmdet(name: str, ours: nn.Module) -> nn.Module:
    """mmdet's PVT or PVT v2; linear SRA it has not."""
    from mmdet.models.backbones import pvt

    depths = [len(stage.blocks) for stage in ours.stages]
    kind = (
        pvt.PyramidVisionTransformerV2
        if name.startswith('pvt_v2')
        else pvt.PyramidVisionTransformer
    )
    model = kind(
        embed_dims=ours.out_channels[0],
        num_layers=depths,
        drop_path_rate=0.0,
        init_cfg=None,
    )
    take_weights(model, ours, 'mmdet')
    set_eps(model, r'^layers\.\d\.0\.norm|attn\.norm')
    return model


def plain(name: str, ours: nn.Module) -> nn.Module:
    """MPViT in the usual way."""
    return PlainMPViT(deepcopy(ours))


def compiled(name: str, ours: nn.Module) -> nn.Module:
    """Ours, compiled for images of all sizes."""
    model = deepcopy(ours)
    compile_backbone(model)
    return model


def checkpointed(name: str, ours: nn.Module) -> nn.Module:
    """Ours with with_cp: blocks are computed again for the backward pass."""
    model = build(name, with_cp=True)
    model.load_state_dict(ours.state_dict())
    return model


MAKERS = {
    'ours': lambda name, ours: ours,
    'ours with_cp': checkpointed,
    'ours compiled': compiled,
    'ours fused': lambda name, ours: fuse_for_inference(ours),
    'timm': timm,
    'transformers': transformers,
    'mmdet': mmdet,
    'official structure': plain,
}


def take_weights(model: nn.Module, ours: nn.Module, dialect: str) -> None:
    """Give another library's model our weights; its head keeps its own."""
    theirs = from_ours(ours.state_dict(), dialect)[1].state
    left = model.load_state_dict(theirs, strict=False)
    outside = [k for k in left.missing_keys if not k.startswith('norm')]
    assert not outside and not left.unexpected_keys, left


def set_eps(model: nn.Module, pattern: str) -> None:
    """Set the eps of these layer norms to the official 1e-5."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and re.search(pattern, name):
            module.eps = 1e-5


def enter(name: str, who: list[str], device: str) -> dict[str, nn.Module]:
    """The contestants that are installed, on the device, equal to ours.

    Args:
        name: of the backbone.
        who: names in MAKERS, 'ours' among them.
        device: cpu or cuda.

    Raises:
        UsageError: a contestant's maps are not ours.
    """
    torch.manual_seed(0)
    ours = build(name)
    models = {}
    for other in who:
        try:
            models[other] = MAKERS[other](name, ours).to(device).eval()
        except ImportError as error:
            print(f'without {other}: {error}')
    image = torch.randn(1, 3, 96, 160, device=device)
    with torch.no_grad():
        expected = ours(image)
        for other, model in models.items():
            if other != 'ours compiled':  # compiled for the timed size only
                check_equal(f'{other} {name}', model(image), expected)
    return models


def check_equal(name: str, maps: list, expected: list) -> None:
    """Stop if maps differ by more than rounding does."""
    for a, b in zip(maps, expected, strict=True):
        gap = float((a - b).abs().max() / b.abs().max())
        if not gap <= LIMIT:
            raise UsageError(f'the maps of {name} are off by {gap:.1e}')
