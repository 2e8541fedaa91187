"""Read each config once, split its name, build its models on meta."""

import re
from copy import deepcopy
from functools import cache
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from render.grammar import DATA, METHODS, SCHEDULES
from torch import nn

from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import list_configs
from pvt_mm.families import FAMILIES

CONFIG_NAMES = tuple(list_configs())

PATTERN = re.compile(
    rf'(?P<method>{"|".join(METHODS)})_'
    rf'(?P<family>{"|".join(sorted(FAMILIES, reverse=True))})_'
    r'(?P<arch>b\d(?:_li)?|[a-z]+)_'
    rf'(?P<data>{"|".join(DATA)})(?:_(?P<schedule>{"|".join(SCHEDULES)}))?'
)


class Name(NamedTuple):
    """The parts of {method}_{family}_{arch}_{data}[_{schedule}]."""

    method: str
    family: str
    arch: str
    data: str
    schedule: str


def parse_name(name: str) -> Name:
    """The parts of a config's name.

    Raises:
        ValueError: the name does not follow the grammar.
    """
    found = PATTERN.fullmatch(name)
    if not found:
        raise ValueError(
            f'{name} is not METHOD_FAMILY_ARCH_DATA[_SCHEDULE] with METHOD '
            f'{", ".join(METHODS)}; FAMILY {", ".join(FAMILIES)}; DATA '
            f'{", ".join(DATA)}; SCHEDULE {", ".join(SCHEDULES[1:])}'
        )
    return Name(**found.groupdict(default=''))


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
