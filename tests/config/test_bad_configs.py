"""Configs and arguments that cannot work: one sentence, status 1."""

import sys
import warnings

import config_files
import golden
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from pvt_mm import cli
from pvt_mm.checkpoints import write_weights
from pvt_mm.config.build_errors import first_line
from pvt_mm.config.cfg_options import merge_options
from pvt_mm.config.loading import load_config
from pvt_mm.config.schema import check_names
from pvt_mm.datasets.synthetic import draw_ade20k, draw_coco
from pvt_mm.engine import train as training
from pvt_mm.errors import InputError, UsageError

TINY = {'dims': (8, 16), 'depths': (1, 1), 'mlp_ratios': (1, 1)}
TWO = {**TINY, 'heads': (1, 2), 'sr_ratios': (2, 1)}


# Arguments of the backbones


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'arch': 'b22'}, "PVTv2 has no arch 'b22'; nearest: b2, b2_li, b5"),
        ({'arch': 2}, 'PVTv2: arch=2 must be one of b0, .* or a dict of dims'),
        ({'arch': {**TINY, 'depths': 4}}, 'depths=4 must be a list of whole'),
        ({'arch': {**TWO, 'depths': (1, 0)}}, r'depths=\(1, 0\) must be'),
        ({'arch': {**TWO, 'dims': (8.0, 16)}}, r'dims=\(8.0, 16\) must be'),
        ({'arch': {**TWO, 'heads': (1, 3)}}, '16 is not a multiple of heads'),
        ({'arch': {**TWO, 'linear': 'yes'}}, "linear='yes' must be True"),
        ({'arch': TINY}, "got {'dims': 2, .*, 'heads': 4, 'sr_ratios': 4}"),
        ({'arch': {**TWO, 'head': 1}}, r"unknown \['head'\], missing \[\]"),
        ({'arch': {'dims': (8,)}}, r"missing \['depths', 'mlp_ratios'\]"),
        ({'arch': dict.fromkeys(TWO, ())}, 'one entry per stage'),
        ({'out_indices': ()}, r'out_indices=\(\) must rise within 0..3'),
        ({'out_indices': 3}, 'out_indices=3 must rise'),
        ({'out_indices': '0,1'}, "out_indices='0,1' must rise"),
        ({'out_indices': (1, 1)}, r'out_indices=\(1, 1\) must rise'),
        ({'out_indices': (2, 1)}, r'out_indices=\(2, 1\) must rise'),
        ({'out_indices': (-1, 1)}, r'out_indices=\(-1, 1\) must rise'),
        ({'out_indices': (3, 4)}, r'for example \(0, 1, 2, 3\)'),
        ({'out_indices': (True,)}, 'must rise'),
        ({'frozen_stages': 5}, 'frozen_stages=5 is not in -1..4'),
        ({'frozen_stages': -2}, 'frozen_stages=-2 is not in -1..4'),
        ({'frozen_stages': 3, 'out_indices': (0, 1)}, 'is not in -1..2'),
        ({'frozen_stages': 1.5}, 'frozen_stages=1.5 is not in'),
        ({'drop_path_rate': 1.0}, r'drop_path_rate=1.0 must be .* in \[0, 1'),
        ({'drop_path_rate': -0.1}, 'drop_path_rate=-0.1 must be'),
        ({'drop_path_rate': float('nan')}, 'drop_path_rate=nan must be'),
        ({'drop_path_rate': 'much'}, "drop_path_rate='much' must be"),
        ({'in_channels': 0}, 'in_channels=0 must be the number of channels'),
        ({'with_cp': 'no'}, "with_cp='no' must be True or False"),
        ({'linear': 1}, 'linear=1 must be True, False or None'),
        ({'init_cfg': 'pvt://pvt_v2_b0'}, 'must be .*type=.Pretrained'),
    ],
)
def test_argument(options, words):
    with pytest.raises(ValueError, match=words) as error:
        MODELS.get('PVTv2')(**{'arch': 'b0', **options})
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'norm_cfg': {'type': 'GN'}}, r"norm_cfg={'type': 'GN'} must be"),
        ({'norm_cfg': 'BN'}, "norm_cfg='BN' must be dict"),
        ({'norm_cfg': {'type': 'BN', 'epss': 1}}, 'no more than affine, eps'),
        ({'norm_eval': 1}, 'MPViT: norm_eval=1 must be True or False'),
        (
            {'arch': {**TINY, 'dims': (8, 12), 'paths': (1, 1)}},
            'dim 12 is not a multiple of the 8 heads of MPViT',
        ),
    ],
)
def test_argument_of_mpvit(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.get('MPViT')(**{'arch': 'tiny', **options})


def test_argument_of_pvt():
    with pytest.raises(ValueError, match='PVT: class_token=1 must be True'):
        MODELS.get('PVT')('tiny', class_token=1)
    arch = {**TWO, 'sr_ratios': (2, 2)}
    with pytest.raises(ValueError, match=r'sr_ratios=\(2, 2\) do not go'):
        MODELS.get('PVT')(arch, class_token=True, out_indices=(1,))


def test_more_stages_than_the_grid_can_be_halved():
    arch = dict.fromkeys(('depths', 'heads', 'mlp_ratios'), (1,) * 7)
    arch |= {'dims': (2,) * 7, 'sr_ratios': (1,) * 7}
    model = MODELS.get('PVT')(arch, out_indices=(6,))
    assert model.smallest == 256
    assert model(torch.randn(1, 3, 256, 512))[0].shape == (1, 2, 1, 2)


# Images


@pytest.mark.parametrize(
    ('variant', 'side'), [('pvt_tiny', 32), ('pvt_v2_b0', 29)]
)
def test_smallest_image(variant, side):
    model = golden.build(variant).eval()
    assert model.smallest == side
    with torch.no_grad():
        assert len(model(torch.randn(1, 3, side, side))) == 4
    for shape in ((side - 1, 64), (64, side - 1)):
        with pytest.raises(InputError, match=f'at least {side}x{side} pixels'):
            model(torch.randn(1, 3, *shape))


def test_smallest_image_follows_from_what_is_built():
    build = golden.build
    assert build('pvt_tiny', out_indices=(0,)).smallest == 32
    assert build('pvt_v2_b0', linear=True).smallest == 1
    assert build('mpvit_tiny').smallest == 1
    arch = {**TWO, 'depths': (1, 1), 'sr_ratios': (1, 3)}
    model = MODELS.get('PVT')(arch, out_indices=(0, 1))
    assert model.smallest == 3 * 8
    assert MODELS.get('PVTv2')(arch, out_indices=(0,)).smallest == 1


@pytest.mark.parametrize(
    ('image', 'words'),
    [
        (torch.zeros(1, 4, 64, 64), r'of shape \(B, 3, H, W\); got \(1, 4,'),
        (torch.zeros(3, 64, 64), r'of shape \(B, 3, H, W\); got \(3, 64'),
        (torch.zeros(0, 3, 64, 64), 'in batches of one or more'),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), 'not torch.uint8'),
    ],
)
def test_image(image, words):
    with pytest.raises(InputError, match=words):
        golden.build('pvt_v2_b0')(image)


