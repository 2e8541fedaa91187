"""Checks of a run's weights before it starts."""

import re
from collections.abc import Iterator, Mapping

from mmengine.config import Config

from ..checkpoints import locate
from ..errors import UsageError

# Addresses of weights, but for those of mmengine alone (torchvision://).
LOCATED = re.compile(r'(pvt|https?)://|(?!.*://)')


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
