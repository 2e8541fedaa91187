#!/usr/bin/env python
"""Compare exported detectors with `pvt_mm infer` -> the table of docs/export.

For each method and family: a small detector on the drawn shapes, trained if
the folder has no weights of it yet; its .onnx file; the objects that both
find in 20 drawn images at four sizes, alone and in batches of three.
"""

import argparse
import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402

from pvt_mm.config.cfg_options import merge_options  # noqa: E402
from pvt_mm.config.loading import load_config  # noqa: E402
from pvt_mm.datasets.synthetic import CLASSES, draw_coco  # noqa: E402
from pvt_mm.engine.onnx_model import OnnxModel  # noqa: E402
from pvt_mm.engine.test import test  # noqa: E402
from pvt_mm.engine.train import train  # noqa: E402
from pvt_mm.export import parity  # noqa: E402
from pvt_mm.export.cli import main as export  # noqa: E402
from pvt_mm.inference.predictor import Predictor  # noqa: E402

# fmt: off
# method: config of its head, epochs, learning rate
METHODS = {
    'retinanet':         ('retinanet_pvt_v2_b0_coco', 40, 2e-3),
    'atss':              ('atss_pvt_v2_b2_coco', 8, 1e-3),
    'gfl':               ('gfl_pvt_v2_b2_coco', 8, 1e-3),
    'mask_rcnn':         ('mask_rcnn_pvt_v2_b0_coco', 8, 1e-3),
    'cascade_mask_rcnn': ('cascade_mask_rcnn_pvt_v2_b2_coco', 8, 1e-3),
    'detr':              ('detr_pvt_small_coco', 12, 5e-4),
    'deformable_detr':   ('deformable_detr_mpvit_small_coco', 10, 5e-4),
    'sparse_rcnn':       ('sparse_rcnn_pvt_v2_b2_coco', 10, 5e-4),
}
# family: backbone, its stages, channels of its maps
FAMILIES = {
    'pvt': ('PVT', dict(
        depths=(1, 1, 1, 1), dims=(32, 64, 80, 128), mlp_ratios=(4,) * 4
    ), (32, 64, 80, 128)),
    'pvt_v2': ('PVTv2', dict(
        depths=(1, 1, 1, 1), dims=(32, 64, 80, 128), mlp_ratios=(4,) * 4
    ), (32, 64, 80, 128)),
    'mpvit': ('MPViT', dict(
        depths=(1, 1, 1, 1), dims=(32, 48, 64, 96), mlp_ratios=(2,) * 4,
        paths=(2, 2, 2, 2),
    ), (48, 64, 96, 96)),
}
# fmt: on
SIDE = 96  # pixels of the drawn images; shapes have 16 to 58
SIZES = ((96, 96), (72, 120), (128, 160), (120, 88))  # H, W
WIDTH = 64  # channels of necks and heads
GROUPS = dict(type='GN', num_groups=8)
AP_COUNTS, AP_LIMIT = 0.3, 0.001  # above it, AP of both is to be the same
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
    """Print the table, a row when it is there; fail at what differs."""
    args = parser().parse_args()
    folder, wrong = args.folder.absolute(), []
    if not (folder / 'coco').exists():
        draw_coco(folder / 'coco', 360, 40, size=SIDE)
    print(HEAD, flush=True)
    for family, method in product(args.families, args.methods):
        config, weights = trained(folder, method, family)
        file = weights.with_suffix('.onnx')
        command(export, config, weights, '--out', file, '--force')
        found = compare(config, weights, file, folder, args.images)
        print(f'{weights.stem}: {found}', file=sys.stderr, flush=True)
        one, other = (score(config, path) for path in (weights, file))
        masks = f'{found.masks:.0e}' if 'mask' in method else '-'
        row = ROW.format(method, family, one, other, *found[:3], masks)
        print(row, flush=True)
        if not found.equal():
            wrong.append(f'{weights.stem} differs: {found}')
        if one > AP_COUNTS and abs(one - other) > AP_LIMIT:
            wrong.append(f'{weights.stem} has AP {one}, its file {other}')
    if wrong:
        sys.exit('\n'.join(wrong))


def trained(folder: Path, method: str, family: str) -> tuple[Path, Path]:
    """Config and weights of a detector, trained if they are not there.

    All but RetinaNet begin with the backbone of that family's RetinaNet.
    """
    config, weights = (
        folder / f'{method}_{family}{suffix}' for suffix in ('.py', '.pth')
    )
    start = None
    if method != 'retinanet':
        start = trained(folder, 'retinanet', family)[1]
    write_config(method, family, folder, start, config)
    if not weights.exists():
        work = weights.with_suffix('')
        with torch.enable_grad():
            command(train, config, '--work-dir', work)
        (work / f'epoch_{METHODS[method][1]}.pth').replace(weights)
    return config, weights


