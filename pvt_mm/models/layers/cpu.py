"""What makes the layers fast on the CPU: oneDNN's products, and bands of rows.

Both give the values of the plain layers; a GPU, PyTorch's compiler and an
exported file never see them.

Products. PyTorch gives float32 products to MKL, and convolutions to oneDNN,
which uses more of AVX-512 on AMD's processors. A linear layer over tokens is
computed as what it is, a convolution with a window of one cell.

Bands. The hidden features of a feed-forward network are four to eight times
as large as its input. Made a band of rows at a time they stay in the cache,
and none of their memory is new. In training each band is computed again in
the backward pass, which is faster than to read it from memory.

The processor's maker, family and instructions choose a row of CHOICES, which
is logged at the start of a run; ``PVT_MM_CPU=plain`` (or another row)
overrides it. The measurements behind each row are in docs/performance.md.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...compat import in_functorch_transform
from ...errors import UsageError
from .tokens import to_map, to_tokens

BAND = 18 * 2**20  # bytes of hidden features at a time
TOKENS = 256  # of fewer a convolution costs more than a product


class Choice(NamedTuple):
    """Whether oneDNN makes products, and when features are made in bands."""

    onednn: bool = False
    bands: bool = True
    bands_training: bool = False

    def __str__(self) -> str:
        products = 'oneDNN' if self.onednn else 'PyTorch'
        bands = f'in bands of {BAND >> 20} MiB' if self.bands else 'whole'
        if self.bands_training:
            bands += ', computed again in the backward pass'
        return f'float32 products by {products}; hidden features {bands}'


CHOICES = {
    'plain': Choice(bands=False),
    'amd_avx512': Choice(onednn=True, bands_training=True),
    'amd': Choice(bands_training=True),
    'other': Choice(),
}
forced: list[str] = []  # the last one counts; see as_on


@contextmanager
def as_on(name: str) -> Iterator[None]:
    """Context: work as on another processor, for tests and measurements.

    Args:
        name: of a row of CHOICES.
    """
    forced.append(name)
    try:
        yield
    finally:
        forced.pop()


def choice() -> Choice:
    """What this process uses."""
    return CHOICES[forced[-1] if forced else processor_kind()]


@cache
def processor_kind() -> str:
    """The name of this processor's row of CHOICES.

    Raises:
        UsageError: PVT_MM_CPU names none.
    """
    name = os.environ.get('PVT_MM_CPU')
    if name:
        if name not in CHOICES:
            raise UsageError(
                f'PVT_MM_CPU={name}: must be one of {", ".join(CHOICES)}'
            )
        return name
    try:
        maker = Path('/proc/cpuinfo').read_text()
    except OSError:
        maker = platform.processor()  # on Windows it ends with the maker
    if 'AuthenticAMD' not in maker or 'cpu family\t: 23' in maker:
        return 'other'  # family 23, up to Zen 2: half of the later L3 cache
    wide = torch.backends.cpu.get_cpu_capability().startswith('AVX512')
    return 'amd_avx512' if wide else 'amd'


def describe() -> str:
    """This processor's row of CHOICES, for a log."""
    return f'{processor_kind()} ({choice()})'


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias: (..., K), (M, K), (M) -> (..., M)"""
    if not use_onednn(x, weight):
        return F.linear(x, weight, bias)
    tokens = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    y = F.conv2d(tokens, weight[:, :, None, None], bias)  # (1, M, 1, N)
    return y.permute(0, 2, 3, 1).view(*x.shape[:-1], -1)


def use_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can and should make this product."""
    return (
        not plain_code()
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= TOKENS * x.shape[-1]
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled('cpu')
        and choice().onednn
    )


def plain_code() -> bool:
    """Whether torch.compile, torch.jit.trace or torch.func read the code."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or in_functorch_transform()
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


def in_bands(
    function: Callable[[Tensor, int, int], Tensor],
    x: Tensor,
    hidden: int,
    *,
    halo: int = 0,
    recompute: bool = True,
) -> Tensor:
    """Call a function on a few rows at a time.

    Args:
        function: (part, start, rows) -> rows start:start + rows of its
            result; part has ``halo`` rows more on either side, where there
            are any. Nothing random happens inside.
        x: (B, H, ..., C).
        hidden: features that the function makes of each C.
        halo: rows that it looks at beyond those wanted.
        recompute: whether it may be called again in the backward pass.

    Returns:
        (B, H, ..., C')
    """
    images, height = x.shape[:2]
    if not use_bands(x, recompute):  # first: a compiler would keep the sizes
        return function(x, 0, height)
    row = x[0, 0].numel() // x.shape[-1] * hidden * x.element_size()
    if images * height * row <= BAND:
        return function(x, 0, height)
    if torch.is_grad_enabled():
        function = partial(
            checkpoint, function, use_reentrant=False, preserve_rng_state=False
        )
    rows = min(max(BAND // row, 1), height)
    parts = []
    for some in x.split(max(BAND // (row * height), 1)):
        for start in range(0, height, rows):
            first = max(start - halo, 0)
            part = some[:, first : start + rows + halo]
            parts.append(function(part, start - first, rows).flatten(0, 1))
    return torch.cat(parts).unflatten(0, (images, height))


def use_bands(x: Tensor, recompute: bool) -> bool:
    """Whether hidden features are made in bands."""
    if x.device.type != 'cpu' or plain_code():
        return False
    if torch.is_grad_enabled():
        return recompute and choice().bands_training
    return choice().bands


def keep_freed_memory() -> None:
    """Let the C library keep the memory of large tensors for the next call.

    glibc keeps freed blocks up to the largest size that it has seen freed,
    and 32 MiB at most (mallopt(3), M_MMAP_THRESHOLD); others go back to the
    system, and new pages cost time. For processes of our own commands only:
    PVTv2-B2's inference takes 0.36 in place of 0.44 s at 512x512, 2.1 in
    place of 2.3 s at 800x1344 (AMD EPYC with AVX-512, two threads).
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
