"""Decode head that fuses a pyramid of feature maps by concatenation."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

POOLS = (1, 2, 3, 6)  # cells per side, as in PSPNet (arXiv:1612.01105)

Conv = Any  # makes convolution, norm and ReLU from two numbers of channels


class PyramidPool(nn.Module):
    """The largest values of coarse grids, added to a map as channels.

    Args:
        dim: channels C of the map, a multiple of four.
        conv: makes the convolutions.
    """

    def __init__(self, dim: int, conv: Conv) -> None:
        super().__init__()
        if dim % len(POOLS):
            raise ValueError(
                f'ConcatFusionHead: the last width {dim} is not a '
                f'multiple of {len(POOLS)}'
            )
        self.pools = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveMaxPool2d(cells),
                nn.Conv2d(dim, dim // len(POOLS), 1),
            )
            for cells in POOLS
        )
        self.fuse = conv(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        size = x.shape[2:]
        return self.fuse(
            torch.cat([x, *(resize(pool(x), size) for pool in self.pools)], 1)
        )


@MODELS.register_module()
class ConcatFusionHead(BaseDecodeHead):
    """Pyramid pooling, top-down fusion, all levels concatenated.

    The last map is pooled; every other map passes a 1x1 convolution, gets
    the level above as channels and is reduced to its own width; all levels
    meet at stride 4. Every resizing is bilinear with aligned corners.

    Args:
        in_channels: channels C1..Cn of the maps, finest first; Cn is a
            multiple of four.
        channels: of the map that is classified.
        norm_cfg: norm layer of every convolution.
        classify_first: score the classes at stride 4 and enlarge the scores.
            False enlarges the map before the last convolution, at many times
            the memory and time.

    Shape:
        maps (B, Ci, H / 2^(i+1), W / 2^(i+1)) -> (B, num_classes, H / 4,
        W / 4), or (B, num_classes, H, W) if not classify_first

    Raises:
        ValueError: Cn is not a multiple of four.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int = 512,
        norm_cfg: Mapping[str, Any] | None = None,
        classify_first: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            in_index=list(range(len(in_channels))),
            input_transform='multiple_select',
            norm_cfg=norm_cfg,
            align_corners=True,
            **kwargs,
        )
        conv = partial(ConvModule, kernel_size=1, norm_cfg=norm_cfg)
        self.pool = PyramidPool(in_channels[-1], conv)
        self.laterals = nn.ModuleList(conv(c, c) for c in in_channels[:-1])
        self.fusions = nn.ModuleList(
            conv(above + c, c)
            for c, above in zip(in_channels, in_channels[1:], strict=False)
        )
        self.fuse = conv(sum(in_channels), channels)
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 3, padding=1)
        self.classify_first = classify_first

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps (B, Ci, Hi, Wi) -> scores (B, num_classes, H / 4, W / 4)"""
        *finer, last = self._transform_inputs(inputs)
        outs = [self.pool(last)]
        for x, lateral, fuse in zip(
            reversed(finer),
            reversed(self.laterals),
            reversed(self.fusions),
            strict=True,
        ):
            above = resize(outs[0], x.shape[2:])
            outs.insert(0, fuse(torch.cat([above, lateral(x)], 1)))
        size = outs[0].shape[2:]
        x = self.fuse(torch.cat([resize(out, size) for out in outs], 1))
        if not self.classify_first:
            x = resize(x, [4 * side for side in size])
        return self.cls_seg(x)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, H, W) -> (B, C, *size)"""
    return F.interpolate(x, tuple(size), mode='bilinear', align_corners=True)