# Configs


@pytest.fixture(scope='module')
def bases(tmp_path_factory):
    """A detector and a segmentor that train on drawn images, as files."""
    root = tmp_path_factory.mktemp('configs')
    draw_coco(root / 'coco', 4, 2, size=64)
    draw_ade20k(root / 'ade20k', 4, 2, size=64)
    for method, data in (('retinanet', 'coco'), ('semantic_fpn', 'ade20k')):
        cfg = config_files.fresh(f'{method}_pvt_v2_b0_shapes')
        merge_options(cfg, {'data_root': f'{root / data}/'})
        Config(cfg._cfg_dict.to_dict()).dump(root / f'{method}.py')
    return root


@pytest.fixture
def refused(bases, tmp_path, monkeypatch, capsys):
    """What train says of a config, in one line and with status 1."""
    monkeypatch.chdir(tmp_path)

    def run(text, *argv, base='retinanet'):
        path = tmp_path / 'mine.py'
        inherited = '' if '_base_' in text else f"_base_ = '{bases / base}.py'"
        path.write_text(f'{inherited}\n{text}\n')
        monkeypatch.setattr(sys, 'argv', ['train.py', str(path), *argv])
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # runs of the same second
            assert cli.run(training.train) == 1
        said = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in said if line.startswith('error: ')]
        assert errors == said[-1:]
        return errors[0]

    return run


