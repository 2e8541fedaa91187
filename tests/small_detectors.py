"""Detectors with a small backbone, and a synthetic image with its labels."""

from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from pvt_mm.config.loading import load_config
from pvt_mm.datasets.synthetic.coco import bounding_box
from pvt_mm.datasets.synthetic.scene import draw_scene

CONFIGS = Path(__file__).parents[1] / 'configs'
DIMS = (8, 16, 20, 32)
BACKBONE = {
    'type': 'PVTv2',
    'arch': dict(dims=DIMS, depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2)),
}


def build(name, width=256):
    """The model of a config with a slim PVT v2, random weights.

    Args:
        name: of the config.
        width: channels where neck and heads have 256.
    """
    cfg = load_config(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone = BACKBONE
    cfg.model.neck.in_channels = list(DIMS)
    narrow(cfg.model, width)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train()


def narrow(node, width):
    """Scale the channels of neck and heads from 256 to another width."""
    for key, value in node.items():
        if isinstance(value, dict):
            narrow(value, width)
        elif key.endswith('channels') and isinstance(value, int):
            node[key] = value * width // 256


def batch(size=128):
    """One synthetic image and its labels, as a data loader gives them."""
    scene = draw_scene(np.random.default_rng(3), size, shapes=4)
    shape = scene.owner.shape
    masks = [scene.visible(i) for i in range(len(scene.labels))]
    boxes = torch.tensor([bounding_box(m) for m in masks], dtype=torch.float)
    boxes[:, 2:] += boxes[:, :2]
    sample = DetDataSample(
        metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1, 1)),
        gt_instances=InstanceData(
            bboxes=boxes,
            labels=torch.tensor(scene.labels),
            masks=BitmapMasks(np.array(masks, np.uint8), *shape),
        ),
        ignored_instances=InstanceData(bboxes=boxes[:0], labels=boxes[:0, 0]),
    )
    image = torch.from_numpy(scene.image).permute(2, 0, 1)
    return {'inputs': [image], 'data_samples': [sample]}
