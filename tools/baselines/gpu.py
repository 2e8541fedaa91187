"""Measure detectors and backbones on a GPU: ``make benchmark-gpu``.

PVT v2 B2 and MPViT-S beside the same networks of others, two images of
800x1344, in each precision, eager and compiled, ours with weights in
channels-last too. ``--device cpu --size 64 96 --rounds 1`` shows that it runs.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache, partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from pvt_mm.benchmark import flops
from pvt_mm.benchmark.cli import add_machine_arguments, prepare
from pvt_mm.benchmark.machine import best, processor
from pvt_mm.benchmark.measure import (
    MIB,
    finish,
    interleave,
    peak_bytes,
    precision,
    run,
)
from pvt_mm.benchmark.rows import table
from pvt_mm.benchmark.variants import OURS, build_equal
from pvt_mm.cli import run as run_command
from pvt_mm.compat import inductor_backend
from pvt_mm.config.arguments import command_parser, count
from pvt_mm.config.loading import load_model_config
from pvt_mm.config.paths import HOME
from pvt_mm.engine.amp import set_float32_border
from pvt_mm.engine.gpu import prepare_model

from .results import write_rows

DETECTORS = ('retinanet_pvt_v2_b2_coco', 'mask_rcnn_pvt_v2_b2_coco')
BACKBONES = {'pvt_v2_b2': 'timm', 'mpvit_small': 'official structure'}
# mmdet's own backbone with B2's numbers.
MMDET = dict(
    type='PyramidVisionTransformerV2', embed_dims=64, num_layers=[3, 4, 6, 3]
)
PRECISIONS = {
    'cuda': ('float32', 'tf32', 'fp16', 'bf16'),
    'cpu': ('float32', 'bf16'),
}
TASKS = ('inference', 'training')
OUT = HOME / 'results/benchmark_gpu.csv'


class Row(NamedTuple):
    """One network in one way; empty numbers where memory was too small.

    Args:
        network: a backbone, or a config's whole detector.
        model: whose it is.
        task: 'inference' or 'training' (with gradients; no optimizer).
        precision: one of PRECISIONS.
        compiled: whether the backbone is.
        weights: their memory layout.
        seconds: median of a call.
        images: per second.
        peak: MiB of memory during a call beyond that before it.
        share: of the largest rate of matrix products, in this precision.
    """

    network: str
    model: str
    task: str
    precision: str
    compiled: bool
    weights: str
    seconds: float | None
    images: float | None
    peak: float | None
    share: float | None


class Network(NamedTuple):
    """What is measured in each way.

    Args:
        name, model: as in Row's network and model.
        module: all of it.
        call: (module, task) -> runs it once.
        operations: of one image in inference, a multiply-add as two.
    """

    name: str
    model: str
    module: nn.Module
    call: Callable[[nn.Module, str], None]
    operations: float


def backbones(
    batch: int, size: tuple[int, int], device: str
) -> Iterator[Network]:
    """Each backbone of ours, and the same of another library."""
    image = torch.randn(batch, 3, *size, device=device)

    def call(module: nn.Module, task: str) -> None:
        run(module, image, task)

    for name, other in BACKBONES.items():
        with precision('float32', device):
            models = build_equal(name, [OURS, other], device)
        first = partial(models[OURS], image[:1])
        cost = 2e9 * flops.count_run(models[OURS], '', first).true
        for model, module in models.items():
            yield Network(name, model, module, call, cost)


def detectors(
    batch: int, size: tuple[int, int], device: str
) -> Iterator[Network]:
    """Each detector with our backbone, and with mmdet's own."""
    data = batch_of(batch, size, device)
    for name in DETECTORS:
        cfg = load_model_config(name)
        cost = 2e9 * flops.count(cfg, size).true
        init_default_scope(cfg.default_scope)
        for model in (OURS, 'mmdet'):
            backbone = MMDET if model == 'mmdet' else cfg.model.backbone
            backbone = {**backbone, 'init_cfg': None}
            torch.manual_seed(0)
            module = MODELS.build({**cfg.model, 'backbone': backbone})
            call = partial(detect, data)
            yield Network(name, model, module.to(device), call, cost)


