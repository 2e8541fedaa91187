"""Feed-forward networks of a block."""

from torch import Tensor, nn

from .tokens import Size, to_map, to_tokens


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
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class ConvMlp(nn.Module):
    """Mlp with a 3x3 depthwise convolution (PVT v2, section 3.4).

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
        self.fc1 = nn.Linear(dim, hidden)
        self.inner_act = inner_act or nn.Identity()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        x = to_map(self.inner_act(self.fc1(x)), size)
        return self.fc2(self.act(to_tokens(self.dwconv(x))))
