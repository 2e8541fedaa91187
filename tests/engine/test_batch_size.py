"""The recipe's total batch, kept by tools/train.py."""

import pytest

from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import HOME
from pvt_mm.engine import batch_size as batch
from pvt_mm.engine import train as training
from pvt_mm.errors import UsageError


@pytest.fixture
def said(monkeypatch):
    """What is printed."""
    lines = []
    monkeypatch.setattr(batch, 'print_log', lines.append)
    return lines


def fitted(name, processes, way='recipe', **loader):
    cfg = load_config(str(HOME / 'configs' / name))
    cfg.train_dataloader.update(loader)
    batch.fit_batch(cfg, processes, way)
    return cfg


def test_eight_gpus_are_the_recipe(said):
    cfg = fitted('retinanet_pvt_v2_b2_coco.py', 8)
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    assert said == [
        'Batch: 8 process(es) x 2 images, recipe 16: as the recipe.'
    ]


def test_one_gpu_accumulates_by_epoch(said):
    cfg = fitted('retinanet_pvt_v2_b2_coco.py', 1)
    assert cfg.optim_wrapper.accumulative_counts == 8
    warm_up, steps = cfg.param_scheduler
    assert (warm_up['begin'], warm_up['end']) == (0, 4000)  # 500 steps
    assert steps['milestones'] == [8, 11]  # epochs stay
    assert cfg.train_cfg.max_epochs == 12
    assert 'gradients of 8 steps are accumulated' in said[0]


def test_two_gpus_accumulate_by_iteration(said):
    cfg = fitted('semantic_fpn_pvt_v2_b2_ade20k.py', 2)
    assert cfg.optim_wrapper.accumulative_counts == 4  # 2 x 4 of 32
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.param_scheduler[0]['end'] == 160000
    assert cfg.train_cfg.val_interval == 16000
    assert cfg.default_hooks.checkpoint.interval == 16000
    # the config as written to the work dir runs again as it is
    again = cfg.copy()
    batch.fit_batch(again, 2, 'recipe')
    assert again.train_cfg.max_iters == 160000


def test_uneven_batches_scale_the_rate(said):
    cfg = fitted('semantic_fpn_pvt_v2_b2_ade20k.py', 3)  # 12 of 32
    assert cfg.auto_scale_lr.enable is True
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    assert cfg.train_cfg.max_iters == 106667  # as many images
    assert 'the learning rate is scaled by 0.375' in said[0]
    once = cfg.train_cfg.max_iters
    batch.fit_batch(cfg, 3, 'recipe')
    assert cfg.train_cfg.max_iters == once


def test_larger_batches_scale_the_rate(said):
    cfg = fitted('retinanet_pvt_v2_b2_coco.py', 8, batch_size=4)
    assert cfg.auto_scale_lr.enable is True
    assert cfg.param_scheduler[0]['end'] == 250
    assert 'scaled by 2' in said[0]


def test_the_user_chooses(said):
    cfg = fitted('retinanet_pvt_v2_b2_coco.py', 1, 'scale-lr')
    assert cfg.auto_scale_lr.enable is True
    cfg = fitted('retinanet_pvt_v2_b2_coco.py', 1, 'as-is')
    assert cfg.auto_scale_lr.enable is False
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    parse = training.train_parser().parse_args
    assert parse(['x']).batch is None
    assert batch.default_policy({'train_dataloader.batch_size': 1}) == 'recipe'
    assert batch.default_policy({'train_cfg.max_iters': 300}) == 'as-is'
    assert parse(['x', '--auto-scale-lr']).batch == 'scale-lr'
    assert parse(['x', '--batch', 'as-is']).batch == 'as-is'


def test_scaling_needs_the_batch_of_the_recipe(said):
    cfg = load_config(str(HOME / 'configs/retinanet_pvt_v2_b2_coco.py'))
    cfg.auto_scale_lr = None
    batch.fit_batch(cfg, 1, 'recipe')
    assert said == []
    with pytest.raises(UsageError, match='add auto_scale_lr='):
        batch.fit_batch(cfg, 1, 'scale-lr')