def write_config(
    method: str, family: str, folder: Path, start: Path | None, out: Path
) -> None:
    """A small detector of a method and a family on the drawn shapes."""
    cfg = load_config(str(ROOT / 'configs/retinanet_pvt_v2_b0_shapes.py'))
    name, epochs, rate = METHODS[method]
    model = deepcopy(load_config(str(ROOT / f'configs/{name}.py')).model)
    kind, arch, dims = FAMILIES[family]
    wanted = tuple(model.backbone.get('out_indices', (0, 1, 2, 3)))
    model.backbone = dict(type=kind, arch=arch, out_indices=wanted)
    if start:
        model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=str(start), prefix='backbone.'
        )
    narrow(model)
    model.neck.in_channels = [dims[i] for i in wanted]
    SHRINK[method](model)
    cfg.model = model
    masks = 'mask' in method
    merge_options(
        cfg,
        {
            'data_root': f'{folder}/coco/',
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': epochs + 1,
            'param_scheduler.0.end': 30,
            'param_scheduler.1.T_max': epochs,
            'optim_wrapper.optimizer.lr': rate,
        },
    )
    for mode in ('train', 'val', 'test'):
        for step in cfg[f'{mode}_dataloader'].dataset.pipeline:
            if step.type == 'LoadAnnotations':
                step.with_mask = masks
            elif step.type == 'Resize':
                step.scale = (SIDE, SIDE)
                # a shorter side may be below the 64 pixels of a file
                step.keep_ratio = mode == 'train'
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.metric = ['bbox', 'segm'] if masks else 'bbox'
    Config(cfg.to_dict()).dump(str(out))


def narrow(node: Any) -> None:
    """Five classes, plain batch norms, and channels from 256 to WIDTH."""
    scaled = ('channels', 'channel', 'embed_dims', 'num_feats')
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, dict | list):
            narrow(value)
        elif key == 'num_classes':
            node[key] = len(CLASSES)
        elif value == 'SyncBN':
            node[key] = 'BN'
        elif str(key).endswith(scaled) and isinstance(value, int):
            node[key] = value * WIDTH // 256


def shrink_dense(model: Any) -> None:
    """Three levels, and anchors as small as the shapes."""
    model.neck.update(num_outs=3, add_extra_convs=False, norm_cfg=GROUPS)
    head = model.bbox_head
    head.stacked_convs = 2
    head.anchor_generator.strides = [8, 16, 32]
    head.anchor_generator.octave_base_scale = 3
    if model.type == 'RetinaNet':
        head.norm_cfg = GROUPS
        head.anchor_generator.octave_base_scale = 2
        head.anchor_generator.ratios = [0.67, 1.0, 1.5]


def shrink_two_stage(model: Any) -> None:
    """Four levels, all of which get boxes, and fewer of these."""
    model.neck.update(num_outs=4, norm_cfg=GROUPS)
    model.rpn_head.anchor_generator.update(scales=[4], strides=[4, 8, 16, 32])
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        proposals.update(nms_pre=100, max_per_img=60)
    stages = model.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 24
    model.roi_head.bbox_roi_extractor.finest_scale = FINEST
    model.roi_head.mask_roi_extractor.finest_scale = FINEST
    model.roi_head.mask_head.num_convs = 1
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else []:
        head.num_shared_convs = 1


def shrink_detr(model: Any) -> None:
    """Two layers and fewer queries."""
    model.num_queries = 40
    model.encoder.num_layers = model.decoder.num_layers = 2
    model.bbox_head.embed_dims = WIDTH
    model.test_cfg.max_per_img = 40


def shrink_deformable_detr(model: Any) -> None:
    """The same with three levels."""
    shrink_detr(model)
    model.num_feature_levels = model.neck.num_outs = 3
    model.encoder.layer_cfg.self_attn_cfg.num_levels = 3
    model.decoder.layer_cfg.cross_attn_cfg.num_levels = 3


def shrink_sparse_rcnn(model: Any) -> None:
    """Two stages of six, and fewer proposals."""
    model.neck.norm_cfg = GROUPS
    model.rpn_head.num_proposals = 40
    roi = model.roi_head
    roi.num_stages = 2
    roi.stage_loss_weights = roi.stage_loss_weights[:2]
    roi.bbox_head = roi.bbox_head[:2]
    roi.bbox_roi_extractor.finest_scale = FINEST
    model.train_cfg.rcnn = model.train_cfg.rcnn[:2]
    model.test_cfg.rcnn.max_per_img = 40


FINEST = 14  # pixels; boxes of twice the side look at the next map
SHRINK = {
    **dict.fromkeys(('retinanet', 'atss', 'gfl'), shrink_dense),
    **dict.fromkeys(('mask_rcnn', 'cascade_mask_rcnn'), shrink_two_stage),
    'detr': shrink_detr,
    'deformable_detr': shrink_deformable_detr,
    'sparse_rcnn': shrink_sparse_rcnn,
}


def score(config: Path, weights: Path) -> float:
    """AP of boxes, each image alone."""
    work = ('--work-dir', weights.with_suffix(''))
    options = ('--cfg-options', 'test_dataloader.batch_size=1')
    lines = command(test, config, weights, *work, *options)
    return float(lines.split('coco/bbox_mAP: ')[-1].split()[0])


def command(run: Callable, *words: Any) -> str:
    """What a command of this package prints."""
    with redirect_stdout(io.StringIO()) as said:
        run(list(map(str, words)))
    return said.getvalue()


def compare(
    config: Path, weights: Path, file: Path, folder: Path, number: int
) -> parity.Apart:
    """How far the objects of a file are from those of ``pvt_mm infer``."""
    model, total = OnnxModel(file), parity.Apart()
    images = sorted((folder / 'coco/val2017').iterdir())[:number]
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
                        parity.BEST,
                    )
                )
    return total


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    main()
