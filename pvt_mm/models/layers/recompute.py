"""Less memory in training: what is cheap is computed twice, not kept."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...compat import in_functorch_transform
from .linear import Linear, OneDnnLinear, use_onednn


class SecondTime(threading.local):
    """While it is entered, results are computed for their inputs only.

    Each thread has its own, as the backward pass may have several.
    """

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *error: object) -> None:
        self.depth -= 1


SECOND_TIME = SecondTime()


def recomputed(function: Callable[..., Tensor], *args: Any) -> Tensor:
    """Call, and again in the backward pass, so that only args are kept.

    Nothing random may happen inside. PyTorch's compiler plans memory
    itself, and transforms of torch.func know no checkpoints: they and what
    needs no gradient get a plain call.
    """
    if (
        not torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or in_functorch_transform()
    ):
        return function(*args)
    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), SECOND_TIME),
    )


class LastLinear(Linear):
    """A linear layer that ends what is recomputed: (..., K) -> (..., M)

    The second time nobody reads its result, so the product is left out.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (SECOND_TIME.depth and use_onednn(x, self.weight)):
            return super().forward(x)
        y = OneDnnLinear.apply(x.flatten(0, -2), self.weight, self.bias, False)
        return y.unflatten(0, x.shape[:-1])
