"""Linear layers with the fastest float32 product on the CPU.

PyTorch gives float32 products on the CPU to MKL, which does not use AVX-512
on processors that are not Intel's; oneDNN, which comes with PyTorch too, uses
it everywhere (measured on one core of an AMD EPYC of 2024: 221 against 97
GFLOP/s). PyTorch's own compiler calls the same operator. Without AVX-512 MKL
is faster (two cores of an AMD EPYC of 2021: 140 against 165).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import in_functorch_transform, onednn_linear
from .tokens import to_map, to_tokens

PRODUCT = onednn_linear()
WANTED = torch.backends.cpu.get_cpu_capability().startswith('AVX512')


class OneDnnLinear(torch.autograd.Function):
    """x @ weight.T + bias, forward and backward by oneDNN.

    Args:
        read: False to return zeros in place of the product, for a
            recomputation, which needs only what the backward pass saves.

    Shape:
        x (N, K), weight (M, K), bias (M) or None -> (N, M)
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, read: bool = True
    ) -> Tensor:
        """(N, K) -> (N, M)"""
        if not read:
            return x.new_zeros(1, 1).expand(len(x), len(weight))
        return PRODUCT(x, weight, bias, 'none', [], '')

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep x and weight for the backward pass."""
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, M) -> gradients of x (N, K), weight (M, K) and bias (M)"""
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        product = OneDnnLinear.apply
        return (
            product(grad, weight.T, None) if needs[0] else None,
            product(grad.T, x.T, None) if needs[1] else None,
            grad.sum(0) if needs[2] else None,
            None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias: (..., K), (M, K), (M) -> (..., M)"""
    if not use_onednn(x, weight):
        return F.linear(x, weight, bias)
    y = OneDnnLinear.apply(x.flatten(0, -2), weight, bias)
    return y.unflatten(0, x.shape[:-1])


def use_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can and should make this product."""
    return (
        PRODUCT is not None
        and WANTED
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.dim() > 1
        and x.numel() > 0
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not in_functorch_transform()
    )


class Linear(nn.Linear):
    """nn.Linear with the fastest product."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., M)"""
        return linear(x, self.weight, self.bias)


class PointwiseConv(nn.Conv2d):
    """1x1 convolution, computed as a linear layer over tokens.

    PyTorch copies a channels-last map for it as if its window were larger.
    """

    def __init__(self, in_channels: int, channels: int, bias: bool) -> None:
        super().__init__(in_channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)"""
        if not use_onednn(x, self.weight):
            return super().forward(x)
        y = linear(to_tokens(x), self.weight.flatten(1), self.bias)
        return to_map(y, tuple(x.shape[2:]))
