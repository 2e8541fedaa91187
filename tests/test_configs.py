"""Leaves and recipes: a name is a specification, a recipe is the official one.

The numbers of the recipes are those of the official configs: whai362/PVT
(detection, segmentation) and youngwanLEE/MPViT (semantic_segmentation).
"""

import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    init_default_scope,
)
from torch import nn

from pvt_mm.datasets import CLASSES, draw_ade20k, draw_coco
from pvt_mm.layers import DropPath

ROOT = Path(__file__).parents[1]
NAME = re.compile(
    r'(?P<method>retinanet|mask_rcnn|semantic_fpn|upernet)_'
    r'(?P<family>pvt_v2|pvt|mpvit)_(?P<arch>b\d_li|[a-z]+|b\d)_'
    r'(?P<data>coco|ade20k|shapes)(?P<schedule>_\w+)?'
)
FAMILIES = {'pvt': 'PVT', 'pvt_v2': 'PVTv2', 'mpvit': 'MPViT'}
MODEL_TYPES = {
    'retinanet': ('RetinaNet', 'RetinaHead'),
    'mask_rcnn': ('MaskRCNN', 'StandardRoIHead'),
    'semantic_fpn': ('EncoderDecoder', 'FPNHead'),
    'upernet': ('EncoderDecoder', 'UPerHead'),
}
LEAVES = sorted(
    path.stem for path in ROOT.glob('configs/*.py') if NAME.match(path.stem)
)
each_leaf = pytest.mark.parametrize('leaf', LEAVES)

#                                  lr    decay  images  steps  iterations
RECIPES = {
    'retinanet_pvt_v2_b2_coco': (1e-4, 1e-4, 2 * 8, 'epochs', 12),
    'retinanet_pvt_tiny_coco': (1e-4, 1e-4, 2 * 8, 'epochs', 12),
    'mask_rcnn_pvt_v2_b2_coco': (2e-4, 1e-4, 2 * 8, 'epochs', 12),
    'semantic_fpn_pvt_v2_b2_ade20k': (2e-4, 1e-4, 4 * 8, 'iters', 40000),
    'upernet_mpvit_small_ade20k': (6e-5, 0.01, 2 * 8, 'iters', 160000),
}
each_recipe = pytest.mark.parametrize('leaf', RECIPES)


@cache
def read(leaf):
    return Config.fromfile(ROOT / f'configs/{leaf}.py')


@pytest.fixture
def cfg(leaf):
    cfg = deepcopy(read(leaf))
    init_default_scope(cfg.default_scope)
    return cfg


@cache
def backbone(leaf, device='meta'):
    """The leaf's backbone, built without memory for its weights."""
    with torch.device(device):
        return MODELS.build({**read(leaf).model.backbone, 'init_cfg': None})


@cache
def model(leaf):
    """The leaf's whole model on the meta device."""
    cfg = read(leaf).model
    init_default_scope(read(leaf).default_scope)
    with torch.device('meta'):
        return MODELS.build({**cfg, 'data_preprocessor': None})


@each_leaf
def test_name_is_the_specification(leaf, cfg):
    said = NAME.fullmatch(leaf)
    head = cfg.model.get('bbox_head') or cfg.model.get('roi_head')
    head = head or cfg.model.decode_head
    assert (cfg.model.type, head.type) == MODEL_TYPES[said['method']]
    assert cfg.model.backbone.type == FAMILIES[said['family']]
    assert cfg.model.backbone.arch == said['arch']
    if said['data'] == 'shapes':
        assert 'init_cfg' not in cfg.model.backbone
        return
    dataset = {'coco': 'CocoDataset', 'ade20k': 'ADE20KDataset'}[said['data']]
    assert cfg.train_dataloader.dataset.type == dataset
    weights = f'pvt://{said["family"]}_{said["arch"]}'
    expected = dict(type='Pretrained', checkpoint=weights)
    assert cfg.model.backbone.init_cfg == expected


@each_leaf
def test_leaf_is_short(leaf):
    text = (ROOT / f'configs/{leaf}.py').read_text()
    assert len(text.splitlines()) < 15
    assert text.startswith("_base_ = './_base_/")


@each_leaf
def test_no_weights_from_elsewhere(cfg):
    text = cfg.pretty_text
    assert 'openmmlab.com' not in text
    assert 'torchvision://' not in text
    assert 'open-mmlab://' not in text


@each_leaf
def test_neck_and_heads_fit_the_backbone(leaf, cfg):
    channels = list(backbone(leaf).out_channels)
    if 'neck' in cfg.model:
        assert cfg.model.neck.in_channels == channels
    else:
        head, extra = cfg.model.decode_head, cfg.model.auxiliary_head
        assert head.in_channels == channels
        assert extra.in_channels == channels[extra.in_index]


