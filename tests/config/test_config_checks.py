"""What no run could use is one sentence that names the file and the key."""

import pytest
from config_files import CONFIG_NAMES, read
from torch import nn

from pvt_mm.config.checks import (
    check_config,
    check_custom_keys,
    warn_of_checkpoints,
)
from pvt_mm.config.loading import load_config
from pvt_mm.errors import UsageError

BASE = "_base_ = 'pvt_mm::retinanet_pvt_v2_b0_shapes.py'\n"
OLD = """
optimizer = dict(type='SGD', lr=0.1)
optimizer_config = dict(grad_clip=dict(max_norm=1))
lr_config = dict(policy='step', step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=3)
data = dict(samples_per_gpu=2)
evaluation = dict(interval=1)
checkpoint_config = dict(interval=1)
resume_from = 'x.pth'
"""


@pytest.fixture
def said(tmp_path):
    """What the check says of a config; '' if nothing."""

    def check(text, base=BASE):
        file = tmp_path / 'mine.py'
        file.write_text(f'{base}{text}\n')
        try:
            check_config(load_config(file))
        except UsageError as error:
            text = str(error)
            assert text.startswith(f'{file}: ') and '\n' not in text
            return text
        return ''

    return check


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            OLD,
            'write optim_wrapper.optimizer in place of optimizer, '
            'optim_wrapper.clip_grad in place of optimizer_config, '
            'param_scheduler in place of lr_config, '
            'train_cfg in place of runner, train_dataloader, val_dataloader '
            'and test_dataloader in place of data, val_evaluator and '
            'train_cfg.val_interval in place of evaluation, '
            'default_hooks.checkpoint in place of checkpoint_config, '
            'load_from and resume = True in place of resume_from',
        ),
        ('total_epochs = 3', 'write train_cfg.max_epochs in place of total'),
        ('fp16 = dict(loss_scale=512.0)', "type = 'AmpOptimWrapper' in plac"),
        ('dist_params = dict(backend="gloo")', 'write env_cfg.dist_cfg in'),
        ('workers_per_gpu = 2', 'train_dataloader.num_workers in place of'),
        (
            'test_cfg = dict(_delete_=True, nms=dict(type="nms"))',
            'write model.test_cfg in place of test_cfg',
        ),
        (
            'default_hooks = dict(_delete_=True, checkpoint=dict(interval=1))',
            "default_hooks.checkpoint={'interval': 1} has no type: write its",
        ),
        (
            'default_hooks = dict(early=dict(monitor="x"))',
            'default_hooks.early=',
        ),
        ('default_hooks = dict(timer="IterTimerHook")', 'default_hooks.timer'),
        ('custom_hooks = [dict(priority=1)]', 'custom_hooks.0='),
        ("custom_hooks = ['EMAHook']", "custom_hooks.0='EMAHook' has no ty"),
        (
            "custom_hooks = 'EMAHook'",
            "custom_hooks='EMAHook' must be a list of dicts",
        ),
        ('optim_wrapper = 1', 'optim_wrapper=1 must be a dict'),
        ('model = [1]', 'model=[1] must be a dict'),
        ('train_dataloader = "x"', "train_dataloader='x' must be a dict"),
        (
            'default_hooks = dict(checkpoint=dict(max_keep_ckpt=1))',
            'default_hooks.checkpoint.max_keep_ckpt: CheckpointHook takes no '
            'max_keep_ckpt; nearest: max_keep_ckpts',
        ),
        (
            "optim_wrapper = dict(optimizer=dict(lr='1e-3'))",
            'optim_wrapper.optimizer.lr is a text: write 0.001 without quotes',
        ),
        (
            "optim_wrapper = dict(optimizer=dict(betas=('0.9', 0.99)))",
            'optim_wrapper.optimizer.betas.0 is a text: write 0.9 without',
        ),
        (
            "model = dict(backbone=dict(drop_path_rate='0.1'))",
            'model.backbone.drop_path_rate is a text: write 0.1 without',
        ),
        (
            "train_cfg = dict(max_epochs='12')",
            'max_epochs is a text: write 12',
        ),
        (
            "param_scheduler = [dict(type='MultiStepLR', milestones=['8'])]",
            'param_scheduler.0.milestones.0 is a text: write 8 without',
        ),
        (
            "train_dataloader = dict(batch_size='2')",
            'train_dataloader.batch_size is a text: write 2 without quotes',
        ),
        (
            'train_dataloader = dict(dataset=dict(ann_file=["a", "b"]))',
            'train_dataloader.dataset.ann_file is a list: write a data set',
        ),
        (
            'val_dataloader = dict(dataset=dict(ann_file=None))',
            'val_dataloader.dataset has no ann_file: name the file',
        ),
        (
            'train_dataloader = dict(dataset=dict(_delete_=True, '
            "type='RepeatDataset', times=2, "
            "dataset=dict(type='VOCDataset')))",
            'train_dataloader.dataset.dataset has no ann_file',
        ),
        (
            'train_dataloader = dict(\n'
            "dataset=dict(metainfo=dict(classes='a')))",
            'train_dataloader.dataset.metainfo.classes is a text, and no file '
            "of names: write ('a',)",
        ),
        (
            'test_dataloader = dict(\n'
            "dataset=dict(metainfo=dict(classes=('a'))))",
            'test_dataloader.dataset.metainfo.classes is a text',
        ),
        (
            'val_dataloader = dict(dataset=dict(metainfo=dict(classes=[1])))',
            'val_dataloader.dataset.metainfo.classes has 1, which is no text',
        ),
        (
            "train_dataloader = dict(dataset=dict(data_prefix='images/'))",
            "train_dataloader.dataset.data_prefix='images/' must be a dict: "
            "write data_prefix=dict(img='FOLDER/')",
        ),
        (
            "val_dataloader = dict(dataset=dict(metainfo=['a', 'b']))",
            "val_dataloader.dataset.metainfo=['a', 'b'] must be a dict",
        ),
        (
            "val_dataloader = dict(dataset=dict(metainfo=dict(CLASSES='a')))",
            'nothing reads val_dataloader.dataset.metainfo.CLASSES: write '
            'classes',
        ),
        (
            'val_dataloader = dict(\n'
            "dataset=dict(metainfo=dict(classes=('a', 'b', 'a'))))",
            "val_dataloader.dataset.metainfo.classes has 'a' more than once",
        ),
        (
            'val_dataloader = dict(\n'
            "dataset=dict(metainfo=dict(classes={'a'})))",
            'classes is a set, which has no order: write a tuple',
        ),
        (
            "optim_wrapper = dict(optimizer=dict(lr='fast'))",
            "optim_wrapper.optimizer.lr='fast' is a text: write a number",
        ),
        (
            'train_cfg = dict(max_epochs=0)',
            'train_cfg.max_epochs=0 must be 1 or more',
        ),
        (
            'train_cfg = dict(val_interval=0)',
            'train_cfg.val_interval=0 must be 1 or more',
        ),
        (
            "train_dataloader = dict(sampler=dict(type='InfiniteSampler'))",
            'train_dataloader.sampler never ends: take DefaultSampler',
        ),
        (
            "val_dataloader = dict(sampler=dict(type='InfiniteSampler'))",
            'val_dataloader.sampler never ends',
        ),
        (
            'optim_wrapper = dict(clip_grad=dict(max_norms=1))',
            'optim_wrapper.clip_grad.max_norms is not read; nearest: max_norm',
        ),
        (
            "optim_wrapper = dict(clip_grad=dict(type='value', max_norm=1))",
            'optim_wrapper.clip_grad.max_norm is not read',
        ),
        (
            'test_evaluator = dict(format_only=True)',
            'test_evaluator.format_only=True needs outfile_prefix, where the',
        ),
        (
            "val_evaluator = [dict(type='IoUMetric', format_only=True)]",
            'val_evaluator.0.format_only=True needs output_dir, where the',
        ),
        (
            'val_dataloader = dict(drop_last=True)',
            'val_dataloader.drop_last=True leaves images out of the score',
        ),
        (
            "model = dict(neck=dict(loss=[dict(loss_name='dice')]))",
            "model.neck.loss.0.loss_name='dice' must begin with loss_",
        ),
        (
            'val_dataloader = None\nval_evaluator = None',
            'there is val_cfg, but no val_dataloader and no val_evaluator: '
            'set all three, or all three to None',
        ),
        ('val_evaluator = None', 'val_dataloader and val_cfg, but no val_eva'),
        ('test_dataloader = None', 'test_cfg and test_evaluator, but no test'),
        ('val_cfg = None', 'val_dataloader and val_evaluator, but no val_cfg'),
        (
            'val_dataloader = dict(num_workers=0, persistent_workers=True)',
            'val_dataloader.persistent_workers=True needs num_workers of 1 or',
        ),
    ],
)
def test_refused(said, text, words):
    assert words in said(text)


