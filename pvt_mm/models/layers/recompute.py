"""Recompute what is cheap in the backward pass, to save memory."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...compat import in_functorch_transform
from .linear import Linear, OneDnnLinear, use_onednn


class Recomputing(threading.local):
    """Thread-local context, entered while a checkpointed function runs again.

    That is in the backward pass; LastLinear then skips its product.
    """

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *error: object) -> None:
        self.depth -= 1


RECOMPUTING = Recomputing()


def recomputed(function: Callable[..., Tensor], *args: Any) -> Tensor:
    """Call a function, and again in the backward pass: only args are kept.

    Nothing random may happen inside. It is a plain call without gradients,
    in PyTorch's compiler, which plans memory itself, and in transforms of
    torch.func, which know no checkpoints.

    Args:
        function: ends with a LastLinear, or is cheap.
        args: of the function.
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
        context_fn=lambda: (nullcontext(), RECOMPUTING),
    )


class LastLinear(Linear):
    """The last linear layer of what is recomputed: (..., K) -> (..., M)

    A recomputation does not use its result, so the product is left out.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., M)"""
        if not (RECOMPUTING.depth and use_onednn(x, self.weight)):
            return super().forward(x)
        y = OneDnnLinear.apply(x.flatten(0, -2), self.weight, self.bias, False)
        return y.unflatten(0, x.shape[:-1])
