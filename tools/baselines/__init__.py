"""Backbones of other libraries, with the weights of ours, to compare with.

Each builder takes the name of a backbone and ours, and gives a module
image (B, 3, H, W) -> four maps.
"""

import re
from collections.abc import Callable
from copy import deepcopy

from torch import Tensor, nn

from pvt_mm.checkpoints.formats import from_ours
from pvt_mm.errors import UsageError
from pvt_mm.models.backbones import MPViT

from .plain_mpvit import PlainMPViT
from .torchvision_stub import stub_torchvision


class Backbone(nn.Module):
    """A model of another library as a backbone.

    Shape:
        image (B, 3, H, W) -> four maps (B, C, H/s, W/s)
    """

    def __init__(
        self, model: nn.Module, maps: Callable[[nn.Module, Tensor], list]
    ) -> None:
        super().__init__()
        self.model = model
        self.maps = maps

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps (B, C, H/s, W/s)"""
        return self.maps(self.model, image)


def timm(name: str, ours: nn.Module) -> nn.Module:
    """timm's PVT v2; it has no other family."""
    with stub_torchvision():
        from timm.models import pvt_v2
    model = getattr(pvt_v2, name)(num_classes=0)
    copy_weights(model, ours, 'timm')
    return Backbone(
        model,
        lambda m, x: m.forward_intermediates(x, intermediates_only=True),
    )


def transformers(name: str, ours: nn.Module) -> nn.Module:
    """transformers' PVT v2; its PVT takes one image size only."""
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
    copy_weights(model, ours, 'transformers')
    set_eps(model, r'patch_embedding\.layer_norm|attention\.layer_norm')
    return Backbone(
        model,
        lambda m, x: list(m(x, output_hidden_states=True).hidden_states),
    )


def mmdet(name: str, ours: nn.Module) -> nn.Module:
    """mmdet's PVT or PVT v2, which has no linear SRA."""
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
    copy_weights(model, ours, 'mmdet')
    set_eps(model, r'^layers\.\d\.0\.norm|attn\.norm')
    return model


def plain(name: str, ours: nn.Module) -> nn.Module:
    """MPViT in the usual way, from plain_mpvit.

    Raises:
        UsageError: another family.
    """
    if not isinstance(ours, MPViT):
        raise UsageError(
            f'there is no official structure of {name} to compare with, only '
            'of MPViT: leave it out of --against'
        )
    return PlainMPViT(deepcopy(ours))


BUILDERS = {
    'timm': timm,
    'transformers': transformers,
    'mmdet': mmdet,
    'official structure': plain,
}


def copy_weights(model: nn.Module, ours: nn.Module, library: str) -> None:
    """Give another library's model our weights; its head keeps its own."""
    theirs = from_ours(ours.state_dict(), library).state
    left = model.load_state_dict(theirs, strict=False)
    missing = [k for k in left.missing_keys if not k.startswith('norm')]
    assert not missing and not left.unexpected_keys, left


def set_eps(model: nn.Module, pattern: str) -> None:
    """Set the eps of these layer norms to the official 1e-5."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and re.search(pattern, name):
            module.eps = 1e-5
