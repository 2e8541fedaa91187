"""Leaves, each read once: configs, and models that take no memory."""

from copy import deepcopy
from functools import cache

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from pvt_mm.home import CONFIGS


@cache
def read(leaf: str) -> Config:
    """The config of a leaf; not to be changed."""
    return Config.fromfile(CONFIGS / f'{leaf}.py')


def fresh(leaf: str) -> Config:
    """A copy of the config that may be changed; its scope is the default."""
    cfg = deepcopy(read(leaf))
    init_default_scope(cfg.default_scope)
    return cfg


@cache
def backbone(leaf: str) -> nn.Module:
    """The backbone of a leaf on the meta device."""
    with torch.device('meta'):
        return MODELS.build({**read(leaf).model.backbone, 'init_cfg': None})


@cache
def model(leaf: str) -> nn.Module:
    """The whole model of a leaf on the meta device."""
    cfg = fresh(leaf).model
    with torch.device('meta'):
        return MODELS.build({**cfg, 'data_preprocessor': None})