BACKBONE = 'model = dict(backbone=dict({}))'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            BACKBONE.format("arch='b22'"),
            "model.backbone: PVTv2 has no arch 'b22'",
        ),
        (BACKBONE.format('drop_path=0.1'), 'nearest: drop_path_rate'),
        (
            BACKBONE.format('depth=50'),
            'model.backbone.depth: PVTv2 takes no depth; nearest: none; if it '
            'is inherited, replace the whole dict: write '
            'backbone=dict(_delete_=True, ...)',
        ),
        (
            "train_cfg = dict(max_iters=3, type='EpochBasedTrainLoop')",
            'train_cfg.max_iters: EpochBasedTrainLoop takes no max_iters; '
            'nearest: max_epochs',
        ),
        (BACKBONE.format("init_cfg='x.pth'"), "init_cfg='x.pth' must be dict"),
        (
            BACKBONE.format("_delete_=True, arch='b0'"),
            'model.backbone has no type',
        ),
        ('model = None', 'mine.py has no model'),
        (
            'model = dict(neck=dict(in_channels=[32, 64, 160]))',
            'in model.neck, a FPN that gets (2, 32, 32, 32) and (2, 64, 16, '
            '16) and (2, 160, 8, 8) and (2, 256, 4, 4): AssertionError: '
            'expected len(inputs) == len(self.in_channels)',
        ),
        (
            'model = dict(neck=dict(in_channels=32))',
            'model.neck: expected isinstance(in_channels, list)',
        ),
        (
            'model = dict(bbox_head=dict(in_channels=99))',
            'in model.bbox_head.cls_convs.0.conv, a Conv2d that gets (2, 64, '
            '16, 16): ',
        ),
        (
            'model = dict(neck=dict(num_out=3))',
            'model.neck.num_out: FPN takes no num_out; nearest: num_outs',
        ),
        (
            "model = dict(bbox_head=dict(type='FPNHead'))",
            "model.bbox_head.type='FPNHead' belongs to mmseg, but "
            "default_scope is 'mmdet'",
        ),
        (
            "default_scope = 'mmdett'",
            "default_scope is 'mmdett': write default_scope = 'mmdet'",
        ),
        ('optim_wraper = dict()', 'nothing reads optim_wraper; write optim_w'),
        ('modle = dict()', 'nothing reads modle; write model'),
        (
            'train_dataloader = dict(batchsize=2)',
            'train_dataloader.batchsize: DataLoader takes no batchsize; '
            'nearest: batch_size',
        ),
        (
            "train_dataloader = dict(dataset=dict(annfile='x'))",
            'train_dataloader.dataset.annfile: BaseDataset takes no annfile; '
            'nearest: ann_file',
        ),
        ('train_dataloader = dict(batch_size=0)', 'batch_size=0 and'),
        (
            'train_cfg = dict(max_epoch=3)',
            'train_cfg.max_epoch: EpochBasedTrainLoop takes no max_epoch; '
            'nearest: max_epochs',
        ),
        (
            'optim_wrapper = dict(optimizer=dict(lrr=1))',
            'optim_wrapper.optimizer.lrr: AdamW takes no lrr; nearest: lr',
        ),
        (
            'optim_wrapper = dict(optimizer=dict(lr=-1))',
            'optim_wrapper.optimizer: Invalid learning rate: -1',
        ),
        (
            "optim_wrapper = dict(optimizer=dict(type='AdamX'))",
            "optim_wrapper.optimizer.type='AdamX' is no optimizer of mmdet; "
            'nearest: Adam',
        ),
        (
            "optim_wrapper = dict(constructor='DefaultOptimWrapper')",
            "optim_wrapper.constructor='DefaultOptimWrapper' is no optimizer "
            'constructor of mmdet; nearest: DefaultOptimWrapperConstructor',
        ),
        (
            'optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mul=0))',
            'optim_wrapper.paramwise_cfg.norm_decay_mul is not read by '
            "optim_wrapper.constructor='DefaultOptimWrapperConstructor', "
            'which reads bias_decay_mult, ',
        ),
        (
            'optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))',
            'optim_wrapper.paramwise_cfg.decay_rate is not read by '
            "optim_wrapper.constructor='DefaultOptimWrapperConstructor'",
        ),
        (
            "custom_imports = dict(imports=['pvt_mm.engine.layer_decay'])\n"
            'optim_wrapper = dict(\n'
            "    constructor='PyramidLayerDecayConstructor',\n"
            '    paramwise_cfg=dict(decay_rat=0.9),\n'
            ')',
            'optim_wrapper.paramwise_cfg.decay_rat is not read by '
            "optim_wrapper.constructor='PyramidLayerDecayConstructor', which "
            'reads bias_decay_mult, bias_lr_mult, bypass_duplicate, '
            'custom_keys, dcn_offset_lr_mult, decay_rate, ',
        ),
        (
            "param_scheduler = [dict(type='CosineLR')]",
            "param_scheduler.0.type='CosineLR' is no parameter scheduler of "
            'mmdet; nearest: ',
        ),
        (
            "custom_hooks = [dict(type='FirstScor')]",
            "custom_hooks.0.type='FirstScor' is no hook of mmdet; nearest: "
            'FirstScoreHook',
        ),
        ('model = dict(', 'is not a usable config: '),
        ('arch = b2', "is not a usable config: name 'b2' is not defined"),
        ('arch = 1 / 0', 'is not a usable config: division by zero'),
        (
            "custom_imports = dict(imports=['nope'])",
            "import nope: No module named 'nope'; install it",
        ),
    ],
)
def test_config(refused, text, words):
    assert words in refused(text)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            'model = dict(decode_head=dict(in_channels=[64, 64, 64, 63]))',
            'in model.decode_head.scale_heads.3.0.conv, a Conv2d that gets '
            '(1, 64, ',
        ),
        (
            "model = dict(decode_head=dict(type='RetinaHead'))",
            "model.decode_head.type='RetinaHead' belongs to mmdet, but "
            "default_scope is 'mmseg'",
        ),
    ],
)
def test_config_of_a_segmentor(refused, text, words):
    assert words in refused(text, base='semantic_fpn')


