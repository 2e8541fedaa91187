"""New-style configs are what the same configs in text style are."""

import inspect

import pytest
from config_files import fresh
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from small_runs import RETINANET, SEGMENTOR, draw, say, small, write

from pvt_mm.benchmark import flops_cli
from pvt_mm.config.cfg_options import merge_options
from pvt_mm.config.loading import load_config
from pvt_mm.config.schema import bare, find_class
from pvt_mm.engine import test as testing
from pvt_mm.engine import train as training
from pvt_mm.errors import UsageError
from pvt_mm.export import cli as export
from pvt_mm.inference import cli as inference
from pvt_mm.visualization import browse_cli, dataset_cli, features_cli

STYLES = [(RETINANET, 'mmdet'), (SEGMENTOR, 'mmseg')]


def new_style(cfg, path):
    """Write a config with classes as types; hooks are in an inherited file."""
    scope, imports = cfg.default_scope, {}

    def text(node):
        if isinstance(node, dict):
            pairs = [f'{k!r}: {kind(k, v)}' for k, v in node.items()]
            return f'{{{", ".join(pairs)}}}'
        if isinstance(node, list | tuple):
            return f'{type(node).__name__}([{", ".join(map(text, node))}])'
        return repr(node)

    def kind(key, value):
        owner = key == 'type' and find_class(value, scope)
        if not owner or not inspect.isclass(owner):
            return text(value)
        name = f'{value}_{len(imports)}'
        line = f'from {owner.__module__} import {owner.__name__} as {name}'
        return imports.setdefault((owner, line), name)

    def module(keys):
        imports.clear()
        body = [f'{key} = {kind(key, plain[key])}' for key in keys]
        return '\n'.join([*(line for _, line in imports), *body])

    plain = cfg.to_dict() | {'default_scope': None}
    plain.pop('custom_imports', None)
    base = {key for key in plain if key.startswith(('default', 'vis', 'log'))}
    path.with_name('runtime.py').write_text(module(sorted(base)))
    path.write_text(
        'from mmengine.config import read_base\n\nwith read_base():\n'
        f'    from .runtime import *\n\n{module(sorted({*plain} - base))}\n'
    )
    return path


def plain(cfg):
    return {k: v for k, v in bare(cfg.to_dict()).items() if 'import' not in k}


@pytest.mark.parametrize(('name', 'scope'), STYLES)
def test_classes_become_the_names_of_the_same_config_in_text(
    tmp_path, name, scope
):
    cfg = fresh(name.split('/')[1].removesuffix('.py'))
    found = load_config(new_style(cfg, tmp_path / 'new.py'))
    assert plain(found) == plain(cfg)
    assert found.default_scope == scope
    # what a run writes to its work dir is the same again, for any tool
    found.dump(tmp_path / 'left.py')
    assert plain(Config.fromfile(tmp_path / 'left.py')) == plain(cfg)
    assert plain(load_config(tmp_path / 'left.py')) == plain(cfg)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('drawn'))