@each_recipe
def test_optimizer_groups(leaf, cfg):
    """One learning rate, and decay for norms and biases too."""
    lr, decay, *_ = RECIPES[leaf]
    optimizer = build_optim_wrapper(model(leaf), cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.AdamW
    assert {g['lr'] for g in optimizer.param_groups} == {lr}
    assert {g['weight_decay'] for g in optimizer.param_groups} == {decay}
    assert {g['betas'] for g in optimizer.param_groups} == {(0.9, 0.999)}
    there = {id(p) for g in optimizer.param_groups for p in g['params']}
    assert there == {id(p) for p in model(leaf).parameters()}
    assert cfg.optim_wrapper.get('clip_grad') is None
    assert cfg.optim_wrapper.type == 'OptimWrapper'


@each_recipe
def test_total_batch(leaf, cfg):
    batch = RECIPES[leaf][2]
    assert cfg.train_dataloader.batch_size * 8 == batch
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.auto_scale_lr.enable is False


@each_recipe
def test_length(leaf, cfg):
    unit, length = RECIPES[leaf][3:]
    assert cfg.train_cfg[f'max_{unit}'] == length


def rates(cfg, places, epoch=100):
    """The learning rate at some iterations, from the schedulers themselves."""
    weight = nn.Parameter(torch.zeros(1))
    wrapper = build_optim_wrapper(
        nn.ParameterList([weight]), cfg.optim_wrapper
    )
    optimizer = wrapper.optimizer
    schedulers = [
        PARAM_SCHEDULERS.build(dict(s, optimizer=wrapper))
        for s in deepcopy(cfg.param_scheduler)
    ]
    found = {}
    for place in range(max(places) + 1):
        found[place] = optimizer.param_groups[0]['lr']
        optimizer.step()
        for scheduler in schedulers:
            if not scheduler.by_epoch or (place + 1) % epoch == 0:
                scheduler.step()
    return [found[place] for place in places]


@pytest.mark.parametrize(
    'leaf', [leaf for leaf in RECIPES if RECIPES[leaf][3] == 'epochs']
)
def test_schedule_of_detection(leaf, cfg):
    """Warm-up of 500 iterations from 0.001, a tenth after 8 and 11 epochs."""
    lr, epoch = RECIPES[leaf][0], 100
    places = [0, 250, 500, 799, 800, 1099, 1100]
    seen = rates(cfg, places, epoch)
    factors = [0.001, 0.001 + 0.999 * 250 / 500, 1, 1, 0.1, 0.1, 0.01]
    assert seen == pytest.approx([lr * f for f in factors], rel=3e-3)


def test_schedule_of_semantic_fpn():
    """Power 0.9 to zero, without warm-up."""
    leaf = 'semantic_fpn_pvt_v2_b2_ade20k'
    places = [0, 1, 1000, 4000]
    expected = [2e-4 * (1 - place / 40000) ** 0.9 for place in places]
    assert rates(read(leaf), places) == pytest.approx(expected, rel=1e-5)
    (poly,) = read(leaf).param_scheduler
    assert (poly.eta_min, poly.end) == (0, 40000)


def test_schedule_of_upernet():
    """Linear decay to zero, times a warm-up of 1500 iterations from 1e-6."""
    leaf = 'upernet_mpvit_small_ade20k'
    places = [0, 750, 1500, 4000]
    expected = [
        6e-5 * (1 - p / 160000) * (1e-6 + (1 - 1e-6) * min(p / 1500, 1))
        for p in places
    ]
    assert rates(read(leaf), places) == pytest.approx(expected, rel=1e-3)
    assert read(leaf).param_scheduler[1].eta_min == 0


@pytest.mark.parametrize(
    ('leaf', 'rate'),
    [
        ('retinanet_pvt_tiny_coco', 0.1),
        ('retinanet_pvt_v2_b2_coco', 0.1),
        ('mask_rcnn_pvt_v2_b2_coco', 0.1),
        ('semantic_fpn_pvt_v2_b2_ade20k', 0.1),
        ('upernet_mpvit_small_ade20k', 0.2),
    ],
)
def test_drop_path(leaf, rate):
    drops = [m for m in backbone(leaf).modules() if isinstance(m, DropPath)]
    assert drops[0].rate == 0
    assert max(drop.rate for drop in drops) == pytest.approx(rate)


@each_recipe
def test_norms_train_and_nothing_is_frozen(leaf):
    built = model(leaf).train()
    assert all(p.requires_grad for p in built.parameters())
    assert all(m.training for m in built.modules())


def test_batch_norms_are_synchronised():
    synchronised = nn.SyncBatchNorm
    for part in ('backbone', 'decode_head', 'auxiliary_head'):
        norms = [
            isinstance(m, synchronised)
            for m in getattr(
                model('upernet_mpvit_small_ade20k'), part
            ).modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm)
        ]
        assert norms
        assert all(norms)
    fpn = model('semantic_fpn_pvt_v2_b2_ade20k')
    assert any(isinstance(m, synchronised) for m in fpn.decode_head.modules())
    assert not any('norm' in name for name, _ in fpn.neck.named_parameters())


