"""Trainings by our tools and by MMDetection's and MMSegmentation's own.

In float64, from the same weights, with the same samples and random numbers:
tests/both_sides.py is what both sides import for that. Measured numbers are
in docs/reproduction.md.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from both_sides import SAVED
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from small_runs import load, weights, write

from pvt_mm.checkpoints.formats import from_ours, to_ours
from pvt_mm.compat import config_dict
from pvt_mm.config.schema import bare
from pvt_mm.datasets.synthetic import CLASSES, draw_ade20k, draw_coco

ROOT = Path(__file__).parents[2]
# No evaluation; samples are read in the process that seeds them.
COMMON = {
    'model.backbone.init_cfg': None,
    'train_dataloader.batch_size': 4,
    'auto_scale_lr.base_batch_size': 4,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader': None,
    'val_cfg': None,
    'val_evaluator': None,
    'randomness': dict(seed=3),
    'custom_hooks': [dict(type='Parity')],
}
# 12 epochs become 10 of 5 steps: 4 of 4 images and 1 of 3.
DETECTOR = {
    'model.bbox_head.num_classes': len(CLASSES),
    'train_dataloader.dataset.metainfo': dict(classes=CLASSES),
    'train_dataloader.dataset.pipeline.2.scale': (64, 64),
    'train_cfg.max_epochs': 10,
    'param_scheduler.0.end': 10,
    'param_scheduler.1.end': 10,
    'param_scheduler.1.milestones': [7, 9],
}
SEGMENTOR = {
    'model.data_preprocessor.size': (64, 64),
    'train_dataloader.dataset.pipeline.2.scale': (256, 64),
    'train_dataloader.dataset.pipeline.3.crop_size': (64, 64),
    'train_cfg.max_iters': 50,
    'param_scheduler.0.end': 50,
}


def installed(package, path):
    """A file that a library of OpenMMLab brings along."""
    return Path(find_spec(package).origin).parent / '.mim' / path


def prepare(cfg, data, options):
    """Make a config small, and let it import what both sides import."""
    cfg.merge_from_dict(COMMON | options)
    cfg.train_dataloader.dataset.data_root = str(data)
    cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='SeedSample'))
    imports = cfg.get('custom_imports', {}).get('imports', [])
    cfg.custom_imports = dict(imports=[*imports, 'both_sides'])
    return cfg


def initial(cfg):
    """Initial weights of the model of a config."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.state_dict()


def train(tool, cfg, start, folder):
    """Train by a tool, in a process of its own -> its work dir."""
    folder.mkdir()
    cfg.load_from = str(folder / 'start.pth')
    torch.save(start, cfg.load_from)
    config, work = write(cfg, folder / 'config.py'), folder / 'work'
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    done = subprocess.run(
        [sys.executable, tool, config, '--work-dir', work],
        env=os.environ | dict(PYTHONPATH=path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return work


def distance(a, b):
    """The largest max|a - b| / max|a| of all tensors; NaN if one has it."""
    assert a.keys() == b.keys()
    gaps = [(x.double() - b[key]).abs().max() for key, x in a.items()]
    sizes = [x.abs().max() for x in a.values()]
    return torch.stack(
        [gap and gap / size for gap, size in zip(gaps, sizes, strict=True)]
    ).max()


def compare(ours, theirs, start, bound):
    """Compare all weights after some steps, and print their distance.

    Args:
        ours: work dir of our tool.
        theirs: work dir of the other tool.
        start: initial weights, in our names.
        bound: of the distance.
    """
    for step in SAVED:
        a, b = (
            to_ours(torch.load(work / f'step_{step}.pth')).state
            for work in (ours, theirs)
        )
        print(f'after {step} steps: {distance(a, b):.1e}')
        assert distance(a, b) <= bound
    assert not [k for k in a if torch.equal(a[k], start[k].double())]
    for work in (ours, theirs):  # what the tools themselves save
        last = weights((work / 'last_checkpoint').read_text())[0]
        saved = torch.load(work / 'step_50.pth')
        assert all(torch.equal(last[k], saved[k]) for k in saved)


def recipe(cfg):
    """Everything but the backbone."""
    plain = bare(config_dict(cfg))
    del plain['model']['backbone'], plain['custom_imports']
    return plain


@pytest.mark.slow
@pytest.mark.parametrize('drop_path', [0.0, 0.1])
def test_retinanet_trains_as_mmdets_own(drop_path, tmp_path):
    draw_coco(tmp_path, 20, 1, size=64)  # one has no shapes
    rate = {'model.backbone.drop_path_rate': drop_path}
    file = installed('mmdet', 'configs/pvt/retinanet_pvtv2-b0_fpn_1x_coco.py')
    ours, theirs = (
        prepare(cfg, tmp_path, DETECTOR | rate)
        for cfg in (
            load('configs/retinanet_pvt_v2_b0_coco.py'),
            Config.fromfile(file),
        )
    )
    assert recipe(ours) == recipe(theirs)
    start = initial(ours)
    state = from_ours(start, 'mmdet').state
    tool = installed('mmdet', 'tools/train.py')
    compare(
        train(ROOT / 'tools/train.py', ours, start, tmp_path / 'ours'),
        train(tool, theirs, state, tmp_path / 'theirs'),
        start,
        bound=1e-8,
    )


@pytest.mark.slow
@pytest.mark.parametrize('drop', [0.0, 0.1])
def test_semantic_fpn_trains_as_under_mmsegs_tool(drop, tmp_path):
    draw_ade20k(tmp_path, 120, 1, size=64)
    rates = {
        'model.backbone.drop_path_rate': drop,
        'model.decode_head.dropout_ratio': drop,
    }
    cfg = load('configs/semantic_fpn_pvt_v2_b0_ade20k.py')
    cfg = prepare(cfg, tmp_path, SEGMENTOR | rates)
    start = initial(cfg)
    compare(
        *(
            train(tool, cfg, start, tmp_path / name)
            for name, tool in (
                ('ours', ROOT / 'tools/train.py'),
                ('theirs', installed('mmseg', 'tools/train.py')),
            )
        ),
        start,
        bound=0,
    )
