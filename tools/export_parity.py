#!/usr/bin/env python
"""Compare exported detectors with `pvt_mm infer` -> the table of docs/export.

For each method and family: a small detector on the drawn shapes, trained if
the folder has no weights of it yet; its .onnx file; the objects that both
find in 20 drawn images at four sizes, alone and in batches of three.
"""

import argparse
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402

from pvt_mm.config.loading import load_config  # noqa: E402
from pvt_mm.datasets.synthetic import draw_coco  # noqa: E402
from pvt_mm.engine.onnx_model import OnnxModel  # noqa: E402
from pvt_mm.export import parity  # noqa: E402
from pvt_mm.export.cli import main as export  # noqa: E402
from pvt_mm.inference.predictor import Predictor  # noqa: E402

# fmt: off
# method: config of its head, epochs
METHODS = {
    'retinanet':         ('retinanet_pvt_v2_b0_coco', 8),
    'atss':              ('atss_pvt_v2_b2_coco', 4),
    'gfl':               ('gfl_pvt_v2_b2_coco', 4),
    'mask_rcnn':         ('mask_rcnn_pvt_v2_b0_coco', 4),
    'cascade_mask_rcnn': ('cascade_mask_rcnn_pvt_v2_b2_coco', 2),
    'detr':              ('detr_pvt_small_coco', 2),
    'deformable_detr':   ('deformable_detr_mpvit_small_coco', 2),
    'sparse_rcnn':       ('sparse_rcnn_pvt_v2_b2_coco', 2),
}
# family: backbone, arch, channels of its maps
FAMILIES = {
    'pvt': ('PVT', dict(
        depths=(1, 1, 2, 1), dims=(32, 64, 160, 256), mlp_ratios=(4,) * 4
    ), (32, 64, 160, 256)),
    'pvt_v2': ('PVTv2', 'b0', (32, 64, 160, 256)),
    'mpvit': ('MPViT', dict(
        depths=(1, 1, 1, 1), dims=(32, 64, 96, 128), mlp_ratios=(2,) * 4
    ), (64, 96, 128, 128)),
}
# fmt: on
SIZES = ((160, 160), (136, 200), (192, 256), (160, 120))  # H, W
GROUPS = dict(type='GN', num_groups=8)
ROW = '| {} | {} | {:.3f} | {:.3f} | {} | {:.0e} | {:.0e} | {} |'
HEAD = """\
| method | family | AP | AP of the file | objects | boxes | scores | masks |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('folder', type=Path, help='of data, weights and files')
    p.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    p.add_argument('--families', nargs='+', choices=FAMILIES, default=FAMILIES)
    p.add_argument('--images', type=int, default=20)
    return p


def main() -> None:
    """Print the table, a row when it is there."""
    args = parser().parse_args()
    data = args.folder.absolute() / 'shapes/coco'
    if not data.exists():
        draw_coco(data, 600, 150)
    print(HEAD, flush=True)
    for method in args.methods:
        for family in args.families:
            name = f'{method}_{family}'
            config, weights = (
                args.folder / f'{name}{suffix}' for suffix in ('.py', '.pth')
            )
            write_config(method, family, data, config)
            if not weights.exists():
                train(config, weights, METHODS[method][1])
            file = weights.with_suffix('.onnx')
            export([str(config), str(weights), '--out', str(file), '--force'])
            found = compare(config, weights, file, data, args.images)
            print(f'{name}: {found}', file=sys.stderr, flush=True)
            scores = [score(config, path) for path in (weights, file)]
            masks = f'{found.masks:.0e}' if 'mask' in method else '-'
            row = ROW.format(method, family, *scores, *found[:3], masks)
            print(row, flush=True)


def write_config(method: str, family: str, data: Path, out: Path) -> None:
    """A small detector of a method and a family on the drawn shapes."""
    cfg = load_config(str(ROOT / 'configs/retinanet_pvt_v2_b0_shapes.py'))
    path = ROOT / f'configs/{METHODS[method][0]}.py'
    model = deepcopy(load_config(str(path)).model)
    kind, arch, dims = FAMILIES[family]
    wanted = model.backbone.get('out_indices', (0, 1, 2, 3))
    model.backbone = dict(type=kind, arch=arch, out_indices=tuple(wanted))
    queries = method in ('detr', 'deformable_detr', 'sparse_rcnn')
    narrow(model, 256 if queries else 64)
    model.neck.in_channels = [dims[i] for i in wanted]
    shrink(model, queries)
    cfg.model = model
    masks = 'mask' in method
    for mode in ('train', 'val', 'test'):
        for step in cfg[f'{mode}_dataloader'].dataset.pipeline:
            if step.type == 'LoadAnnotations':
                step.with_mask = masks
        cfg[f'{mode}_dataloader'].dataset.data_root = f'{data}/'
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.metric = ['bbox', 'segm'] if masks else 'bbox'
        evaluator.ann_file = f'{data}/annotations/instances_val2017.json'
    cfg.data_root = f'{data}/'
    cfg.optim_wrapper.optimizer.lr = 4e-4 if queries else 1e-3
    Config(cfg.to_dict()).dump(str(out))


def narrow(node: Any, width: int) -> None:
    """Five classes, plain batch norms, and channels from 256 to a width."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, dict | list):
            narrow(value, width)
        elif key == 'num_classes':
            node[key] = 5
        elif value == 'SyncBN':
            node[key] = 'BN'
        elif str(key).endswith('channels') and isinstance(value, int):
            node[key] = value * width // 256


