"""Layer-wise learning-rate decay against tables written by hand."""

import re

import pytest
import torch
from commands import ROOT, files
from config_files import model
from mmengine.optim import (
    DefaultOptimWrapperConstructor,
    build_optim_wrapper,
)
from mmengine.registry import MODELS
from small_runs import RETINANET, draw, load, same, small, write
from torch import nn

from pvt_mm.compat import checkpoint_reading
from pvt_mm.config.schema import walk
from pvt_mm.engine import train as training
from pvt_mm.engine.layer_decay import PyramidLayerDecayConstructor
from pvt_mm.errors import UsageError

NAME = 'PyramidLayerDecayConstructor'
MODULE = 'pvt_mm.engine.layer_decay'
ATSS = 'configs/atss_pvt_v2_b2_coco.py'  # has a paramwise_cfg
COCO = 'retinanet_pvt_v2_b2_coco'
DIMS = (8, 16, 24)
EVEN = dict(heads=(1, 1, 1), mlp_ratios=(1, 1, 1), sr_ratios=(2, 1, 1))


class Model(nn.Module):
    """A backbone and one more layer."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(2, 2)


def small_model(family, **options):
    """A model of three stages with 1, 2 and 1 blocks."""
    arch = dict(dims=DIMS, depths=(1, 2, 1))
    arch |= (
        dict(mlp_ratios=(1, 1, 1), paths=(2, 3, 1))
        if family == 'MPViT'
        else EVEN
    )
    options = {'out_indices': (0, 1, 2), **options}
    return Model(MODELS.build(dict(type=family, arch=arch, **options)))


def groups(
    model, kind=PyramidLayerDecayConstructor, lr=1.0, decay=1.0, **paramwise
):
    """The group of each trained parameter; it must be in one only."""
    cfg = dict(optimizer=dict(type='AdamW', lr=lr, weight_decay=decay))
    optimizer = kind(cfg, paramwise)(model).optimizer
    model = getattr(model, 'module', model)
    names = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    found = [
        (names[id(p)], group)
        for group in optimizer.param_groups
        for p in group['params']
    ]
    assert sorted(n for n, _ in found) == sorted(names.values())
    return dict(found)


def rates(model, **paramwise):
    return {n: g['lr'] for n, g in groups(model, **paramwise).items()}


def fits(found, table):
    """Whether each parameter has the rate of the longest prefix."""
    for name, rate in found.items():
        prefix = max((p for p in table if name.startswith(p)), key=len)
        assert rate == table[prefix], name
    assert all(any(n.startswith(p) for n in found) for p in table)


# lr 1, decay_rate 0.5, four blocks
TABLES = {
    'PVT': {
        'backbone.stages.0.patch_embed.': 1 / 32,
        'backbone.stages.0.pos_embed': 1 / 32,
        'backbone.stages.0.blocks.0.': 1 / 16,
        'backbone.stages.1.patch_embed.': 1 / 16,
        'backbone.stages.1.pos_embed': 1 / 16,
        'backbone.stages.1.blocks.0.': 1 / 8,
        'backbone.stages.1.blocks.1.': 1 / 4,
        'backbone.stages.2.patch_embed.': 1 / 4,
        'backbone.stages.2.pos_embed': 1 / 4,
        'backbone.stages.2.cls_token': 1 / 4,
        'backbone.stages.2.blocks.0.': 1 / 2,
        'backbone.stages.2.norm.': 1 / 2,
        'head.': 1.0,
    },
    'PVTv2': {
        'backbone.stages.0.patch_embed.': 1 / 32,
        'backbone.stages.0.blocks.0.': 1 / 16,
        'backbone.stages.0.norm.': 1 / 16,
        'backbone.stages.1.patch_embed.': 1 / 16,
        'backbone.stages.1.blocks.0.': 1 / 8,
        'backbone.stages.1.blocks.1.': 1 / 4,
        'backbone.stages.1.norm.': 1 / 4,
        'backbone.stages.2.patch_embed.': 1 / 4,
        'backbone.stages.2.blocks.0.': 1 / 2,
        'backbone.stages.2.norm.': 1 / 2,
        'head.': 1.0,
    },
    'MPViT': {
        'backbone.stem.': 1 / 32,
        'backbone.stages.0.embeds.': 1 / 32,
        'backbone.stages.0.local.': 1 / 32,
        'backbone.stages.0.paths.0.cpe.': 1 / 32,
        'backbone.stages.0.paths.1.crpe.': 1 / 32,
        'backbone.stages.0.paths.0.': 1 / 32,
        'backbone.stages.0.paths.1.': 1 / 32,
        'backbone.stages.0.paths.0.blocks.0.': 1 / 16,
        'backbone.stages.0.paths.1.blocks.0.': 1 / 16,
        'backbone.stages.0.aggregate.': 1 / 16,
        'backbone.stages.1.embeds.': 1 / 16,
        'backbone.stages.1.local.': 1 / 16,
        'backbone.stages.1.paths.': 1 / 16,
        'backbone.stages.1.paths.0.blocks.0.': 1 / 8,
        'backbone.stages.1.paths.1.blocks.0.': 1 / 8,
        'backbone.stages.1.paths.2.blocks.0.': 1 / 8,
        'backbone.stages.1.paths.0.blocks.1.': 1 / 4,
        'backbone.stages.1.paths.1.blocks.1.': 1 / 4,
        'backbone.stages.1.paths.2.blocks.1.': 1 / 4,
        'backbone.stages.1.aggregate.': 1 / 4,
        'backbone.stages.2.embeds.': 1 / 4,
        'backbone.stages.2.local.': 1 / 4,
        'backbone.stages.2.paths.0.': 1 / 4,
        'backbone.stages.2.paths.0.blocks.0.': 1 / 2,
        'backbone.stages.2.aggregate.': 1 / 2,
        'head.': 1.0,
    },
}


@pytest.mark.parametrize(
    ('family', 'options'),
    [
        ('PVT', dict(class_token=True, out_indices=(2,))),
        ('PVTv2', {}),
        ('PVTv2', dict(linear=True)),
        ('MPViT', {}),
    ],
)
def test_rates(family, options):
    found = rates(small_model(family, **options), decay_rate=0.5)
    fits(found, TABLES[family])


def test_depth_counts_what_is_built():
    found = rates(small_model('PVTv2', out_indices=(1,)), decay_rate=0.5)
    table = {
        name: min(4 * rate / 2, 1.0)
        for name, rate in TABLES['PVTv2'].items()
        if 'stages.2' not in name
    }
    fits(found, table)


def test_frozen_stages_have_no_group():
    found = rates(small_model('MPViT', frozen_stages=1), decay_rate=0.5)
    table = TABLES['MPViT'].items()
    frozen = ('backbone.stem', 'backbone.stages.0')
    fits(found, {n: rate for n, rate in table if not n.startswith(frozen)})


def test_a_wrapped_model():
    wrapped = nn.DataParallel(small_model('PVTv2'))
    fits(rates(wrapped, decay_rate=0.5), TABLES['PVTv2'])


@pytest.mark.parametrize(
    'paramwise',
    [
        dict(custom_keys={'norm': dict(decay_mult=0.0)}),
        dict(
            custom_keys={
                'backbone': dict(lr_mult=0.25),
                'stages.1': dict(lr_mult=4.0, betas=(0.5, 0.5)),
                'head': dict(lr_mult=2.0, decay_mult=0.5),
            }
        ),
        dict(norm_decay_mult=0.0, bias_decay_mult=0.5, bias_lr_mult=2.0),
        dict(dwconv_decay_mult=0.0, flat_decay_mult=0.5),
        dict(bypass_duplicate=True),
    ],
)
@pytest.mark.parametrize('family', TABLES)
def test_other_options_are_those_of_mmengine(family, paramwise):
    model = small_model(family)
    theirs = groups(model, DefaultOptimWrapperConstructor, **paramwise)
    decays = rates(model, decay_rate=0.5)
    ours = groups(model, decay_rate=0.5, **paramwise)
    assert list(ours) == list(theirs)
    for name, group in ours.items():
        expected = theirs[name] | {'lr': theirs[name]['lr'] * decays[name]}
        assert group == expected


@pytest.mark.parametrize(
    ('config', 'blocks', 'parts'),
    [
        (COCO, 16, {'neck', 'bbox_head'}),
        ('mask_rcnn_mpvit_small_coco', 13, {'neck', 'rpn_head', 'roi_head'}),
        ('upernet_mpvit_small_ade20k', 13, {'decode_head', 'auxiliary_head'}),
        ('semantic_fpn_pvt_tiny_ade20k', 8, {'neck', 'decode_head'}),
        ('classifier_pvt_v2_b2_li_imagenet', 16, {'head'}),
        ('classifier_pvt_tiny_imagenet', 8, {'head'}),
    ],
)
def test_models_of_the_libraries(config, blocks, parts):
    found = rates(model(config), decay_rate=0.9)
    inside = {n: r for n, r in found.items() if n.startswith('backbone.')}
    outside = {n: r for n, r in found.items() if n not in inside}
    powers = [0.9**power for power in range(1, blocks + 2)]
    assert sorted(set(inside.values()), reverse=True) == powers
    assert {name.split('.')[0] for name in outside} == parts
    assert set(outside.values()) == {1.0}


def test_the_example_of_the_page(tmp_path):
    name = 'layer_decay.py'
    (tmp_path / name).write_text(files(ROOT / 'docs/training.md')[name])
    cfg = load(tmp_path / name)
    network = model(COCO)
    optimizer = build_optim_wrapper(network, cfg.optim_wrapper).optimizer
    found = {group['lr'] for group in optimizer.param_groups}
    assert found == {1e-4 * 0.9**power for power in range(18)}
    decays = {group['weight_decay'] for group in optimizer.param_groups}
    assert decays == {0.0, 1e-4}


def test_backbone_of_another_family():
    backbone = dict(type='mmdet.ResNet', depth=18)
    with pytest.raises(UsageError, match=r'\(Model\) has ResNet$'):
        rates(Model(MODELS.build(backbone)), decay_rate=0.9)
    with pytest.raises(UsageError, match=r'\(Linear\) has no backbone$'):
        rates(nn.Linear(1, 1), decay_rate=0.9)


@pytest.mark.parametrize(
    ('paramwise', 'words'),
    [
        ({}, 'decay_rate=None: .* above 0 and at most 1'),
        (dict(decay_rate=1.5), 'decay_rate=1.5: '),
        (dict(decay_rate=0), 'decay_rate=0: '),
        (dict(decay_rate='0.9'), "decay_rate='0.9': "),
        (
            dict(decay_rate=0.9, num_layers=12),
            f'num_layers is not read by .*{NAME}.*, which reads .*decay_rate',
        ),
        (dict(layer_decay_rate=0.9), 'layer_decay_rate is not read by'),
        (dict(decay_rate=0.9, norm_decay_mul=0), 'norm_decay_mul is not'),
    ],
)
def test_keys_that_are_wrong(paramwise, words):
    with pytest.raises(UsageError, match=f'paramwise_cfg.{words}'):
        groups(small_model('PVTv2'), **paramwise)


def test_a_rate_is_needed():
    with pytest.raises(UsageError, match='optimizer.lr is missing'):
        groups(small_model('PVTv2'), lr=None, decay_rate=0.9)


@pytest.mark.parametrize(
    'key', ['decay_rate', 'norm_decay_mult', 'custom_keys.norm.lr_mult']
)
def test_options_that_are_read(key):
    key = f'optim_wrapper.paramwise_cfg.{key}'
    assert dict(walk(load(ATSS, **{key: 0.5})))[key] == 0.5


@pytest.mark.parametrize(
    ('key', 'near'),
    [
        ('decay_rat', 'decay_rate'),
        ('norm_decay_mul', 'norm_decay_mult'),
        ('custom_keys.norm.decay_mul', 'custom_keys.norm.decay_mult'),
    ],
)
def test_options_that_are_misspelled(key, near):
    key = f'optim_wrapper.paramwise_cfg.{key}'
    near = f'nearest: optim_wrapper.paramwise_cfg.{near},'
    with pytest.raises(UsageError, match=f'{key}: nothing .* {near}'):
        load(ATSS, **{key: 0.5})


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A detector with decay, for two epochs of four iterations."""
    folder = tmp_path_factory.mktemp('detector')
    options = {
        'train_cfg.max_epochs': 2,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'optim_wrapper.constructor': NAME,
        'optim_wrapper.paramwise_cfg.decay_rate': 0.5,
    }
    cfg = small(load(RETINANET, **options), draw(folder / 'drawn'), 'coco')
    cfg.custom_imports.imports.append(MODULE)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    return write(cfg, folder / 'config.py')


def test_a_training_logs_its_rates_and_resumes(config, tmp_path, capsys):
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    argv = [config, '--batch', 'as-is', '--work-dir']
    training.train([*argv, str(whole)])
    (log,) = whole.rglob('*.log')
    lr = load(config).optim_wrapper.optimizer.lr
    (said,) = re.findall('Learning rate by depth.*', log.read_text())
    assert said == (
        'Learning rate by depth, decay_rate 0.5, PVTv2: '
        f'0: {lr / 32:.4g}, 1: {lr / 16:.4g}, 2: {lr / 8:.4g}, '
        f'3: {lr / 4:.4g}, 4: {lr / 2:.4g}; outside the backbone: {lr:.4g}'
    )
    with checkpoint_reading():
        saved = torch.load(whole / 'epoch_1.pth')['optimizer']['param_groups']
    assert {group['initial_lr'] for group in saved} == {
        lr / 2**power for power in range(6)
    }
    first = str(whole / 'epoch_1.pth')
    training.train([*argv, str(resumed), '--resume', first])
    assert same(whole / 'epoch_2.pth', resumed / 'epoch_2.pth')
