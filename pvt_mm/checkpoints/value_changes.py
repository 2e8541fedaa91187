"""What happens to values on the way between two dialects."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Change(NamedTuple):
    """A pair of functions and, for people, what the first one does."""

    to_ours: Callable[[Tensor], Tensor]
    from_ours: Callable[[Tensor], Tensor]
    text: str


def flip_anchors(x: Tensor) -> Tensor:
    """Size-major anchors to ratio-major ones, or back; (9 * K, ...)

    Three sizes and three ratios (RetinaNet): one order is the transpose of
    the other.
    """
    return x.unflatten(0, (3, 3, -1)).transpose(0, 1).flatten(0, 2)


CHANGES = {
    'conv1x1': Change(
        lambda x: x.flatten(1),
        lambda x: x[..., None, None],
        '1x1 convolutions to linear layers',
    ),
    'class_row': Change(
        lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], dim=1),
        lambda x: x[:, 1:],
        'an unused class token row of zeros added to positions',
    ),
    'anchors': Change(
        flip_anchors, flip_anchors, 'anchors from size-major to ratio-major'
    ),
}
