"""The command line of tools/visualize_features.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..backbones import build_backbone
from ..backbones.build import FAMILIES
from ..checkpoints import load_pretrained
from ..checkpoints.zoo import ZOO
from ..data_check.files import problem
from ..engine.building import building
from ..engine.config_file import load_config
from ..engine.errors import UsageError
from ..inference.cli import count
from .features import (
    attention,
    average,
    blocks_of,
    check_place,
    principal,
    watched,
)
from .features_figure import Panel, draw_panels
from .logs_cli import check_picture

# Of ImageNet's images in RGB, where a config says nothing else.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
WAYS = {'pca': principal, 'mean': average}


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        description='Show the maps of a backbone and where its blocks look: '
        'the attention of one query (PVT, PVT v2), or the softmax over the '
        'tokens of K (MPViT, whose factorized attention has no such map).'
    )
    p.add_argument('model', help='a config, or a name such as pvt_v2_b2')
    p.add_argument('image')
    p.add_argument(
        '--weights',
        help='file, address or pvt://NAME; without it they are random',
    )
    p.add_argument(
        '--stage', type=int, help='counted from 0; all of them if not given'
    )
    p.add_argument(
        '--block', type=int, help='counted from 0; the last if not given'
    )
    p.add_argument(
        '--path', type=int, default=0, help='of MPViT, counted from 0; 0'
    )
    p.add_argument(
        '--at',
        nargs=2,
        type=float,
        metavar=('X', 'Y'),
        help='the query, in pixels of the image; its centre if not given',
    )
    p.add_argument(
        '--how',
        choices=WAYS,
        default='pca',
        help='maps as their three main directions, in colours, or as the '
        'mean size of their values; pca',
    )
    p.add_argument(
        '--side',
        type=count,
        default=512,
        help='longer side that the image is resized to; 512',
    )
    p.add_argument(
        '--out', required=True, metavar='FILE.png', help='picture to write'
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Draw what the command line names.

    Raises:
        UsageError: the model, image or place cannot be used.
        CheckpointError: the weights are nowhere or do not fit.
    """
    args = parser().parse_args(argv)
    check_picture(args.out)
    image, at = read(args)
    backbone, mean, std = open_model(args.model)
    if args.weights:
        named = args.weights in ZOO
        load_pretrained(
            backbone, f'pvt://{args.weights}' if named else args.weights
        )
    backbone.eval()
    stages = range(len(backbone.stages))
    if args.stage is not None:
        check_place('stage', args.stage, len(stages))
        stages = [args.stage]
    panels = look(backbone, normalised(image, mean, std), stages, args, at)
    weights = args.weights or 'random weights'
    title = f'{args.model}, {weights}'
    one = args.stage is not None
    draw_panels(args.out, image, panels, at, title, wide=not one)
    print(f'maps and attention: {args.out}')


def read(args: argparse.Namespace) -> tuple[np.ndarray, tuple[float, float]]:
    """The image RGB (H, W, 3), resized, and the query as shares of it."""
    if fault := problem(args.image):
        raise UsageError(f'{args.image} {fault}')
    image = mmcv.imread(args.image, channel_order='rgb')
    height, width = image.shape[:2]
    x, y = args.at or (width / 2, height / 2)
    if not (0 <= x < width and 0 <= y < height):
        raise UsageError(
            f'--at {x:g} {y:g} is outside {args.image}, which has '
            f'{width}x{height} pixels'
        )
    factor = args.side / max(height, width)
    size = [max(1, round(side * factor)) for side in (width, height)]
    small = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, size, interpolation=small)
    return image, (y / height, x / width)


def open_model(name: str) -> tuple[nn.Module, tuple, tuple]:
    """A backbone by name or config, and its mean and std of RGB."""
    if name.startswith(tuple(FAMILIES)) and not Path(name).is_file():
        try:
            return build_backbone(name), MEAN, STD
        except ValueError as error:
            raise UsageError(str(error)) from error
    cfg = load_config(name)
    with building(cfg, name):
        backbone = build(cfg)
    if not hasattr(backbone, 'stages') or backbone.in_channels != 3:
        raise UsageError(
            f'{name}: the backbone must be PVT, PVTv2 or MPViT for images of '
            '3 channels'
        )
    given = cfg.model.get('data_preprocessor') or {}
    mean, std = given.get('mean') or MEAN, given.get('std') or STD
    if given.get('bgr_to_rgb') or not given.get('mean'):
        return backbone, mean, std
    return backbone, mean[::-1], std[::-1]


def build(cfg: Config) -> nn.Module:
    """The backbone of a config; of a classifier, without class token."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    backbone = {**cfg.model.backbone, 'init_cfg': None}
    backbone.pop('class_token', None)  # its last stage has no map
    return MODELS.build(backbone)


def normalised(image: np.ndarray, mean: tuple, std: tuple) -> Tensor:
    """RGB (H, W, 3) -> what a backbone takes, (1, 3, H, W)"""
    x = (image - np.array(mean)) / np.array(std)
    return torch.from_numpy(x).permute(2, 0, 1)[None].float()


def look(
    backbone: nn.Module,
    x: Tensor,
    stages: Sequence[int],
    args: argparse.Namespace,
    at: tuple[float, float],
) -> list[Panel]:
    """Maps of the stages, then the attention of a block of each."""
    blocks = {}
    for stage in stages:
        row = blocks_of(backbone, stage, args.path)
        place = len(row) - 1 if args.block is None else args.block
        check_place('block', place, len(row))
        blocks[stage] = (place, row[place])
    maps = [backbone.stages[stage] for stage in stages]
    chosen = [block for _, block in blocks.values()]
    with watched([*maps, *chosen]) as calls, torch.no_grad():
        backbone(x)
    panels = []
    for stage, module in zip(stages, maps, strict=True):
        (found,) = calls[module][1]
        size = f'{found.shape[2]}x{found.shape[1]}'
        shown = WAYS[args.how](found).numpy()
        panels.append(Panel(f'stage {stage}: {size}', shown))
    for stage, (place, block) in blocks.items():
        seen = attention(calls[block], block, at)
        name = f'stage {stage} block {place}'
        what = 'attention' if seen.query else 'softmax of K'
        mean = seen.weights.mean(0)
        panels.append(
            Panel(f'{name}: {what}', mean.numpy(), seen.covers, seen.query)
        )
        if args.stage is not None:
            panels += [
                Panel(f'head {head}', w.numpy(), seen.covers, seen.query)
                for head, w in enumerate(seen.weights)
            ]
    return panels
