"""Read each config once; build its models on the meta device."""

from copy import deepcopy
from functools import cache

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from pvt_mm.config.loading import load_config


@cache
def read(name: str) -> Config:
    """The config of a name; not to be changed."""
    return load_config(name)


def fresh(name: str) -> Config:
    """A copy of the config that may be changed; its scope is the default."""
    cfg = deepcopy(read(name))
    init_default_scope(cfg.default_scope)
    return cfg


@cache
def backbone(name: str) -> nn.Module:
    """The backbone of a config on the meta device."""
    with torch.device('meta'):
        return MODELS.build({**read(name).model.backbone, 'init_cfg': None})


@cache
def model(name: str) -> nn.Module:
    """The whole model of a config on the meta device."""
    cfg = fresh(name).model
    with torch.device('meta'):
        return MODELS.build({**cfg, 'data_preprocessor': None})
