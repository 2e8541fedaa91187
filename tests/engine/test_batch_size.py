"""The recipe's total batch, kept by tools/train.py."""

import pytest

from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import HOME
from pvt_mm.config.schema import bare
from pvt_mm.engine import batch_size as batch
from pvt_mm.engine import train as training
from pvt_mm.engine.config_changes import differences
from pvt_mm.engine.train_loops import LOOP_TYPES
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


def loop(cfg):
    """The loop of a config, and the batches of an iteration."""
    return cfg.train_cfg.get('type'), cfg.train_cfg.get('batches_per_iter', 1)


def test_eight_gpus_are_the_recipe():
    cfg, said = fitted('retinanet_pvt_v2_b2_coco.py', 8)
    before = load_config(str(HOME / 'configs/retinanet_pvt_v2_b2_coco.py'))
    assert cfg.pretty_text == before.pretty_text
    assert said == [
        'Batch: 8 process(es) x 2 images, recipe 16: as the recipe.'
    ]


@pytest.mark.parametrize(
    ('name', 'processes', 'kind', 'batches'),
    [
        ('retinanet_pvt_v2_b2_coco.py', 1, 'AccumulatingEpochLoop', 8),
        ('semantic_fpn_pvt_v2_b2_ade20k.py', 2, 'AccumulatingIterLoop', 4),
        ('retinanet_mpvit_tiny_coco.py', 4, 'AccumulatingIterLoop', 2),
    ],
)
def test_fewer_gpus_change_nothing_but_the_loop(
    name, processes, kind, batches
):
    before = load_config(str(HOME / 'configs' / name))
    cfg, said = fitted(name, processes)
    assert loop(cfg) == (kind, batches)
    assert f'each iteration trains on {batches} batches.' in said[0]
    changed = {
        key
        for key, *_ in differences(*(bare(c.to_dict()) for c in (before, cfg)))
    }
    assert changed <= {
        'train_cfg.type',
        'train_cfg.by_epoch',
        'train_cfg.batches_per_iter',
        'custom_imports.imports.1',
    }
    # the config as written to the work dir runs again, on any number
    again = cfg.copy()
    batch.fit_batch(again, processes, 'recipe', [])
    assert again.pretty_text == cfg.pretty_text
    batch.fit_batch(again, 1, 'recipe', [])
    assert loop(again) == (kind, batches * processes)
    images = before.auto_scale_lr.base_batch_size
    again.train_dataloader.batch_size = images
    batch.fit_batch(again, 1, 'recipe', [])
    theirs = {ours.__name__: name for name, ours in LOOP_TYPES.items()}
    assert loop(again) == (theirs[kind], 1)


