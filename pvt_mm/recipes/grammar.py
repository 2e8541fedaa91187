"""The name of a leaf -> what it specifies."""

import re
from typing import NamedTuple

from ..home import list_configs

LEAVES = tuple(list_configs())

FAMILIES = {'pvt': 'PVT', 'pvt_v2': 'PVTv2', 'mpvit': 'MPViT'}
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
    rf'(?P<family>pvt_v2|pvt|mpvit)_(?P<arch>b\d(?:_li)?|[a-z]+)_'
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
    """The parts of a leaf's name.

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
