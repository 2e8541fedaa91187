"""Feed-forward networks of a block."""

from torch import Tensor, nn

from .cpu import Linear, in_bands
from .tokens import Size


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
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C) -> (B, N, C)"""
        return in_bands(self.band, x, self.fc1.out_features, recompute=False)

    def band(self, x: Tensor, start: int, rows: int) -> Tensor:
        """Some of the tokens, (B, n, C) -> (B, n, C)"""
        return self.fc2(self.act(self.fc1(x)))


class ConvMlp(nn.Module):
    """Mlp with a 3x3 depthwise convolution (PVT v2, section 3.4).

    Args:
        dim: channels C of a token.
        hidden: channels between the layers.
        inner_act: activation before the convolution; the official linear
            SRA variants have a ReLU there, the others nothing.
        recompute: whether hidden features may be computed again in the
            backward pass, on processors where that is faster.

    Shape:
        x (B, N, C) with size (H, W), N = H * W -> (B, N, C)
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        inner_act: nn.Module | None = None,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.inner_act = inner_act or nn.Identity()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden, dim)
        self.recompute = recompute

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, N, C), size (H, W) -> (B, N, C)"""
        x = in_bands(
            self.band,
            x.unflatten(1, size),
            self.fc1.out_features,
            halo=1,  # the convolution's window
            recompute=self.recompute,
        )
        return x.flatten(1, 2)

    def band(self, x: Tensor, start: int, rows: int) -> Tensor:
        """Rows start:start + rows of the result, (B, rows, W, C)"""
        x = self.inner_act(self.fc1(x)).permute(0, 3, 1, 2)
        # cut with channels last: the gradient of a cut has contiguous memory
        x = self.dwconv(x).permute(0, 2, 3, 1)[:, start : start + rows]
        return self.fc2(self.act(x))