@pytest.mark.parametrize(
    ('processes', 'images', 'part'),
    [
        (3, 4, 'start a number of processes that divides 32'),
        (2, 3, 'set train_dataloader.batch_size to 1 or 2 or 4 or 8 or 16'),
        (8, 8, 'set train_dataloader.batch_size to 1 or 2 or 4'),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(processes, images, part):
    name = 'semantic_fpn_pvt_v2_b2_ade20k.py'
    with pytest.raises(UsageError) as said:
        fitted(name, processes, batch_size=images)
    assert part in str(said.value)
    assert '--batch scale-lr' in str(said.value)


def test_a_users_own_accumulation_is_left_alone():
    name = 'retinanet_pvt_v2_b2_coco.py'
    cfg, _ = fitted(name, 2, steps=4)  # 2 x 2 x 4 of 16
    assert loop(cfg) == ('EpochBasedTrainLoop', 1)
    assert cfg.optim_wrapper.accumulative_counts == 4
    with pytest.raises(UsageError, match='leave accumulative_counts out'):
        fitted(name, 1, steps=4)


def test_a_loop_of_the_user_is_refused():
    cfg = load_config(str(HOME / 'configs/retinanet_pvt_v2_b2_coco.py'))
    cfg.train_cfg.type = 'LoopOfMine'
    with pytest.raises(UsageError, match="train_cfg.type='LoopOfMine'"):
        batch.fit_batch(cfg, 1, 'recipe', [])


def test_scaled_intervals_of_a_run_by_iteration():
    cfg = load_config(str(HOME / 'configs/semantic_fpn_pvt_v2_b2_ade20k.py'))
    cfg.train_cfg.dynamic_intervals = [(0, 100), (3000, 1)]
    cfg.default_hooks.checkpoint.interval = -1  # never
    batch.fit_batch(cfg, 4, 'scale-lr', [])  # half of 32
    assert cfg.train_cfg.dynamic_intervals == [(0, 200), (6000, 2)]
    assert cfg.default_hooks.checkpoint.interval == -1


def test_scaled_rate_and_schedule():
    name = 'semantic_fpn_pvt_v2_b2_ade20k.py'
    cfg, said = fitted(name, 3, 'scale-lr')  # 12 of 32
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(7.5e-5)
    assert cfg.auto_scale_lr == {'base_batch_size': 12, 'enable': False}
    assert cfg.train_cfg.max_iters == 106667  # as many images
    assert cfg.param_scheduler[0]['end'] == 106667
    assert 'the learning rate is scaled, 0.0002 -> 7.5e-05.' in said[0]
    # the config as written to the work dir runs again as it is
    again = cfg.copy()
    batch.fit_batch(again, 3, 'scale-lr', [])
    assert again.pretty_text == cfg.pretty_text


@pytest.mark.parametrize(
    ('scheduler', 'key', 'value'),
    [
        (dict(type='StepLR', step_size=100), 'step_size', 200),
        (
            dict(type='CosineRestartLR', periods=[50, 150], eta_min=0),
            *('periods', [100, 300]),
        ),
        (dict(type='CosineAnnealingLR', T_max=80), 'T_max', 160),
    ],
)
def test_every_count_of_a_scheduler_is_scaled(scheduler, key, value):
    cfg = load_config(str(HOME / 'configs/semantic_fpn_pvt_v2_b2_ade20k.py'))
    cfg.param_scheduler = [dict(scheduler, by_epoch=False)]
    batch.fit_batch(cfg, 4, 'scale-lr', [])
    assert cfg.param_scheduler[0][key] == value


@pytest.mark.parametrize('kind', ['ExponentialLR', 'OneCycleLR', 'MineLR'])
def test_a_scheduler_that_cannot_be_scaled_is_refused(kind):
    cfg = load_config(str(HOME / 'configs/semantic_fpn_pvt_v2_b2_ade20k.py'))
    cfg.param_scheduler = [dict(type=kind, by_epoch=False)]
    with pytest.raises(UsageError, match=f'param_scheduler.0 .{kind}'):
        batch.fit_batch(cfg, 4, 'scale-lr', [])
    cfg.param_scheduler[0].by_epoch = True
    batch.fit_batch(cfg, 4, 'scale-lr', [])


def test_accumulated_steps_count_in_the_scaled_rate():
    cfg, said = fitted('retinanet_pvt_v2_b2_coco.py', 2, 'scale-lr', steps=2)
    assert cfg.optim_wrapper.optimizer.lr == 5e-5  # 2 x 2 x 2 of 16
    assert cfg.auto_scale_lr == {'base_batch_size': 8, 'enable': False}
    assert cfg.param_scheduler[0]['end'] == 1000
    assert said == [
        'Batch: 2 process(es) x 2 images x optim_wrapper.accumulative_counts=2'
        ', recipe 16: the learning rate is scaled, 0.0001 -> 5e-05.'
    ]


def test_larger_batches_scale_the_rate():
    name = 'retinanet_pvt_v2_b2_coco.py'
    cfg, said = fitted(name, 8, 'scale-lr', batch_size=4)
    assert cfg.optim_wrapper.optimizer.lr == 2e-4
    assert cfg.param_scheduler[0]['end'] == 250
    assert '0.0001 -> 0.0002' in said[0]


def test_a_rate_that_is_not_in_the_config_is_not_scaled():
    cfg = load_config(str(HOME / 'configs/retinanet_pvt_v2_b2_coco.py'))
    del cfg.optim_wrapper.optimizer['lr']
    with pytest.raises(UsageError, match='no optim_wrapper.optimizer.lr'):
        batch.fit_batch(cfg, 3, 'scale-lr', [])


def test_the_user_chooses():
    name = 'retinanet_pvt_v2_b2_coco.py'
    cfg, _ = fitted(name, 1, 'scale-lr')
    assert cfg.optim_wrapper.optimizer.lr == 1e-4 / 8
    cfg, _ = fitted(name, 1, 'as-is')
    assert cfg.optim_wrapper.optimizer.lr == 1e-4
    assert loop(cfg) == ('EpochBasedTrainLoop', 1)
    parse = training.train_parser().parse_args
    assert parse(['x']).batch == 'recipe'
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