@pytest.mark.parametrize(
    'text',
    [
        # variables of a config of today
        "optimizer = dict(type='SGD', lr=0.1)\n"
        'optim_wrapper = dict(optimizer=optimizer)',
        'runner = 3\ntrain_cfg = dict(max_epochs=runner)',
        'val_dataloader = None\nval_evaluator = None\nval_cfg = None',
        'test_cfg = None',
        "model = dict(neck=dict(plugins=[dict(attention_type='1111')]))",
        'default_hooks = dict(timer=None)',
        "optim_wrapper = dict(clip_grad=dict(max_norm=1, norm_type='inf'))",
        'optim_wrapper = dict(clip_grad=dict(_delete_=True, '
        "type='value', clip_value=1))",
        "test_evaluator = dict(format_only=True, outfile_prefix='x')",
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', "
        'max_iters=3)\n'
        "train_dataloader = dict(sampler=dict(type='InfiniteSampler'))",
        "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('1',))))",
        'train_dataloader = dict(dataset=dict(metainfo=dict(classes=None)))',
    ],
)
def test_accepted(said, text):
    assert said(text) == ''


def test_old_keys_of_an_inherited_file(said, tmp_path):
    """Where nothing of today is there to train with."""
    (tmp_path / 'old.py').write_text(OLD)
    words = said('model = dict()', "_base_ = './old.py'\n")
    assert 'optim_wrapper.optimizer in place of optimizer' in words


