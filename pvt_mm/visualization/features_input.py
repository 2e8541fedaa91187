"""Build a backbone and read an image as it takes them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..config.build_errors import building
from ..config.loading import load_model_config
from ..datasets.checks.files import problem
from ..errors import UsageError
from ..families import split_name
from ..models.backbones import build_backbone

# Of ImageNet's images in RGB, where a config says nothing else.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def read_image(
    path: str, side: int, at: Sequence[float] | None, channels: int = 3
) -> tuple[np.ndarray, tuple[float, float]]:
    """The image (H, W, C), resized, and the query as shares of it.

    Args:
        path: of the image.
        side: pixels of the longer side.
        at: x and y of the query in pixels of the file; None for its centre.
        channels: C; 3 are RGB, 1 is grey, others are those of the file.

    Raises:
        UsageError: it cannot be read, or the query is outside.
    """
    if fault := problem(path):
        raise UsageError(f'{path} {fault}')
    kind = {1: 'grayscale', 3: 'color'}.get(channels, 'unchanged')
    image = np.atleast_3d(mmcv.imread(path, kind, channel_order='rgb'))
    if image.shape[2] != channels:
        raise UsageError(
            f'{path} has {image.shape[2]} channels, and the backbone takes '
            f'{channels}'
        )
    height, width = image.shape[:2]
    x, y = at or (width / 2, height / 2)
    if not (0 <= x < width and 0 <= y < height):
        raise UsageError(
            f'--at {x:g} {y:g} is outside {path}, which has '
            f'{width}x{height} pixels'
        )
    factor = side / max(height, width)
    size = [max(1, round(n * factor)) for n in (width, height)]
    small = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, size, interpolation=small)
    return np.atleast_3d(image), (y / height, x / width)


def open_model(name: str) -> tuple[nn.Module, tuple, tuple]:
    """A backbone, and mean (C,) and std (C,) that its images have.

    Of RGB for three channels.

    Args:
        name: a config, or a backbone such as pvt_v2_b2.

    Raises:
        UsageError: there is no such model, or it is of another kind.
    """
    if split_name(name) and not Path(name).is_file():
        return build_backbone(name), MEAN, STD
    cfg = load_model_config(name)
    with building(cfg, name):
        backbone = build(cfg)
    if not hasattr(backbone, 'stages'):
        raise UsageError(f'{name}: the backbone must be PVT, PVTv2 or MPViT')
    given = cfg.model.get('data_preprocessor') or {}
    channels = backbone.in_channels
    usual = (MEAN, STD) if channels == 3 else ([0] * channels, [1] * channels)
    mean, std = given.get('mean') or usual[0], given.get('std') or usual[1]
    if given.get('bgr_to_rgb') or not given.get('mean') or channels != 3:
        return backbone, mean, std
    return backbone, mean[::-1], std[::-1]


def build(cfg: Config) -> nn.Module:
    """The backbone of a config; of a classifier, without class token."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    backbone = {**cfg.model.backbone, 'init_cfg': None}
    backbone.pop('class_token', None)  # its last stage has no map
    return MODELS.build(backbone)


def normalized(image: np.ndarray, mean: tuple, std: tuple) -> Tensor:
    """(H, W, C) -> what a backbone takes, (1, C, H, W)"""
    x = (image - np.array(mean)) / np.array(std)
    return torch.from_numpy(x).permute(2, 0, 1)[None].float()
