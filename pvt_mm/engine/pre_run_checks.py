"""Checks of a run's weights and model before it starts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from torch import nn

from ..checkpoints import locate
from ..config.schema import walk
from ..errors import UsageError

# Addresses of weights, but for those of mmengine alone (torchvision://).
LOCATED = re.compile(r'(pvt|https?)://|(?!.*://)')
# Necks that take each map of the backbone, in order, and make all as wide.
NECKS = ('FPN', 'PAFPN', 'ChannelMapper')
# Numbers of a detector that are the width of its neck.
DETECTOR = re.compile(
    r'(bbox_head|rpn_head|roi_head\.(bbox|mask)_head(\.\d+)?)\.in_channels$'
    r'|roi_head\.(bbox|mask)_roi_extractor(\.\d+)?\.out_channels$'
)


def weight_configs(cfg: Config) -> Iterator[Mapping]:
    """The dicts of weight files in the backbone's init_cfg.

    Raises:
        UsageError: init_cfg is neither a dict nor a list of them.
    """
    given = (cfg.model.get('backbone') or {}).get('init_cfg') or []
    for weights in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(weights, Mapping):
            raise UsageError(
                f'model.backbone.init_cfg={given!r} must be '
                "dict(type='Pretrained', checkpoint=...)"
            )
        if weights.get('type') == 'Pretrained':
            yield weights


def check_weights(cfg: Config) -> None:
    """Get the backbone's weights now, not after the data has been read.

    Raises:
        CheckpointError: they are nowhere; it says where to put them.
        UsageError: init_cfg is neither a dict nor a list of them.
    """
    for weights in weight_configs(cfg):
        address = weights.get('checkpoint')
        if address and LOCATED.match(address):
            locate(address)


def check_channels(cfg: Mapping[str, Any], model: nn.Module) -> None:
    """Check that neck and heads take as many channels as they get.

    torch would fail in the first iteration, without a name.

    Args:
        cfg: config of the model.
        model: what was built from it, also inside a wrapper; a backbone
            without ``out_channels`` is not checked.

    Raises:
        UsageError: it says which numbers fit.
    """
    backbone = getattr(getattr(model, 'module', model), 'backbone', None)
    maps = list(getattr(backbone, 'out_channels', ()))
    neck = cfg.get('neck')
    if not maps or isinstance(neck, Sequence):
        return
    if neck:
        if neck.get('type', '').split('.')[-1] not in NECKS:
            return
        compare('neck.in_channels', neck.get('in_channels'), maps)
        width = neck.get('out_channels')
        for name, value in walk(cfg):
            if DETECTOR.match(name):
                compare(name, value, width)
        maps = [width] * (neck.get('num_outs') or len(maps))
    for name, head in segmentation_heads(cfg):
        check_head(name, head, maps)


def segmentation_heads(cfg: Mapping) -> Iterator[tuple[str, Mapping]]:
    """The heads of a segmentor by name."""
    for name in ('decode_head', 'auxiliary_head'):
        heads = cfg.get(name) or []
        if isinstance(heads, Mapping):
            yield name, heads
            continue
        for i, head in enumerate(heads):
            yield f'{name}.{i}', head


def check_head(name: str, head: Mapping, maps: list[int]) -> None:
    """Compare the channels of a head of mmseg with the maps that it selects.

    Raises:
        UsageError: it says which numbers fit.
    """
    given = head.get('in_channels')
    every = tuple(range(len(maps))) if isinstance(given, Sequence) else -1
    index = head.get('in_index', every)
    chosen = index if isinstance(index, Sequence) else [index]
    if not all(-len(maps) <= i < len(maps) for i in chosen):
        raise UsageError(
            f'model.{name}.in_index={index} names a map that is not there: '
            f'choose from 0..{len(maps) - 1}'
        )
    widths = [maps[i] for i in chosen]
    compare(
        f'{name}.in_channels',
        given,
        widths if isinstance(index, Sequence) else widths[0],
    )


def compare(name: str, given: Any, wanted: Any) -> None:
    """Compare a number of the config, or a list of them, with what fits.

    Raises:
        UsageError: they differ.
    """
    given = list(given) if isinstance(given, Sequence) else given
    if given is not None and given != wanted:
        raise UsageError(
            f'model.{name}={given} does not fit the maps that it gets: write '
            f'{name.split(".")[-1]}={wanted}'
        )
