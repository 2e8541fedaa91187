"""The command ``pvt_mm visualize-features``."""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checkpoints import load_pretrained
from ..checkpoints.atomic import check_writable
from ..config.arguments import command_parser, count
from .drawing import to_rgb
from .features import (
    attention,
    blocks_of,
    check_place,
    mean_absolute,
    principal_components,
    recorded_calls,
)
from .features_figure import Panel, draw_panels
from .features_input import normalized, open_model, read_image
from .logs_cli import check_picture

REDUCTIONS = {'pca': principal_components, 'mean': mean_absolute}


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        'Draw the feature maps of a backbone and the attention of its '
        'blocks: of one query (PVT, PVT v2), or the softmax over the tokens '
        'of K (MPViT, whose factorized attention has no map of a query).'
    )
    p.add_argument('model', help='a config, or a backbone such as pvt_v2_b2')
    p.add_argument('image')
    p.add_argument(
        '--weights',
        help='file, address, or name in the zoo such as pvt_v2_b2; without it '
        'they are random',
    )
    p.add_argument(
        '--stage', type=int, help='counted from 0; all of them if not given'
    )
    p.add_argument(
        '--block', type=int, help='counted from 0; the last if not given'
    )
    p.add_argument(
        '--path',
        type=int,
        default=0,
        help='of MPViT, counted from 0 (default: 0)',
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
        choices=REDUCTIONS,
        default='pca',
        help='maps as their first three principal components, in colours, or '
        'as the mean absolute value over channels (default: pca)',
    )
    p.add_argument(
        '--side',
        type=count,
        default=512,
        help='longer side that the image is resized to (default: 512)',
    )
    p.add_argument(
        '--out', required=True, metavar='FILE.png', help='picture to write'
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Draw what the command line names.

    Raises:
        UsageError: the model, image or place cannot be used.
        CheckpointError: the weights are not found or do not fit.
    """
    args = parser().parse_args(argv)
    check_picture(args.out)
    check_writable(args.out)
    backbone, mean, std = open_model(args.model)
    channels = backbone.in_channels
    image, at = read_image(args.image, args.side, args.at, channels)
    if args.weights:
        load_pretrained(backbone, args.weights)
    backbone.eval()
    stages = range(len(backbone.stages))
    if args.stage is not None:
        check_place('stage', args.stage, len(stages))
        stages = [args.stage]
    panels = compute_panels(
        backbone, normalized(image, mean, std), stages, args, at
    )
    weights = args.weights or 'random weights'
    title = f'{args.model}, {weights}'
    one = args.stage is not None
    shown = image if channels == 3 else to_rgb(image)
    draw_panels(args.out, shown, panels, at, title, wide=not one)
    print(f'maps and attention: {args.out}')


def compute_panels(
    backbone: nn.Module,
    x: Tensor,
    stages: Sequence[int],
    args: argparse.Namespace,
    at: tuple[float, float],
) -> list[Panel]:
    """Feature maps of the stages, then the attention of a block of each."""
    blocks = {}
    for stage in stages:
        row = blocks_of(backbone, stage, args.path)
        place = len(row) - 1 if args.block is None else args.block
        check_place('block', place, len(row))
        blocks[stage] = (place, row[place])
    maps = [backbone.stages[stage] for stage in stages]
    chosen = [block for _, block in blocks.values()]
    with recorded_calls([*maps, *chosen]) as calls, torch.no_grad():
        backbone(x)
    panels = []
    for stage, module in zip(stages, maps, strict=True):
        (feature_map,) = calls[module][1]
        size = f'{feature_map.shape[2]}x{feature_map.shape[1]}'
        shown = REDUCTIONS[args.how](feature_map).numpy()
        panels.append(Panel(f'stage {stage}: {size}', shown))
    for stage, (place, block) in blocks.items():
        found = attention(calls[block], block, at)
        name = f'stage {stage} block {place}'
        what = 'attention' if found.query else 'softmax of K'
        mean = found.weights.mean(0)
        panels.append(
            Panel(f'{name}: {what}', mean.numpy(), found.covers, found.query)
        )
        if args.stage is not None:
            panels += [
                Panel(f'head {head}', w.numpy(), found.covers, found.query)
                for head, w in enumerate(found.weights)
            ]
    return panels
