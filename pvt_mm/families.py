"""The three families of backbones: names of classes, archs and papers."""

from typing import NamedTuple


class Family(NamedTuple):
    """One family, as the rest of the package names it.

    Attributes:
        backbone: name of the registered class.
        title: as its paper writes it.
        archs: names of its variants, as ``arch='b2'`` takes them.
        arxiv: number of its paper.
        paper: title of its paper.
    """

    backbone: str
    title: str
    archs: tuple[str, ...]
    arxiv: str
    paper: str


# By the name that configs, zoo and results have before the arch.
FAMILIES = {
    'pvt': Family(
        'PVT',
        'PVT',
        ('tiny', 'small', 'medium', 'large'),
        '2102.12122',
        'Pyramid Vision Transformer',
    ),
    'pvt_v2': Family(
        'PVTv2',
        'PVT v2',
        ('b0', 'b1', 'b2', 'b2_li', 'b3', 'b4', 'b5'),
        '2106.13797',
        'PVT v2',
    ),
    'mpvit': Family(
        'MPViT',
        'MPViT',
        ('tiny', 'xsmall', 'small', 'base'),
        '2112.11010',
        'MPViT: Multi-Path Vision Transformer',
    ),
}


def split_name(name: str) -> tuple[str, str] | None:
    """'pvt_v2_b2' -> ('pvt_v2', 'b2'); None if it begins with no family."""
    for family in sorted(FAMILIES, key=len, reverse=True):
        if name.startswith(f'{family}_'):
            return family, name.removeprefix(f'{family}_')
    return None
