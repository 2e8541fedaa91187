"""The zoo: addresses of the published weights by name."""

from difflib import get_close_matches
from typing import NamedTuple

from ..errors import CheckpointError

PVT_RELEASE = 'https://github.com/whai362/PVT/releases/download/v2/'
HUB = 'https://huggingface.co/'


class Source(NamedTuple):
    """One published file.

    Args:
        urls: addresses in the order to try; their files may differ in
            checkpoint format, not in weights.
        gone: address that the authors published and that is dead.
        sha256: of the first address's file, or its first digits; empty if
            nobody published it.
    """

    urls: tuple[str, ...] = ()
    gone: str = ''
    sha256: str = ''


def pvt(name: str, mirror: str) -> Source:
    """Official ImageNet file of PVT or PVT v2, and a mirror."""
    return Source((f'{PVT_RELEASE}{name}.pth', f'{HUB}{mirror}'))


def timm(name: str) -> Source:
    """Official ImageNet file of PVT v2, and timm's copy of it."""
    return pvt(name, f'timm/{name}.in1k/resolve/main/model.safetensors')


def zetatech(name: str) -> Source:
    """Official ImageNet file of PVT, and the copy transformers documents."""
    mirror = name.replace('_', '-') + '-224'
    return pvt(name, f'Zetatech/{mirror}/resolve/main/pytorch_model.bin')


def dropbox(path: str) -> Source:
    """A file of MPViT's authors, whose links are all dead."""
    return Source(gone=f'https://dl.dropbox.com/s/{path}')


# fmt: off
ZOO = {
    'pvt_tiny':      zetatech('pvt_tiny'),
    'pvt_small':     zetatech('pvt_small'),
    'pvt_medium':    zetatech('pvt_medium'),
    'pvt_large':     zetatech('pvt_large'),
    'pvt_v2_b0':     timm('pvt_v2_b0'),
    'pvt_v2_b1':     timm('pvt_v2_b1'),
    'pvt_v2_b2':     timm('pvt_v2_b2'),
    'pvt_v2_b2_li':  timm('pvt_v2_b2_li'),
    'pvt_v2_b3':     timm('pvt_v2_b3'),
    'pvt_v2_b4':     timm('pvt_v2_b4'),
    'pvt_v2_b5':     timm('pvt_v2_b5'),
    'mpvit_tiny':    dropbox('1cmquqyjmaeeg1n/mpvit_tiny.pth'),
    'mpvit_xsmall':  dropbox('vvpq2m474g8tvyq/mpvit_xsmall.pth'),
    'mpvit_small':   dropbox('y3dnmmy8h4npz7a/mpvit_small.pth'),
    'mpvit_base':    dropbox('la8w31m0apj2830/mpvit_base.pth'),
    'mpvit_tiny_d2':    dropbox('ys6fxsth2cn7j8w/mpvit_tiny_d2.pth'),
    'mpvit_xsmall_d2':  dropbox('2khsfuj4zetjubw/mpvit_xsmall_d2.pth'),
    'mpvit_small_d2':   dropbox('3rk44pybi9jq9yq/mpvit_small_d2.pth'),
    'mpvit_base_d2':    dropbox('wiqpwiw35k7t6z7/mpvit_base_d2.pth'),
    'mpvit_small_mm':   dropbox('1o07eti5rgve1i6/mpvit_small_mm.pth'),
    'mpvit_base_mm':    dropbox('6g44hu0ax71s74h/mpvit_base_mm.pth'),
}
# fmt: on


def find(name: str) -> Source:
    """The row of a name.

    Raises:
        CheckpointError: not in the table; the nearest names are listed.
    """
    if name not in ZOO:
        near = ', '.join(get_close_matches(name, ZOO, cutoff=0))
        raise CheckpointError(
            f'pvt://{name} is not in the zoo; nearest: {near}'
        )
    return ZOO[name]
