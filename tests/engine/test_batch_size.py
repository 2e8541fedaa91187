"""The recipe's total batch, kept by tools/train.py."""

import pytest

from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import HOME
from pvt_mm.engine import batch_size as batch
from pvt_mm.engine import train as training
from pvt_mm.errors import UsageError


def fitted(name, processes, way='recipe', *, steps=1, **loader):
    """The config after the step, and what it says in the log."""
    cfg = load_config(str(HOME / 'configs' / name))
    cfg.train_dataloader.update(loader)
    if steps > 1:
        cfg.optim_wrapper.accumulative_counts = steps
    said = []
    batch.fit_batch(cfg, processes, way, said)
    return cfg, said


def test_eight_gpus_are_the_recipe():
    cfg, said = fitted('retinanet_pvt_v2_b2_coco.py', 8)
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    assert said == [
        'Batch: 8 process(es) x 2 images, recipe 16: as the recipe.'
    ]


def test_one_gpu_accumulates_by_epoch():
    cfg, said = fitted('retinanet_pvt_v2_b2_coco.py', 1)
    assert cfg.optim_wrapper.accumulative_counts == 8
    warm_up, steps = cfg.param_scheduler
    assert (warm_up['begin'], warm_up['end']) == (0, 4000)  # 500 steps
    assert steps['milestones'] == [8, 11]  # epochs stay
    assert cfg.train_cfg.max_epochs == 12
    assert 'gradients of 8 steps are accumulated' in said[0]


def test_two_gpus_accumulate_by_iteration():
    cfg, _ = fitted('semantic_fpn_pvt_v2_b2_ade20k.py', 2)
    assert cfg.optim_wrapper.accumulative_counts == 4  # 2 x 4 of 32
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.param_scheduler[0]['end'] == 160000
    assert cfg.train_cfg.val_interval == 16000
    assert cfg.default_hooks.checkpoint.interval == 16000
    # the config as written to the work dir runs again as it is
    again = cfg.copy()
    batch.fit_batch(again, 2, 'recipe', [])
    assert again.train_cfg.max_iters == 160000


def test_intervals_of_a_run_by_iteration():
    cfg = load_config(str(HOME / 'configs/semantic_fpn_pvt_v2_b2_ade20k.py'))
    cfg.train_cfg.dynamic_intervals = [(0, 100), (3000, 1)]
    cfg.default_hooks.checkpoint.interval = -1  # never
    batch.fit_batch(cfg, 4, 'recipe', [])  # half of 32
    assert cfg.train_cfg.dynamic_intervals == [(0, 200), (6000, 2)]
    assert cfg.default_hooks.checkpoint.interval == -1


def test_uneven_batches_scale_the_rate():
    cfg, said = fitted('semantic_fpn_pvt_v2_b2_ade20k.py', 3)  # 12 of 32
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(7.5e-5)
    assert cfg.auto_scale_lr == {'base_batch_size': 12, 'enable': False}
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    assert cfg.train_cfg.max_iters == 106667  # as many images
    assert 'the learning rate is scaled, 0.0002 -> 7.5e-05.' in said[0]
    # the config as written to the work dir runs again as it is
    again = cfg.copy()
    batch.fit_batch(again, 3, 'recipe', [])
    assert again.pretty_text == cfg.pretty_text


def test_accumulated_steps_count_in_the_scaled_rate():
    cfg, said = fitted('retinanet_pvt_v2_b2_coco.py', 2, 'scale-lr', steps=2)
    assert cfg.optim_wrapper.optimizer.lr == 5e-5  # 2 x 2 x 2 of 16
    assert cfg.auto_scale_lr == {'base_batch_size': 8, 'enable': False}
    assert cfg.param_scheduler[0]['end'] == 1000
    assert said == [
        'Batch: 2 process(es) x 2 images x 2 steps, recipe 16: the learning '
        'rate is scaled, 0.0001 -> 5e-05.'
    ]


def test_larger_batches_scale_the_rate():
    cfg, said = fitted('retinanet_pvt_v2_b2_coco.py', 8, batch_size=4)
    assert cfg.optim_wrapper.optimizer.lr == 2e-4
    assert cfg.param_scheduler[0]['end'] == 250
    assert '0.0001 -> 0.0002' in said[0]


def test_a_rate_that_is_not_in_the_config_is_not_scaled():
    cfg = load_config(str(HOME / 'configs/retinanet_pvt_v2_b2_coco.py'))
    del cfg.optim_wrapper.optimizer['lr']
    before, said = cfg.pretty_text, []
    batch.fit_batch(cfg, 3, 'recipe', said)
    assert cfg.pretty_text == before
    assert said[0].endswith(
        'left as it is: there is no optim_wrapper.optimizer.lr.'
    )


def test_the_user_chooses():
    name = 'retinanet_pvt_v2_b2_coco.py'
    cfg, _ = fitted(name, 1, 'scale-lr')
    assert cfg.optim_wrapper.optimizer.lr == 1e-4 / 8
    cfg, _ = fitted(name, 1, 'as-is')
    assert cfg.optim_wrapper.optimizer.lr == 1e-4
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    parse = training.train_parser().parse_args
    assert parse(['x']).batch is None
    assert batch.default_policy({'train_dataloader.batch_size': 1}) == 'recipe'
    assert batch.default_policy({'train_cfg.max_iters': 300}) == 'as-is'
    assert parse(['x', '--auto-scale-lr']).batch == 'scale-lr'
    assert parse(['x', '--batch', 'as-is']).batch == 'as-is'


def test_scaling_needs_the_batch_of_the_recipe():
    cfg = load_config(str(HOME / 'configs/retinanet_pvt_v2_b2_coco.py'))
    cfg.auto_scale_lr = None
    said = []
    batch.fit_batch(cfg, 1, 'recipe', said)
    assert said == []
    with pytest.raises(UsageError, match='add auto_scale_lr='):
        batch.fit_batch(cfg, 1, 'scale-lr', [])
