"""A model -> one of equal numbers that exporters can take for any size."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from ..models.fuse_conv_bn import fuse_for_inference
from .pooling import GridAveragePool, GridMaxPool


class Enlarge(nn.Module):
    """mmseg's Upsample by a whole factor: (B, C, H, W) -> (B, C, fH, fW)

    mmseg multiplies the size by a float, which no exporter follows.
    """

    def __init__(self, factor: int, mode: str, align_corners: bool) -> None:
        super().__init__()
        self.factor, self.mode = factor, mode
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        size = [self.factor * side for side in x.shape[2:]]
        return F.interpolate(x, size, None, self.mode, self.align_corners)


def enlarge(module: nn.Module) -> nn.Module:
    """The replacement of an Upsample of mmseg."""
    factor = module.scale_factor
    if factor is None or factor != int(factor):
        return module
    return Enlarge(int(factor), module.mode, module.align_corners)


# Full name of a class -> what takes the place of a module of that class.
REPLACEMENTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    'torch.nn.modules.pooling.AdaptiveAvgPool2d': lambda m: GridAveragePool(
        m.output_size
    ),
    'torch.nn.modules.pooling.AdaptiveMaxPool2d': lambda m: GridMaxPool(
        m.output_size
    ),
    'mmseg.models.utils.wrappers.Upsample': enlarge,
}


def exportable(model: nn.Module) -> nn.Module:
    """A copy for inference without what exporters cannot take.

    Batch norms of MPViT are folded into their convolutions.
    """
    model = fuse_for_inference(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            kind = f'{type(child).__module__}.{type(child).__name__}'
            if kind in REPLACEMENTS:
                setattr(parent, name, REPLACEMENTS[kind](child))
    return model
