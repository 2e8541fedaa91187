"""Names that have no effect are named, with the keys that would work."""

import pytest

from pvt_mm.config.inheritance import warn_of_names_without_effect
from pvt_mm.config.loading import load_config

BASE = """
data_root = 'data/here/'
metainfo = dict(classes=('a', 'b'))
image_size = (64, 96)
max_epochs = 12
backend_args = None
dataset_type = 'CocoDataset'
unread = 'nobody'
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale=image_size),
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type, data_root=data_root, metainfo=metainfo,
        pipeline=train_pipeline,
    )
)
val_evaluator = dict(ann_file=data_root + 'val.json')
train_cfg = dict(max_epochs=max_epochs)
"""
DATASET = 'train_dataloader.dataset'
STYLES = {
    'text': "_base_ = './base.py'\n",
    'a list': "_base_ = ['base.py']\n",
    'new': 'from mmengine.config import read_base\nwith read_base():\n'
    '    from .base import *\n',
}


@pytest.fixture
def warned(tmp_path, capsys):
    """Warnings of a config that inherits BASE: name -> keys to set."""

    def warn(text, style='text'):
        (tmp_path / 'base.py').write_text(BASE)
        file = tmp_path / 'mine.py'
        file.write_text(f'{STYLES[style]}{text}\n')
        warn_of_names_without_effect(load_config(file), load_config)
        found = {}
        for line in capsys.readouterr().err.splitlines():
            begin, keys = line.split(': set ')
            assert begin.startswith(f'warning: {file}: ')
            found[begin.split(': ')[2].split()[0]] = keys.split(' and ')
        return found

    return warn


@pytest.mark.parametrize('style', STYLES)
@pytest.mark.parametrize(
    ('text', 'keys'),
    [
        ("data_root = '/elsewhere/'", [f'{DATASET}.data_root']),
        ("metainfo = dict(classes=('c',))", [f'{DATASET}.metainfo']),
        ('image_size = (32, 32)', [f'{DATASET}.pipeline.1.scale']),
        ('max_epochs = 24', ['train_cfg.max_epochs']),
        (
            "backend_args = 'local'",
            [f'{DATASET}.pipeline.0.backend_args'],
        ),
        ("dataset_type = 'VOCDataset'", [f'{DATASET}.type']),
        ("train_pipeline = [dict(type='A')]", [f'{DATASET}.pipeline']),
    ],
)
def test_without_effect(warned, style, text, keys):
    assert warned(text, style) == {text.split()[0]: keys}


@pytest.mark.parametrize(
    'text',
    [
        # used in the file itself
        "data_root = '/elsewhere/'\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))',
        # the key has the new value all the same
        "data_root = '/x/'\n"
        "train_dataloader = dict(dataset=dict(data_root='/x/'))",
        "data_root = 'data/here/'",  # the inherited value
        "unread = 'nothing'",  # of no effect in the inherited file either
        "mine = 'new'",
        'train_cfg = dict(max_epochs=3)',  # read by the runner
    ],
)
def test_nothing_to_say(warned, text):
    assert warned(text) == {}


def test_only_the_first_process_says_it(warned, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    assert warned('max_epochs = 24') == {}


def test_inherited_by_the_name_of_a_package(tmp_path, capsys):
    file = tmp_path / 'mine.py'
    file.write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        "data_root = 'mine/'\ntest_pipeline = []\n"
    )
    warn_of_names_without_effect(load_config(file), load_config)
    first, second = capsys.readouterr().err.splitlines()
    assert 'train_dataloader.dataset.data_root and val_dataload' in first
    assert 'val_dataloader.dataset.pipeline and test_dataloader' in second
