"""Build a backbone by its name, with or without weights."""

from typing import Any

from mmengine.registry import MODELS

from ...checkpoints import load_pretrained
from ...errors import UsageError
from ...families import FAMILIES, split_name
from .pyramid import Pyramid


def build_backbone(
    name: str, pretrained: str | bool | None = None, **options: Any
) -> Pyramid:
    """A backbone that is a plain nn.Module, with or without weights.

    Args:
        name: FAMILY_ARCH, for example pvt_v2_b2, pvt_small, mpvit_tiny.
        pretrained: name in the zoo, ``pvt://NAME``, an address or a file;
            True for the zoo's weights of this backbone.
        options: arguments of the family's class, for example out_indices.

    Returns:
        a module image (B, 3, H, W) -> tuple of maps (B, C, H', W'), with
        ``out_channels`` and ``strides`` of these maps.

    Raises:
        UsageError: no such name, or an argument is out of range.
        CheckpointError: the weights are not there or do not fit.
    """
    found = split_name(name)
    if found is None:
        begins = ', '.join(f'{family}_' for family in FAMILIES)
        raise UsageError(
            f'{name!r}: names of backbones begin with {begins}, for example '
            'pvt_v2_b2'
        )
    family, arch = found
    try:
        model = MODELS.get(FAMILIES[family].backbone)(arch, **options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if pretrained:
        load_pretrained(model, name if pretrained is True else pretrained)
    return model
