"""Build the model to export: a backbone by name, or a config's model."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints import load_model
from ..config.build_errors import building
from ..config.loading import load_config
from ..errors import UsageError
from ..families import FAMILIES, split_name
from ..inference.predictor import lazy_metainfo
from ..models.backbones import Pyramid, build_backbone
from .program import SMALLEST, quiet

# Mean and std that the published weights were trained with, RGB.
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
SIDE = 4 * SMALLEST  # of an image to try a model with
MAPS = 'feature maps, finest first'
HEADLESS = (
    '{} is a detector: its backbone and neck are exported; its heads and NMS '
    'are not'
)


class Target(NamedTuple):
    """A model for inference and the metadata of its file.

    Attributes:
        model: image (B, C, H, W) -> a tensor or several.
        backbone: of that model.
        outputs: a name per result.
        about: metadata of the file.
        remarks: lines to print.
        smallest: height and width in pixels, where any size is allowed.
    """

    model: nn.Module
    backbone: nn.Module
    outputs: list[str]
    about: dict[str, Any]
    remarks: list[str]
    smallest: int = SMALLEST


class Parts(nn.Module):
    """Backbone, neck (if any) and decode head (if any) of a model.

    Args:
        model: of mmdet or mmseg.
        head: decode head of a segmentor; None to get the maps.
    """

    def __init__(self, model: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else None
        self.head = head

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, C, H, W) -> maps, or logits (B, classes, H, W)"""
        maps = self.backbone(image)
        maps = tuple(self.neck(maps)) if self.neck else maps
        if self.head is None:
            return maps
        return F.interpolate(
            self.head(maps),
            image.shape[2:],
            mode='bilinear',
            align_corners=self.head.align_corners,
        )


def load_target(target: str, weights: str | None) -> Target:
    """Build the model that the command line names.

    Args:
        target: name of a backbone, a config file or the name of one of ours.
        weights: name in the zoo, address or file; None for random ones.

    Raises:
        UsageError: there is no such arch or config, or it cannot be built.
        CheckpointError: the weights are not there or do not fit.
    """
    if not Path(target).is_file() and split_name(target):
        found = of_arch(target, weights)
    else:
        found = of_config(load_config(target), Path(target).stem, weights)
    if weights is None:
        found.remarks.append('the weights are random: none were given')
    found.model.eval().requires_grad_(False)
    smallest = max(SMALLEST, 2 * coarsest(found))
    about = {
        'model': Path(target).stem,
        'weights': Path(weights).name if weights else 'random',
        **found.about,
    }
    return found._replace(about=about, smallest=smallest)


def coarsest(found: Target) -> int:
    """Stride of the coarsest map, which may be one that a neck adds."""
    maps = results_of(found.model, found.backbone)
    return max([SIDE // y.shape[-1] for y in maps if y.dim() == 4], default=1)


def results_of(model: nn.Module, backbone: nn.Module) -> list[Tensor]:
    """What a model gives for an image of SIDE pixels."""
    image = torch.zeros(1, backbone.in_channels, SIDE, SIDE)
    with torch.no_grad():
        results = model.eval()(image)
    return [results] if isinstance(results, Tensor) else list(results)


def of_arch(name: str, weights: str | None) -> Target:
    """A backbone alone.

    Raises:
        UsageError: there is no such arch.
    """
    model = build_backbone(name, weights)
    about = {**IMAGENET, 'channels': 'RGB', 'output': MAPS}
    return Target(model, model, map_names(model.strides), about, [])


def of_config(cfg: Config, name: str, weights: str | None) -> Target:
    """The model of a config, of a detector backbone and neck only.

    Raises:
        UsageError: its backbone is none of this package.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with building(cfg, name), quiet():
        model = MODELS.build(cfg.model)
    if not isinstance(getattr(model, 'backbone', None), Pyramid):
        kinds = ', '.join(family.backbone for family in FAMILIES.values())
        raise UsageError(f'{name}: export takes models on top of {kinds}')
    if weights:
        load_model(model, weights)
    about, remarks = normalization(cfg.model), []
    if hasattr(model, 'decode_head'):
        parts, names = Parts(model, model.decode_head), ['logits']
        about.update(output='logits at the size of the image')
        about.update(classes=classes_of(cfg))
    elif hasattr(model, 'extract_feat'):
        parts = Parts(model, None)
        names = map_names(range(len(results_of(parts, model.backbone))))
        about.update(output=MAPS)
        remarks.append(HEADLESS.format(name))
    else:
        parts, names = model, ['logits']
        about.update(output='logits')
    return Target(parts, model.backbone, names, about, remarks)


def map_names(numbers: Iterable[int]) -> list[str]:
    """(4, 8) -> ['map_4', 'map_8']"""
    return [f'map_{number}' for number in numbers]


def normalization(model: Mapping[str, Any]) -> dict[str, Any]:
    """Mean, std and order of channels, from the config of a model."""
    cfg = model.get('data_preprocessor') or {}
    order = 'RGB' if cfg.get('bgr_to_rgb') else 'BGR'
    return {
        'mean': list(cfg.get('mean') or [0.0] * 3),
        'std': list(cfg.get('std') or [1.0] * 3),
        'channels': order,
    }


def classes_of(cfg: Config) -> list[str]:
    """Names of the classes of the test data set; [] if there is none."""
    if not cfg.get('test_dataloader'):
        return []
    return list(lazy_metainfo(cfg).get('classes') or ())
