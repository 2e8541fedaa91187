"""Base class of the backbones: image -> feature maps of falling size."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...checkpoints import load_pretrained
from ...errors import InputError
from .arguments import check_arguments, check_frozen, check_indices


class Pyramid(BaseModule):
    """A row of stages, each from a map to a smaller map.

    Stages after the last one asked for are not built, so that every
    parameter is used and distributed training needs no search for others.

    Args:
        stages: modules, each (B, C, H, W) -> (B, C', H', W'), with a method
            smallest_side(n): the side of the smallest map that gives n cells.
        in_channels: channels of the image.
        channels: C' of each stage.
        out_indices: stages whose maps are returned, counted from 0.
        stem: what comes before the first stage, of the same form.
        frozen_stages: 0 freezes the stem, n the stem and the first n stages
            (no gradient, evaluation mode); -1 freezes nothing.
        norm_eval: keep batch norms in evaluation mode during training.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` loads published
            weights of any known checkpoint format and requires all of them
            (``allow_partial=True`` turns that into a warning).

    Attributes:
        out_channels: channels of the returned maps.
        strides: pixels of the image per cell of the returned maps.
        smallest: height and width in pixels of the smallest image.
        map_layout: memory layout of the returned maps. mmcv's RoIAlign reads
            memory as (B, C, H, W) whatever the strides say, and is silently
            wrong on channels-last maps: torch.channels_last, which saves a
            copy, only where nothing behind the backbone does so.

    Shape:
        (B, in_channels, H, W) -> a map (B, C', H / stride, W / stride) per
        entry of out_indices

    Raises:
        ValueError: out_indices or frozen_stages name a stage that is not
            there.
        InputError: an image is too small or has other channels.
    """

    map_layout = torch.contiguous_format

    def __init__(
        self,
        stages: Sequence[nn.Module],
        in_channels: int,
        channels: Sequence[int],
        out_indices: Sequence[int],
        *,
        stem: nn.Module | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: Any = None,
    ) -> None:
        family = type(self).__name__
        check_arguments(family, norm_eval=norm_eval, init_cfg=init_cfg)
        super().__init__(init_cfg)
        self.out_indices = check_indices(family, out_indices, len(stages))
        depth = self.out_indices[-1] + 1
        check_frozen(family, frozen_stages, depth)
        self.stem = stem or nn.Identity()
        self.stages = nn.ModuleList(stages[:depth])
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        before = [stem] if stem else []
        self.strides = tuple(
            stride([*before, *stages[: i + 1]]) for i in self.out_indices
        )
        self.in_channels = in_channels
        self.smallest = smallest_side([*before, *self.stages], 1)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        for module in self.frozen():
            module.requires_grad_(False)

    def frozen(self) -> list[nn.Module]:
        """The modules that frozen_stages excludes from training."""
        if self.frozen_stages < 0:
            return []
        return [self.stem, *self.stages[: self.frozen_stages]]

    def train(self, mode: bool = True) -> 'Pyramid':
        """Set training mode, but not for what is frozen."""
        super().train(mode)
        for module in self.frozen():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Load the weights that init_cfg names.

        Without any, the official initial weights given at construction stay.

        Raises:
            CheckpointError: no such file, an unsafe or unknown one, or one
                that does not hold every parameter of the backbone.
        """
        given = self.init_cfg or []
        cfgs = [given] if isinstance(given, Mapping) else given
        files = [cfg for cfg in cfgs if cfg.get('type') == 'Pretrained']
        self.init_cfg = [cfg for cfg in cfgs if cfg not in files]
        super().init_weights()
        self.init_cfg = given
        for cfg in files:
            options = {key: cfg[key] for key in cfg if key != 'type'}
            load_pretrained(self, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> a map (B, C', H / stride, W / stride) per index"""
        self.check(x)
        maps = []
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        layout = self.map_layout
        return tuple(
            maps[i].contiguous(memory_format=layout) for i in self.out_indices
        )

    def check(self, x: Tensor) -> None:
        """Refuse images that this network cannot take.

        Raises:
            InputError: the sentence says what it can take.
        """
        side = self.smallest
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            wanted = f'of shape (B, {self.in_channels}, H, W)'
        elif not x.is_floating_point():
            wanted = f'in floating point, not {x.dtype}'
        elif x.shape[0] == 0:
            wanted = 'in batches of one or more'
        elif x.shape[2] < side or x.shape[3] < side:
            wanted = f'of at least {side}x{side} pixels'
        else:
            return
        raise InputError(
            f'{type(self).__name__} takes images {wanted}; got '
            f'{tuple(x.shape)}'
        )


def smallest_side(stages: Sequence[nn.Module], cells: int) -> int:
    """Side in pixels of the smallest image whose last map has so many cells.

    Args:
        stages: from the image on.
        cells: along one side of the map.
    """
    for stage in reversed(stages):
        cells = stage.smallest_side(cells)
    return cells


def stride(stages: Sequence[nn.Module]) -> int:
    """Pixels of the image per cell of the last map: what one cell more needs.

    Args:
        stages: from the image on.
    """
    many = 10**6  # more cells than any reduction of keys asks for
    return smallest_side(stages, many + 1) - smallest_side(stages, many)