@pytest.mark.parametrize(
    ('name', 'part', 'score', 'length'),
    [
        (RETINANET, 'coco', 'coco/bbox_mAP', 'train_cfg.max_epochs'),
        (SEGMENTOR, 'ade20k', 'mIoU', 'train_cfg.max_iters'),
    ],
)
def test_commands(
    drawn, tmp_path, monkeypatch, capfd, name, part, score, length
):
    """Every command takes a new-style config."""
    monkeypatch.chdir(tmp_path)
    cfg = small(fresh(name.split('/')[1].removesuffix('.py')), drawn, part)
    merge_options(cfg, {length: 2, 'train_cfg.val_interval': 2})
    for mode in ('train', 'val', 'test'):
        loader = cfg[f'{mode}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
    if part == 'coco':  # an untrained detector's boxes too
        cfg.model.test_cfg.score_thr = 0.0
    interval = {'default_hooks.checkpoint.interval': 2}
    merge_options(cfg, {**interval, 'auto_scale_lr.base_batch_size': 2})
    file = new_style(cfg, tmp_path / 'new.py')

    def run(main, *argv):
        status, out, err = say(capfd, main, *argv)
        assert status == 0, err
        return out + err

    assert ' 0 errors' in run(dataset_cli.main, file)
    assert score in run(training.train, file)
    (weights,) = (tmp_path / 'work_dirs/new').glob('*_2.pth')
    assert score in run(testing.test, file, weights)
    assert score in run(testing.test, 'work_dirs/new/new.py', weights)
    sizes = ('--fixed', '--size', 64, 64)
    run(export.main, file, weights, '--out', 'x.pt2', *sizes)
    assert 'multiply-adds' in run(flops_cli.main, file, '--size', 64, 64)
    run(browse_cli.main, file, '--number', 1, '--out', 'browsed')
    root = drawn / part
    image = [*root.rglob('*.jpg'), *root.rglob('*.png')][0]
    run(inference.main, file, weights, image, '--out', 'found')
    run(features_cli.main, file, image, '--out', 'f.png')


HEAD = 'default_scope = {!r}\nmodel = dict(type={!r})\n'


@pytest.mark.parametrize(
    ('scope', 'kind', 'name'),
    [
        ('mmdet', 'mmdet.models.RetinaNet', 'RetinaNet'),  # mmengine's dump
        ('mmdet', 'mmdet.models.detectors.retinanet.RetinaNet', 'RetinaNet'),
        ('mmdet', 'mmdet.RetinaNet', 'RetinaNet'),  # its own scope
        ('mmdet', 'mmseg.FCNHead', 'mmseg.FCNHead'),
        ('mmseg', 'mmdet.models.RetinaNet', 'mmdet.RetinaNet'),
        (None, 'mmseg.models.EncoderDecoder', 'EncoderDecoder'),
        ('mmdet', 'torch.nn.BatchNorm2d', 'BN'),
        ('mmdet', 'torch.nn.Identity', 'torch.nn.Identity'),
        ('mmdet', 'mmengine.dataset.pseudo_collate', 'pseudo_collate'),
        ('mmdet', 'mmcv.ops.nms', 'nms'),
        ('mmdet', 'pvt_mm.PVTv2', 'PVTv2'),
        # another class has this name in mmdet's registry
        ('mmdet', 'mmcv.transforms.Resize', 'mmengine.Resize'),
        ('mmdet', 'mmdet.models.Nothing', 'mmdet.models.Nothing'),
    ],
)
def test_dotted_names(tmp_path, scope, kind, name):
    file = tmp_path / 'dotted.py'
    file.write_text(HEAD.format(scope, kind))
    assert load_config(file).model.type == name


OWN = """from torch import nn


class Own(nn.Module):
    pass
"""


def test_own_class_of_a_module_beside_the_config(tmp_path, monkeypatch):
    """It is registered nowhere: mmengine imports its dotted name."""
    monkeypatch.syspath_prepend('.')  # restores sys.path
    (tmp_path / 'own_class_beside.py').write_text(OWN)
    file = tmp_path / 'own.py'
    file.write_text(
        'from own_class_beside import Own\nmodel = dict(type=Own)\n'
    )
    cfg = load_config(file)
    assert cfg.model.type == 'own_class_beside.Own'
    init_default_scope('mmdet')
    assert type(MODELS.build(cfg.model)).__name__ == 'Own'


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('from mmdet.models import RetinaNett as A', 'RetinaNett'),
        ('from nowhere_at_all import Net as A', 'nowhere_at_all'),
        ('import mmdet.nothing as A', 'mmdet.nothing'),
    ],
)
def test_an_import_that_fails_is_one_sentence(tmp_path, line, words):
    file = tmp_path / 'wrong.py'
    file.write_text(f'{line}\nmodel = dict(type=A)\n')
    with pytest.raises(UsageError) as said:
        load_config(file)
    assert str(said.value).startswith(f'{file}: ') and words in str(said.value)


@pytest.mark.parametrize(
    ('name', 'given'),
    [('own_1', "'{}'"), ('own_2', "['{}']")],
)
def test_own_modules_beside_the_config(tmp_path, monkeypatch, name, given):
    monkeypatch.syspath_prepend('.')
    (tmp_path / f'{name}.py').write_text('')
    file = tmp_path / 'imports.py'
    file.write_text(f'custom_imports = dict(imports={given.format(name)})')
    cfg = load_config(file)
    assert list(cfg.custom_imports.imports) == [name]
    write(cfg, tmp_path / 'left.py')
    left = load_config(tmp_path / 'left.py')
    assert list(left.custom_imports.imports) == [name]


@pytest.mark.parametrize('given', ["['own']", "'own'", '3'])
def test_custom_imports_that_are_no_dict(tmp_path, given):
    file = tmp_path / 'imports.py'
    file.write_text(f'custom_imports = {given}')
    with pytest.raises(UsageError, match='must be a dict: write custom_im'):
        load_config(file)