def shrink(model: Any, queries: bool) -> None:
    """Fewer levels, proposals and queries: shapes are 24 to 100 pixels."""
    if model.type == 'SparseRCNN':
        model.rpn_head.num_proposals = 60
        model.test_cfg.rcnn.max_per_img = 60
    elif model.type == 'DeformableDETR':
        model.num_queries = 60
    elif 'roi_head' in model:
        model.neck.norm_cfg = GROUPS
        model.rpn_head.anchor_generator.scales = [6]
        model.train_cfg.rpn_proposal.update(nms_pre=300, max_per_img=200)
        stages = model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 48
        model.roi_head.mask_head.num_convs = 2
        heads = model.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else []:
            head.num_shared_convs = 2
    elif not queries:
        model.neck.update(num_outs=3, add_extra_convs=False, norm_cfg=GROUPS)
        head = model.bbox_head
        head.stacked_convs = 2
        head.anchor_generator.strides = [8, 16, 32]
        head.anchor_generator.octave_base_scale = 6
        if model.type == 'RetinaNet':
            head.norm_cfg = GROUPS
            head.anchor_generator.octave_base_scale = 3
            head.anchor_generator.ratios = [0.67, 1.0, 1.5]


def train(config: Path, weights: Path, epochs: int) -> None:
    """Train a config, and keep the last weights."""
    work = weights.with_suffix('')
    options = [
        f'train_cfg.max_epochs={epochs}',
        f'train_cfg.val_interval={epochs}',
        f'param_scheduler.1.T_max={epochs}',
    ]
    command('train', config, '--work-dir', work, '--cfg-options', *options)
    (work / f'epoch_{epochs}.pth').replace(weights)


def score(config: Path, weights: Path) -> float:
    """AP of boxes, each image alone."""
    lines = command(
        *('test', config, weights, '--work-dir', weights.with_suffix('')),
        *('--cfg-options', 'test_dataloader.batch_size=1'),
    )
    return float(lines.split('coco/bbox_mAP: ')[-1].split()[0])


def command(*words: Any) -> str:
    """What a command of this package prints."""
    done = subprocess.run(
        [sys.executable, '-m', 'pvt_mm', *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        sys.exit(done.stdout)
    return done.stdout


def compare(
    config: Path, weights: Path, file: Path, data: Path, number: int
) -> parity.Apart:
    """How far the objects of a file are from those of ``pvt_mm infer``."""
    model, total = OnnxModel(file), parity.Apart()
    best = 0 if 'iou_threshold' in model.about else parity.BEST
    images = sorted((data / 'val2017').iterdir())[:number]
    for height, width in SIZES:
        step = 'test_dataloader.dataset.pipeline.1'
        size = {f'{step}.scale': (width, height), f'{step}.keep_ratio': False}
        predictor = Predictor(str(config), str(weights), 'cpu', size)
        ready = [predictor.prepare(predictor.read(path)) for path in images]
        for most in (1, 3):
            for i in range(0, len(ready), most):
                batch = ready[i : i + most]
                theirs = predictor.predict(deepcopy(batch))
                ours = model.test_step(
                    {key: [x[key] for x in batch] for key in batch[0]}
                )
                total = total.join(
                    parity.difference(
                        [x.pred_instances for x in ours],
                        [x.pred_instances for x in theirs],
                        best,
                    )
                )
    return total


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    main()