@pytest.mark.parametrize(
    ('base', 'words'),
    [
        ('mmdet::_base_/models/retinanet_r51_fpn', 'nearest: retinanet_r50_f'),
        ('nowhere', 'is not a usable config'),
    ],
)
def test_config_that_inherits_from_nothing(refused, monkeypatch, base, words):
    text = f"_base_ = '{base}.py'"
    assert words in refused(text)


def test_mixed_precision_without_a_gpu(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    said = refused('', '--amp')
    assert '--amp needs a GPU and there is none here' in said


def test_image_that_a_pipeline_makes_too_small(refused):
    text = """
model = dict(
    data_preprocessor=dict(size=(16, 16)),
    backbone=dict(_delete_=True, type='PVTv2', arch='b0', drop_path_rate=0.1),
)
train_dataloader = dict(num_workers=0)
"""
    said = refused(
        text,
        '--cfg-options',
        'train_dataloader.dataset.pipeline.2.scale=(16,16)',
        base='semantic_fpn',
    )
    assert 'PVTv2 takes images of at least 29x29 pixels' in said


def test_weights_for_other_image_channels(refused, tmp_path):
    torch.manual_seed(0)
    state = golden.random_state(golden.build('pvt_v2_b0'))
    write_weights(tmp_path / 'w.pth', state)
    init = {'type': 'Pretrained', 'checkpoint': f'{tmp_path}/w.pth'}
    said = refused(BACKBONE.format(f'in_channels=4, init_cfg={init}'))
    assert 'is for images of 3 channels, and in_channels=4' in said


@pytest.mark.parametrize('name', config_files.CONFIG_NAMES)
def test_every_config_passes(name):
    cfg = config_files.read(name)
    check_names(cfg)


def test_dict_over_a_list(tmp_path):
    (tmp_path / 'base.py').write_text('custom_hooks = [dict(type="EMAHook")]')
    file = tmp_path / 'config.py'
    file.write_text("_base_ = './base.py'\ncustom_hooks = dict(type='Other')")
    with pytest.raises(UsageError) as caught:
        load_config(file)
    assert str(caught.value) == (
        f'{file}: custom_hooks is a list in the config that it inherits from: '
        'write the whole list, custom_hooks=[dict(...), ...]'
    )


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (FileNotFoundError(2, 'No such file', 'a.txt'), "'a.txt'"),
        (KeyError('bbox'), 'bbox'),
        (ValueError('first\nsecond'), 'first'),
    ],
)
def test_first_line_of_an_error(error, said):
    assert first_line(error).endswith(said)
