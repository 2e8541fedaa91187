"""Split the name of a config into method, family, arch, data, schedule."""

import re
from typing import NamedTuple

from pvt_mm.config.paths import list_configs
from pvt_mm.families import FAMILIES

CONFIG_NAMES = tuple(list_configs())

# Method: type of the model, and of the head that makes the difference.
METHODS = {
    'retinanet': ('RetinaNet', 'RetinaHead'),
    'mask_rcnn': ('MaskRCNN', 'StandardRoIHead'),
    'cascade_mask_rcnn': ('CascadeRCNN', 'CascadeRoIHead'),
    'atss': ('ATSS', 'ATSSHead'),
    'gfl': ('GFL', 'GFLHead'),
    'sparse_rcnn': ('SparseRCNN', 'SparseRoIHead'),
    'detr': ('DETR', 'DETRHead'),
    'deformable_detr': ('DeformableDETR', 'DeformableDETRHead'),
    'semantic_fpn': ('EncoderDecoder', 'FPNHead'),
    'upernet': ('EncoderDecoder', 'UPerHead'),
    'concat_fusion': ('EncoderDecoder', 'ConcatFusionHead'),
    'classifier': ('PyramidClassifier', None),
}
DATA = ('coco', 'ade20k', 'cityscapes', 'imagenet', 'cifar10', 'shapes')
SCHEDULES = ('', 'ms_3x', '640')  # '' is the family's own standard

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