def batch_of(batch: int, size: tuple[int, int], device: str) -> dict:
    """Random images (B, 3, H, W), with ten boxes and masks each."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    height, width = size
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(10, 4, generator=generator) / 2
    boxes *= torch.tensor([width, height, width, height])
    boxes[:, 2:] += boxes[:, :2]
    masks = np.zeros((10, *size), np.uint8)
    for mask, box in zip(masks, boxes.int().tolist(), strict=True):
        mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    sample = DetDataSample(
        metainfo=dict.fromkeys(shapes, size) | dict(scale_factor=(1.0, 1.0)),
        gt_instances=InstanceData(
            bboxes=boxes.to(device),
            labels=torch.arange(10, device=device),
            masks=BitmapMasks(masks, *size),
        ),
    )
    image = torch.randn(batch, 3, *size, device=device)
    return dict(inputs=image, data_samples=[sample] * batch)


def detect(data: dict, model: nn.Module, task: str) -> None:
    """One pass of a detector, in training a backward pass too."""
    model.train(task == 'training')
    if task == 'training':
        model.zero_grad(set_to_none=True)
        losses, _ = model.parse_losses(model(**data, mode='loss'))
        losses.backward()
    call = partial(model, **data, mode='predict')
    finish(call if task == 'inference' else bool, data['inputs'].device.type)


def ways(model: str, device: str) -> Iterator[tuple[str, str, bool, str]]:
    """(task, precision, compiled, weights) of each row of a model."""
    layouts = ('contiguous', 'channels last') if model == OURS else ('',)
    for task in TASKS:
        for name in PRECISIONS[device]:
            for compiled in (False, True):
                for layout in layouts:
                    yield task, name, compiled, layout


def changed(
    network: Network, compiled: bool, layout: str, device: str
) -> nn.Module:
    """A copy of a network with another memory layout, or compiled."""
    module = deepcopy(network.module)
    set_float32_border(module, device)
    backbone = getattr(module, 'backbone', module)
    if layout == 'channels last':
        whole = module
        if backbone is module:
            whole = nn.Module()
            whole.backbone = backbone
        prepare_model(whole)
    if compiled:
        backbone.compile(backend=inductor_backend, dynamic=True)
    return module


def measure(
    network: Network, batch: int, rounds: int, device: str
) -> Iterator[Row]:
    """Measure a network in each way, one after the other."""
    for task, name, compiled, layout in ways(network.model, device):
        way = (network.name, network.model, task, name, compiled, layout)
        module = changed(network, compiled, layout, device)
        call = partial(network.call, module, task)
        try:
            with precision(name, device):
                times = interleave({'': call}, rounds)['']
                peak = peak_bytes(call, device == 'cuda')
        except torch.cuda.OutOfMemoryError:
            yield Row(*way, None, None, None, None)
            continue
        seconds = median(times)
        passes = 3 if task == 'training' else 1
        rate = passes * batch * network.operations / seconds
        yield Row(
            *(*way, seconds, batch / seconds),
            None if peak is None else peak / MIB,
            rate / limit(name, device),
        )


@cache
def limit(name: str, device: str) -> float:
    """Operations per second of the product of two large squares."""
    side = 8192 if device == 'cuda' else 1024
    a, b = torch.randn(2, side, side, device=device)
    with precision(name, device):
        return 2 * side**3 / best(partial(torch.matmul, a, b), device)


def rendered(rows: Sequence[Row]) -> str:
    """Measurements as a table of markdown."""

    def text(value: object) -> str:
        if isinstance(value, bool):
            return 'compiled' if value else 'eager'
        if isinstance(value, float):
            return f'{value:.4g}'
        return 'out of memory' if value is None else str(value)

    head = [*Row._fields]
    head[head.index('images')] = 'images / s'
    head[head.index('peak')] = 'peak MiB'
    head[head.index('share')] = 'share of the limit'
    return table(head, [[text(value) for value in row] for row in rows])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the rows as csv and the table as markdown.

    Raises:
        UsageError: there is no GPU.
    """
    p = command_parser('Measure detectors and backbones on a GPU.')
    p.add_argument('--size', nargs=2, type=int, default=(800, 1344))
    p.add_argument('--batch', type=count, default=2)
    p.add_argument('--rounds', type=count, default=20)
    p.add_argument('--out', type=Path, default=OUT, help='FILE.csv')
    add_machine_arguments(p)
    p.set_defaults(device='cuda')
    args = p.parse_args(argv)
    device, facts = prepare(args)
    rows, shape = [], (args.batch, tuple(args.size), device)
    for network in chain(detectors(*shape), backbones(*shape)):
        for row in measure(network, args.batch, args.rounds, device):
            rows.append(row)
            print(rendered([row]).splitlines()[-1], flush=True)
    machine = facts.get('GPU') or processor()
    write_rows(args.out, rows, Row, machine)
    said = [f'{name}: {value}' for name, value in facts.items()]
    size = '{} x {} x {}'.format(args.batch, *args.size)
    page = f'{"; ".join(said)}; images {size}\n\n{rendered(rows)}\n'
    args.out.with_suffix('.md').write_text(page)


if __name__ == '__main__':
    sys.exit(run_command(main))