def test_heads_of_the_recipes():
    upernet = read('upernet_mpvit_small_ade20k').model
    assert upernet.auxiliary_head.in_index == 2
    assert upernet.auxiliary_head.loss_decode.loss_weight == 0.4
    assert upernet.decode_head.pool_scales == (1, 2, 3, 6)
    fpn = read('semantic_fpn_pvt_v2_b2_ade20k').model
    assert (fpn.neck.out_channels, fpn.decode_head.channels) == (256, 128)
    for segmentor in (upernet, fpn):
        assert segmentor.test_cfg.mode == 'whole'
        assert segmentor.decode_head.num_classes == 150
        assert segmentor.decode_head.dropout_ratio == 0.1
        assert segmentor.decode_head.align_corners is False
    neck = read('retinanet_pvt_v2_b2_coco').model.neck
    assert (neck.start_level, neck.add_extra_convs) == (1, 'on_input')


def through(pipeline, height, width):
    """Size of an image after the resizing steps of a pipeline."""
    steps = [step for step in pipeline if 'Resize' in step.type]
    image = np.zeros((height, width, 3), np.uint8)
    results = dict(img=image, img_shape=image.shape[:2])
    done = Compose([TRANSFORMS.build(step) for step in steps])(results)
    return done['img'].shape[:2]


@pytest.mark.parametrize(
    ('leaf', 'size', 'expected'),
    [
        # 512 x 683: the longer side goes up to a multiple of 32
        ('semantic_fpn_pvt_v2_b2_ade20k', (300, 400), (512, 704)),
        ('upernet_mpvit_small_ade20k', (300, 400), (512, 683)),
        ('retinanet_pvt_v2_b2_coco', (300, 400), (800, 1067)),
        ('mask_rcnn_pvt_v2_b2_coco', (300, 600), (667, 1333)),
    ],
)
def test_size_at_test_time(leaf, cfg, size, expected):
    pipeline = cfg.test_dataloader.dataset.pipeline
    assert through(pipeline, *size) == expected
    assert cfg.val_dataloader.dataset.pipeline == pipeline


def test_training_crop():
    for leaf in (
        'semantic_fpn_pvt_v2_b2_ade20k',
        'upernet_mpvit_small_ade20k',
    ):
        steps = {
            s.type: s for s in read(leaf).train_dataloader.dataset.pipeline
        }
        resize, crop = steps['RandomResize'], steps['RandomCrop']
        assert resize.scale == (2048, 512)
        assert resize.ratio_range == (0.5, 2.0)
        assert (crop.crop_size, crop.cat_max_ratio) == ((512, 512), 0.75)
        assert steps['RandomFlip'].prob == 0.5
        assert 'PhotoMetricDistortion' in steps
        assert read(leaf).model.data_preprocessor.size == (512, 512)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Drawn images in both layouts."""
    root = tmp_path_factory.mktemp('drawn')
    draw_coco(root / 'coco', 2, 1, size=96)
    draw_ade20k(root / 'ade20k', 2, 1, size=96)
    return root


def batch(cfg, mode, drawn):
    """Drawn images through the leaf's own pipeline, at a small size."""
    dataset = cfg[f'{mode}_dataloader'].dataset
    if cfg.default_scope == 'mmdet':
        dataset.update(
            data_root=f'{drawn}/coco', metainfo={'classes': CLASSES}
        )
    else:
        dataset.data_root = f'{drawn}/ade20k'
    for step in dataset.pipeline:
        if 'scale' in step:
            step.scale = (96, 96)
        if 'crop_size' in step:
            step.crop_size = (64, 64)
    built = DATASETS.build(dataset)
    return pseudo_collate([built[i] for i in range(len(built))])


@pytest.mark.parametrize('leaf', [*RECIPES, 'retinanet_pvt_v2_b0_coco'])
def test_one_step_of_training_and_of_testing(leaf, cfg, drawn):
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    torch.manual_seed(0)
    built = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    wrapper = build_optim_wrapper(built, cfg.optim_wrapper)
    before = [p.detach().clone() for p in built.backbone.parameters()]
    losses = built.train_step(batch(cfg, 'train', drawn), wrapper)
    assert all(torch.isfinite(v).all() for v in losses.values())
    after = list(built.backbone.parameters())
    moved = [
        not torch.equal(*pair) for pair in zip(before, after, strict=True)
    ]
    assert all(moved)
    (found,) = built.eval().test_step(batch(cfg, 'test', drawn))
    if cfg.default_scope == 'mmseg':
        assert found.pred_sem_seg.shape == found.ori_shape
        assert found.pred_sem_seg.data.max() < 150
    else:
        assert found.pred_instances.bboxes.shape[1] == 4
        assert found.pred_instances.labels.dtype == torch.int64
