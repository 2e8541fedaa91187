"""Mappings of values between our weights and another checkpoint format."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class ValueMapping(NamedTuple):
    """What happens to the values of a tensor, in both directions.

    Args:
        to_ours: their tensor -> ours.
        from_ours: our tensor -> theirs.
        text: what ``to_ours`` does, for the report of a conversion.
    """

    to_ours: Callable[[Tensor], Tensor]
    from_ours: Callable[[Tensor], Tensor]
    text: str


def flip_anchors(x: Tensor) -> Tensor:
    """Size-major anchors to ratio-major ones, or back: (9 * K, ...)

    Three sizes and three ratios (RetinaNet): one order is the transpose of
    the other.
    """
    return x.unflatten(0, (3, 3, -1)).transpose(0, 1).flatten(0, 2)


CONV1X1 = ValueMapping(
    lambda x: x.flatten(1),
    lambda x: x[..., None, None],
    '1x1 convolutions to linear layers',
)
CLASS_ROW = ValueMapping(
    lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], dim=1),
    lambda x: x[:, 1:],
    'an unused class token row of zeros added to positions',
)
ANCHORS = ValueMapping(
    flip_anchors, flip_anchors, 'anchors from size-major to ratio-major'
)
