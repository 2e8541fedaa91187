"""Stochastic depth."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch per image (Deep Networks with Stochastic Depth).

    Args:
        rate: probability to drop, 0 <= rate < 1.

    Shape:
        (B, ...) -> (B, ...); kept images are scaled by 1 / (1 - rate)
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f'drop path rate {rate} is not in [0, 1)')
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)"""
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        mask = x.new_empty(len(x), *[1] * (x.ndim - 1))
        return x * mask.bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """The rate, for ``print(model)``."""
        return f'rate={self.rate:.4g}'


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Rates that grow linearly from 0 to rate, one list per stage."""
    rates = torch.linspace(0, rate, sum(depths), device='cpu').tolist()
    stages = iter(rates)
    return [[next(stages) for _ in range(depth)] for depth in depths]
