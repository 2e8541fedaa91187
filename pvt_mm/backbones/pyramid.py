"""What every pyramid backbone does: image -> maps of falling size."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints import load_pretrained

Row = TypeVar('Row')


def resolve_arch(
    family: str, archs: Mapping[str, Row], arch: str | Mapping[str, Any]
) -> Row:
    """The row of a name in the table, or a custom row from a dict.

    Args:
        family: name of the backbone, for messages.
        archs: the family's table.
        arch: a name in it, or the fields of a row.

    Raises:
        ValueError: an unknown name (with the nearest ones) or field, or
            fields that describe different numbers of stages.
    """
    if isinstance(arch, str):
        if arch not in archs:
            near = get_close_matches(arch, archs, cutoff=0) or archs
            raise ValueError(
                f'{family} has no arch {arch!r}; nearest: {", ".join(near)}'
            )
        return archs[arch]
    row = type(next(iter(archs.values())))
    unknown = set(arch) - set(row._fields)
    missing = set(row._fields) - set(row._field_defaults) - set(arch)
    if unknown or missing:
        raise ValueError(
            f'{family} arch {dict(arch)}: unknown {sorted(unknown)}, missing '
            f'{sorted(missing)}; the fields are {", ".join(row._fields)}'
        )
    custom = row(**arch)
    lengths = {
        name: len(value)
        for name, value in custom._asdict().items()
        if isinstance(value, Sequence)
    }
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f'{family} arch: one entry per stage in every field, got {lengths}'
        )
    return custom


class Pyramid(BaseModule):
    """A row of stages, each from a map to a smaller map.

    Stages after the last one asked for are not built, so that every
    parameter is used and distributed training needs no search for others.

    Args:
        stages: modules, each (B, C, H, W) -> (B, C', H', W').
        channels: C' of each stage.
        out_indices: stages whose maps are returned, counted from 0.
        stem: what comes before the first stage.
        frozen_stages: 0 freezes the stem, n the stem and the first n stages
            (no gradient, evaluation mode); -1 freezes nothing.
        norm_eval: keep batch norms in evaluation mode during training.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` loads published
            weights of any known dialect and stops unless all came
            (``allow_partial=True`` turns that into a warning).

    Attributes:
        out_channels: channels of the returned maps.
        strides: pixels of the image per cell of the returned maps.

    Shape:
        (B, in_channels, H, W) -> a map (B, C', H / stride, W / stride) per
        entry of out_indices, contiguous

    Raises:
        ValueError: out_indices or frozen_stages name a stage that is not
            there.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        out_indices: Sequence[int],
        *,
        stem: nn.Module | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_indices = check_indices(out_indices, len(stages))
        depth = self.out_indices[-1] + 1
        if not -1 <= frozen_stages <= depth:
            raise ValueError(
                f'frozen_stages {frozen_stages} is not in -1..{depth}, the '
                f'number of stages that out_indices {out_indices} need'
            )
        self.stem = stem or nn.Identity()
        self.stages = nn.ModuleList(stages[:depth])
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.strides = tuple(4 * 2**i for i in self.out_indices)
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
                if isinstance(module, _BatchNorm):
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
        maps = []
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        # mmcv's RoIAlign reads memory as (B, C, H, W) whatever the strides
        # say and is silently wrong on channels-last maps.
        return tuple(maps[i].contiguous() for i in self.out_indices)


def check_indices(out_indices: Sequence[int], stages: int) -> tuple[int, ...]:
    """out_indices as a tuple, if they rise and name stages.

    Raises:
        ValueError: they do not.
    """
    indices = tuple(out_indices)
    rising = indices == tuple(sorted(set(indices)))
    if (
        not indices
        or not rising
        or not 0 <= indices[0] <= indices[-1] < stages
    ):
        raise ValueError(
            f'out_indices {out_indices} must rise within 0..{stages - 1}'
        )
    return indices
