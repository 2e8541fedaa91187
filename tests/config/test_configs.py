"""Recipes: the numbers of the first five, step by step.

They are those of the official configs: whai362/PVT (detection, segmentation)
and youngwanLEE/MPViT (semantic_segmentation). Every config is held to
docs/recipes/official.csv by tests/reproduction/test_recipes.py.
"""

from copy import deepcopy

import numpy as np
import pytest
import torch
from config_files import backbone, fresh, model, read
from mmcv.transforms import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, TRANSFORMS
from torch import nn

from pvt_mm.models.layers import DropPath

#                                  lr    decay  images  steps  iterations
RECIPES = {
    'retinanet_pvt_v2_b2_coco': (1e-4, 1e-4, 2 * 8, 'epochs', 12),
    'retinanet_pvt_tiny_coco': (1e-4, 1e-4, 2 * 8, 'epochs', 12),
    'mask_rcnn_pvt_v2_b2_coco': (2e-4, 1e-4, 2 * 8, 'epochs', 12),
    'semantic_fpn_pvt_v2_b2_ade20k': (2e-4, 1e-4, 4 * 8, 'iters', 40000),
    'upernet_mpvit_small_ade20k': (6e-5, 0.01, 2 * 8, 'iters', 160000),
}
each_recipe = pytest.mark.parametrize('config', RECIPES)


@pytest.fixture
def cfg(config):
    return fresh(config)


@each_recipe
def test_optimizer_groups(config, cfg):
    """One learning rate, and decay for norms and biases too."""
    lr, decay, *_ = RECIPES[config]
    optimizer = build_optim_wrapper(model(config), cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.AdamW
    assert {g['lr'] for g in optimizer.param_groups} == {lr}
    assert {g['weight_decay'] for g in optimizer.param_groups} == {decay}
    assert {g['betas'] for g in optimizer.param_groups} == {(0.9, 0.999)}
    there = {id(p) for g in optimizer.param_groups for p in g['params']}
    assert there == {id(p) for p in model(config).parameters()}
    assert cfg.optim_wrapper.get('clip_grad') is None
    assert cfg.optim_wrapper.type == 'OptimWrapper'


@each_recipe
def test_total_batch(config, cfg):
    batch = RECIPES[config][2]
    assert cfg.train_dataloader.batch_size * 8 == batch
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.auto_scale_lr.enable is False


@each_recipe
def test_length(config, cfg):
    unit, length = RECIPES[config][3:]
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
    'config', [config for config in RECIPES if RECIPES[config][3] == 'epochs']
)
def test_schedule_of_detection(config, cfg):
    """Warm-up of 500 iterations from 0.001, a tenth after 8 and 11 epochs."""
    lr, epoch = RECIPES[config][0], 100
    places = [0, 250, 500, 799, 800, 1099, 1100]
    seen = rates(cfg, places, epoch)
    factors = [0.001, 0.001 + 0.999 * 250 / 500, 1, 1, 0.1, 0.1, 0.01]
    assert seen == pytest.approx([lr * f for f in factors], rel=3e-3)


def test_schedule_of_semantic_fpn():
    """Power 0.9 to zero, without warm-up."""
    config = 'semantic_fpn_pvt_v2_b2_ade20k'
    places = [0, 1, 1000, 4000]
    expected = [2e-4 * (1 - place / 40000) ** 0.9 for place in places]
    assert rates(read(config), places) == pytest.approx(expected, rel=1e-5)
    (poly,) = read(config).param_scheduler
    assert (poly.eta_min, poly.end) == (0, 40000)


def test_schedule_of_upernet():
    """Linear decay to zero, times a warm-up of 1500 iterations from 1e-6."""
    config = 'upernet_mpvit_small_ade20k'
    places = [0, 750, 1500, 4000]
    expected = [
        6e-5 * (1 - p / 160000) * (1e-6 + (1 - 1e-6) * min(p / 1500, 1))
        for p in places
    ]
    assert rates(read(config), places) == pytest.approx(expected, rel=1e-3)
    assert read(config).param_scheduler[1].eta_min == 0


@pytest.mark.parametrize(
    ('config', 'rate'),
    [
        ('retinanet_pvt_tiny_coco', 0.1),
        ('retinanet_pvt_v2_b2_coco', 0.1),
        ('mask_rcnn_pvt_v2_b2_coco', 0.1),
        ('semantic_fpn_pvt_v2_b2_ade20k', 0.1),
        ('upernet_mpvit_small_ade20k', 0.2),
    ],
)
def test_drop_path(config, rate):
    drops = [m for m in backbone(config).modules() if isinstance(m, DropPath)]
    assert drops[0].rate == 0
    assert max(drop.rate for drop in drops) == pytest.approx(rate)


@each_recipe
def test_norms_train_and_nothing_is_frozen(config):
    built = model(config).train()
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
    ('config', 'size', 'expected'),
    [
        # 512 x 683: the longer side goes up to a multiple of 32
        ('semantic_fpn_pvt_v2_b2_ade20k', (300, 400), (512, 704)),
        ('upernet_mpvit_small_ade20k', (300, 400), (512, 683)),
        ('retinanet_pvt_v2_b2_coco', (300, 400), (800, 1067)),
        ('mask_rcnn_pvt_v2_b2_coco', (300, 600), (667, 1333)),
    ],
)
def test_size_at_test_time(config, cfg, size, expected):
    pipeline = cfg.test_dataloader.dataset.pipeline
    assert through(pipeline, *size) == expected
    assert cfg.val_dataloader.dataset.pipeline == pipeline


def test_training_crop():
    for config in (
        'semantic_fpn_pvt_v2_b2_ade20k',
        'upernet_mpvit_small_ade20k',
    ):
        steps = {
            s.type: s for s in read(config).train_dataloader.dataset.pipeline
        }
        resize, crop = steps['RandomResize'], steps['RandomCrop']
        assert resize.scale == (2048, 512)
        assert resize.ratio_range == (0.5, 2.0)
        assert (crop.crop_size, crop.cat_max_ratio) == ((512, 512), 0.75)
        assert steps['RandomFlip'].prob == 0.5
        assert 'PhotoMetricDistortion' in steps
        assert read(config).model.data_preprocessor.size == (512, 512)