def test_class_names_in_a_file(said, tmp_path):
    (tmp_path / 'names.txt').write_text('a\nb\n')
    name = str(tmp_path / 'names.txt')
    for classes, accepted in ((name, True), (f'{name}s', False)):
        metainfo = f'metainfo=dict(classes={classes!r})'
        text = f'train_dataloader = dict(dataset=dict({metainfo}))'
        assert (said(text) == '') is accepted


@pytest.mark.parametrize('name', CONFIG_NAMES)
def test_our_configs_are_accepted(name):
    check_config(read(name))


@pytest.mark.parametrize('by_epoch', [True, False, None])
def test_checkpoints_by_epoch_of_a_run_by_iterations(
    capsys, said, tmp_path, by_epoch
):
    given = '' if by_epoch is None else f', by_epoch={by_epoch}'
    said(
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', "
        'max_iters=6)\n'
        f'default_hooks = dict(checkpoint=dict(interval=2{given}))'
    )
    warn_of_checkpoints(load_config(tmp_path / 'mine.py'))
    found = capsys.readouterr()
    words = 'saves by epochs, so only at the end: set its by_epoch=False'
    assert (words in found.out + found.err) is (by_epoch is not False)


@pytest.mark.parametrize(
    ('keys', 'wrong'),
    [
        (['backbone.layers1'], ['backbone.layers1']),
        (['bacbone', 'norm'], ['bacbone']),
        (['neck.', 'backbone.0.weigth'], ['neck.', 'backbone.0.weigth']),
        (['backbone', 'norm', '.bias', '.backbone.0'], []),
        ([], []),
    ],
)
def test_custom_keys(capsys, said, tmp_path, keys, wrong):
    given = {key: dict(lr_mult=0.1) for key in keys}
    said(f'optim_wrapper = dict(paramwise_cfg=dict(custom_keys={given}))')
    model = nn.ModuleDict(
        dict(backbone=nn.Sequential(nn.Linear(1, 1)), norm=nn.LayerNorm(1))
    )
    check_custom_keys(load_config(tmp_path / 'mine.py'), model)
    lines = capsys.readouterr().out.splitlines()
    for line, key in zip(lines, wrong, strict=True):
        assert f'no name of a parameter has {key!r} in it; nearest: ' in line
    if keys == ['bacbone', 'norm']:
        assert lines[0].endswith(
            'nearest: backbone, backbone.0, backbone.0.bias'
        )
