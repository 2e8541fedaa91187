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
from .detectors import Detector, kind_of, thresholds
from .program import SMALLEST, quiet
from .replacements import exportable

# Mean and std that the published weights were trained with, RGB.
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
SIDE = 4 * SMALLEST  # of an image to try a model with
MAPS = 'feature maps, finest first'
FOUND = ['boxes', 'scores', 'labels', 'masks']
HEADLESS = (
    '{} has a head that is not exported: the file ends with the maps of its '
    'neck'
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
        whole: mmdet's own model, of a detector with its heads; None if the
            weights are rounded.
        raw: whether images are uint8 in BGR.
    """

    model: nn.Module
    backbone: nn.Module
    outputs: list[str]
    about: dict[str, Any]
    remarks: list[str]
    smallest: int = SMALLEST
    whole: nn.Module | None = None
    raw: bool = False


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


class LabelMap(nn.Module):
    """A segmentor that gives the class of each pixel.

    Args:
        model: image -> logits (B, classes, H, W)
        threshold: of the only channel, if there is one.
    """

    def __init__(self, model: nn.Module, threshold: float | None) -> None:
        super().__init__()
        self.model, self.threshold = model, threshold

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W), uint8, or int32 beyond 256 classes"""
        logits = self.model(image)
        if logits.shape[1] == 1:
            return (logits[:, 0].sigmoid() > self.threshold).to(torch.uint8)
        few = logits.shape[1] <= 256
        return logits.argmax(1).to(torch.uint8 if few else torch.int32)


class FromPixels(nn.Module):
    """A model whose images are as OpenCV reads them: uint8, BGR.

    Args:
        model: for normalized images.
        about: its metadata: mean, std and channels.
    """

    def __init__(self, model: nn.Module, about: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.flip = model, about['channels'] == 'RGB'
        for name in ('mean', 'std'):
            values = torch.tensor(about[name], dtype=torch.float)
            self.register_buffer(name, values[:, None, None])

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) -> what the model gives"""
        x = image.flip(1) if self.flip else image
        return self.model((x.float() - self.mean) / self.std)


def load_target(
    target: str,
    weights: str | None,
    *,
    argmax: bool = False,
    raw: bool = False,
    half: bool = False,
) -> Target:
    """Build the model that the command line names.

    Args:
        target: name of a backbone, a config file or the name of one of ours.
        weights: name in the zoo, address or file; None for random ones.
        argmax: a segmentor gives label maps.
        raw: images are uint8 in BGR, and are normalized in the file.
        half: round the weights to float16.

    Raises:
        UsageError: there is no such arch or config, or it cannot be built.
        CheckpointError: the weights are not there or do not fit.
    """
    if not Path(target).is_file() and split_name(target):
        found = of_arch(target, weights)
    else:
        found = of_config(load_config(target), Path(target).stem, weights)
    found = found._replace(smallest=max(SMALLEST, 2 * coarsest(found)))
    if argmax:
        found = with_labels(found, target)
    if half:
        found = found._replace(model=rounded(found.model), whole=None)
    if raw:
        found = found._replace(
            model=FromPixels(found.model, found.about), raw=True
        )
    if weights is None:
        found.remarks.append('the weights are random: none were given')
    found.model.eval().requires_grad_(False)
    about = {
        'model': Path(target).stem,
        'weights': Path(weights).name if weights else 'random',
        **found.about,
    }
    return found._replace(about=about)


def with_labels(found: Target, name: str) -> Target:
    """A segmentor that gives label maps.

    Raises:
        UsageError: it is no segmentor.
    """
    head = getattr(found.model, 'head', None)
    if head is None:
        raise UsageError(f'--argmax is for segmentors, and {name} is none')
    about = {**found.about, 'output': 'class of each pixel'}
    model = LabelMap(found.model, head.threshold)
    return found._replace(model=model, outputs=['label_map'], about=about)


@torch.no_grad()
def rounded(model: nn.Module) -> nn.Module:
    """The model that is exported, with weights that float16 has."""
    model = exportable(model)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    return model


def coarsest(found: Target) -> int:
    """Stride of the coarsest map, which may be one that a neck adds."""
    model = Parts(found.whole, None) if found.whole else found.model
    maps = results_of(model, found.backbone)
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
    """The model of a config.

    Raises:
        UsageError: its backbone is none of this package, or its head cannot
            be exported.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with building(cfg, name), quiet():
        model = MODELS.build(cfg.model)
    if not isinstance(getattr(model, 'backbone', None), Pyramid):
        kinds = ', '.join(family.backbone for family in FAMILIES.values())
        raise UsageError(f'{name}: export takes models on top of {kinds}')
    if weights:
        load_model(model, weights)
    about, remarks, whole = normalization(cfg.model), [], None
    if hasattr(model, 'decode_head'):
        parts, names = Parts(model, model.decode_head), ['logits']
        about.update(output='logits at the size of the image')
        about.update(classes=classes_of(cfg))
    elif kind_of(model):
        whole, parts = model.eval(), Detector(model)
        masks = getattr(getattr(model, 'roi_head', None), 'with_mask', False)
        names = FOUND if masks else FOUND[:3]
        about.update(output='objects, the best first; label -1: none')
        about.update(classes=classes_of(cfg), resize=resize_of(cfg))
        about.update(thresholds(model))
    elif hasattr(model, 'extract_feat'):
        parts = Parts(model, None)
        names = map_names(range(len(results_of(parts, model.backbone))))
        about.update(output=MAPS)
        remarks.append(HEADLESS.format(name))
    else:
        parts, names = model, ['logits']
        about.update(output='logits')
    return Target(parts, model.backbone, names, about, remarks, whole=whole)


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


def resize_of(cfg: Config) -> list[int]:
    """Longer and shorter side that images are tested at; [] if they vary."""
    for step in (
        (cfg.get('test_dataloader') or {})
        .get('dataset', {})
        .get('pipeline', ())
    ):
        if step['type'] == 'Resize' and step.get('keep_ratio'):
            return sorted(step['scale'], reverse=True)
    return []


def classes_of(cfg: Config) -> list[str]:
    """Names of the classes of the test data set; [] if there is none."""
    if not cfg.get('test_dataloader'):
        return []
    return list(lazy_metainfo(cfg).get('classes') or ())
