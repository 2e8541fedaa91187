"""What is exported: a backbone by its name, or the model of a config."""

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
from ..models.backbones import Pyramid
from ..models.backbones.build import build_backbone
from .program import SMALLEST, quiet

# What the published weights were trained with, in RGB order.
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
MAPS = 'feature maps, finest first'
HEADLESS = (
    '{} is a detector: its backbone and neck are exported; its heads and NMS '
    'are not'
)


class Subject(NamedTuple):
    """A model for inference and what its file says of it.

    Args:
        model: image (B, C, H, W) -> a tensor or several.
        backbone: of that model.
        outputs: a name per result.
        about: by name, what belongs into the file.
        remarks: what the user should know.
        smallest: height and width of images, where they may be any.
    """

    model: nn.Module
    backbone: nn.Module
    outputs: list[str]
    about: dict[str, Any]
    remarks: list[str]
    smallest: int = SMALLEST


class Parts(nn.Module):
    """Backbone, neck and the head of a segmentor, as far as there are any.

    Shape:
        image (B, C, H, W) -> maps; with a head, logits (B, classes, H, W)
    """

    def __init__(self, model: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else None
        self.head = head

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
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


def subject(target: str, weights: str | None) -> Subject:
    """Build what the command line names.

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


def coarsest(found: Subject) -> int:
    """Stride of the coarsest map: a neck may go on where a backbone ends."""
    side = 4 * SMALLEST
    image = torch.zeros(1, found.backbone.in_channels, side, side)
    with torch.no_grad():
        results = found.model(image)
    maps = [results] if isinstance(results, Tensor) else results
    return max([side // y.shape[-1] for y in maps if y.dim() == 4], default=1)


def of_arch(name: str, weights: str | None) -> Subject:
    """A backbone alone."""
    try:
        model = build_backbone(name, weights)
    except ValueError as error:
        raise UsageError(str(error)) from error
    about = {**IMAGENET, 'channels': 'RGB', 'output': MAPS}
    return Subject(model, model, map_names(model.strides), about, [])


def of_config(cfg: Config, name: str, weights: str | None) -> Subject:
    """The model of a config, as far as it can be exported."""
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
        number = cfg.model.get('neck', {}).get('num_outs')
        names = map_names(range(number or len(model.backbone.out_channels)))
        about.update(output=MAPS)
        remarks.append(HEADLESS.format(name))
    else:
        parts, names = model, ['logits']
        about.update(output='logits')
    return Subject(parts, model.backbone, names, about, remarks)


def map_names(marks: Iterable[int]) -> list[str]:
    """A name per map."""
    return [f'map_{mark}' for mark in marks]


def normalization(model: Mapping[str, Any]) -> dict[str, Any]:
    """How the images of a config's model are normalized."""
    cfg = model.get('data_preprocessor') or {}
    order = 'RGB' if cfg.get('bgr_to_rgb') else 'BGR'
    return {
        'mean': list(cfg.get('mean') or [0.0] * 3),
        'std': list(cfg.get('std') or [1.0] * 3),
        'channels': order,
    }


def classes_of(cfg: Config) -> list[str]:
    """The names of the classes, as the test data set knows them."""
    if not cfg.get('test_dataloader'):
        return []
    return list(lazy_metainfo(cfg).get('classes') or ())
