"""Feed-forward networks of a block."""

import torch
from torch import Tensor, nn

from ...compat import in_functorch_transform
from .linear import Linear
from .recompute import LastLinear, recomputed
from .tokens import Size

# Bytes of hidden features at a time on the CPU: fits the cache, and three such
# buffers stay below glibc's 32 MiB limit, so freed memory is reused.
BAND = 12 * 2**20


def keep_freed_memory() -> None:
    """Let the C library keep the memory of large tensors for the next call.

    glibc keeps freed blocks up to the largest size that it has seen freed,
    and 32 MiB at most (mallopt(3), M_MMAP_THRESHOLD); others go back to the
    system, and a page that comes again costs time (9 us for 4 KiB were
    measured). For processes of our own commands only.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


class Mlp(nn.Module):
    """Two linear layers with GELU between them.

    Args:
        dim: channels C of a token.
        hidden: channels between the layers.

    Shape:
        x (B, N, C) with any size -> (B, N, C)
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = LastLinear(hidden, dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C) -> (B, N, C)"""
        return self.fc2(self.act(self.fc1(x)))


class ConvMlp(nn.Module):
    """Mlp with a 3x3 depthwise convolution (PVT v2, section 3.4).

    Hidden features of more than ``BAND`` bytes are computed in bands of
    rows, and again in the backward pass.

    Args:
        dim: channels C of a token.
        hidden: channels between the layers.
        inner_act: activation before the convolution; the official linear
            SRA variants have a ReLU there, the others nothing.

    Shape:
        x (B, N, C) with size (H, W), N = H * W -> (B, N, C)
    """

    def __init__(
        self, dim: int, hidden: int, inner_act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.inner_act = inner_act or nn.Identity()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = LastLinear(hidden, dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C), size (H, W) -> (B, N, C)"""
        rows = self.band_height(x, size)
        x = x.unflatten(1, size)  # (B, H, W, C)
        if rows is None:
            return self.band(x, 0, size[0]).flatten(1, 2)
        out = []
        for start in range(0, size[0], rows):
            # The convolution looks one row beyond the band at either side.
            first = max(start - 1, 0)
            part = x[:, first : start + rows + 1]
            out.append(recomputed(self.band, part, start - first, rows))
        return torch.cat(out, dim=1).flatten(1, 2)

    def band(self, x: Tensor, start: int, rows: int) -> Tensor:
        """Rows start:start + rows of the result, (B, rows, W, C)"""
        x = self.inner_act(self.fc1(x)).permute(0, 3, 1, 2)
        # cut with channels last: the gradient of a cut has contiguous memory
        x = self.dwconv(x).permute(0, 2, 3, 1)[:, start : start + rows]
        return self.fc2(self.act(x))

    def band_height(self, x: Tensor, size: Size) -> int | None:
        """Rows to compute at a time; None for all, without recomputation."""
        if torch.compiler.is_compiling() or in_functorch_transform():
            return None  # the compiler plans memory itself
        row = len(x) * size[1] * self.fc1.out_features * x.element_size()
        if row * size[0] <= BAND:
            return None
        return max(BAND // row, 1) if x.device.type == 'cpu' else size[0]
