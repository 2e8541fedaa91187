"""Parts of the libraries that change how a run goes: train, resume, test."""

import gc
import json
import signal

import mmengine.config.config
import pytest
import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.logging import MessageHub, MMLogger
from mmseg.visualization import SegLocalVisualizer
from small_runs import RETINANET, SEGMENTOR, draw, load, small, write

from pvt_mm import cli
from pvt_mm.compat import checkpoint_reading
from pvt_mm.engine import test as testing
from pvt_mm.engine import train as training
from pvt_mm.engine.hooks.preemption_hook import PreemptionHook

SIZE = (64, 64)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """A few drawn images in both layouts; one of each cannot be read."""
    root = draw(tmp_path_factory.mktemp('drawn'))
    for folder in ('coco/train2017', 'ade20k/images/training'):
        sorted((root / folder).glob('*'))[1].write_bytes(b'no image')
    return root


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Format no text of configs, and collect no garbage of other tests."""
    # onedl-mmengine formats none
    monkeypatch.setattr(
        mmengine.config.config,
        'FormatCode',
        lambda text, **_: (text, False),
        raising=False,
    )
    gc.freeze()
    yield
    gc.unfreeze()


def ema(cfg):
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1, begin_iter=1)]


def early_stopping(cfg):
    score = 'coco/bbox_mAP' if cfg.default_scope == 'mmdet' else 'mIoU'
    monitor = dict(monitor=score, rule='greater', patience=2)
    cfg.custom_hooks = [dict(type='EarlyStoppingHook', **monitor)]
    if 'max_epochs' in cfg.train_cfg:
        cfg.train_cfg.max_epochs = 5  # the third is the last


def pipeline_switch(cfg):
    """Without the flips, from the second epoch on."""
    pipeline = list(cfg.train_dataloader.dataset.pipeline)
    del pipeline[3]
    hook = dict(type='PipelineSwitchHook', switch_epoch=1)
    cfg.custom_hooks = [dict(hook, switch_pipeline=pipeline)]


def mixed(cfg, transforms, own=2):
    """MultiImageMixDataset around the data set, which keeps some steps."""
    dataset = cfg.train_dataloader.dataset
    dataset.pipeline, rest = dataset.pipeline[:own], dataset.pipeline[own:]
    cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset',
        dataset=dataset,
        pipeline=[*transforms, *rest],
    )


def mosaic(cfg):
    affine = dict(type='RandomAffine', border=(-32, -32))
    mix = dict(type='MixUp', img_scale=SIZE)
    mixed(cfg, [dict(type='Mosaic', img_scale=SIZE), affine, mix])


def mosaic_until(cfg):
    """Mosaic, but in the last epochs."""
    mosaic(cfg)
    hook = dict(type='YOLOXModeSwitchHook', num_last_epochs=1)
    cfg.custom_hooks = [hook]


def mosaic_of_label_maps(cfg):
    mixed(cfg, [dict(type='RandomMosaic', prob=1, img_scale=SIZE)])


def copy_paste(cfg):
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[1].with_mask = True
    pipeline[2] = dict(type='Resize', scale=SIZE)
    mixed(cfg, [dict(type='CopyPaste')], own=3)


def concat(cfg):
    first = cfg.train_dataloader.dataset
    second = dict(first, indices=4)
    if cfg.default_scope == 'mmdet':  # mmseg's must be equal
        second['metainfo'] = dict(first.metainfo, palette=[(0, 0, 0)] * 5)
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[first, second]
    )


def class_balanced(cfg):
    cfg.train_dataloader.dataset = dict(
        type='ClassBalancedDataset',
        oversample_thr=0.9,
        dataset=cfg.train_dataloader.dataset,
    )


def one_cycle(cfg):
    steps = cfg.train_cfg.get('max_iters', 6)
    schedule = dict(type='OneCycleLR', eta_max=1e-3, total_steps=steps)
    cfg.param_scheduler = [dict(schedule, by_epoch=False)]


def cosine_restarts(cfg):
    schedule = dict(type='CosineRestartLR', by_epoch=False, eta_min=0)
    cfg.param_scheduler = [
        dict(schedule, periods=[2, 4], restart_weights=[1, 0.5])
    ]


def plateau(cfg):
    score = 'coco/bbox_mAP' if cfg.default_scope == 'mmdet' else 'mIoU'
    schedule = dict(type='ReduceOnPlateauLR', monitor=score, rule='greater')
    cfg.param_scheduler = [
        dict(schedule, threshold=1, threshold_rule='abs', patience=1)
    ]


# Feature, data, workers after the interruption, and where this is: number of
# the iteration, and its batches that are trained on.
FEATURES = [
    (early_stopping, 'coco', 0, (3, 1)),
    (pipeline_switch, 'coco', 1, (3, 1)),
    (mosaic, 'coco', 0, (3, 1)),
    (one_cycle, 'ade20k', 0, (3, 1)),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            (ema, 'coco', 0, (3, 1)),
            (ema, 'ade20k', 0, (3, 1)),
            (early_stopping, 'ade20k', 0, (4, 1)),
            (pipeline_switch, 'coco', 1, (1, 1)),
            (mosaic, 'coco', 1, (3, 1)),
            (mosaic_until, 'coco', 1, (3, 1)),
            (mosaic_of_label_maps, 'ade20k', 0, (3, 1)),
            (copy_paste, 'coco', 0, (3, 1)),
            (concat, 'coco', 0, (4, 1)),
            (concat, 'ade20k', 1, (3, 1)),
            (class_balanced, 'coco', 1, (4, 1)),
            (one_cycle, 'coco', 0, (3, 1)),
            (cosine_restarts, 'coco', 0, (3, 1)),
            (cosine_restarts, 'ade20k', 0, (3, 1)),
            (plateau, 'coco', 0, (3, 1)),
        ]
    ),
]


def config(folder, drawn, part, feature):
    """A config of six iterations of two batches, with a feature."""
    if part == 'coco':
        options = {'train_cfg.max_epochs': 3, 'model.test_cfg.score_thr': 0.0}
    else:
        options = {
            'train_cfg.max_iters': 6,
            'train_cfg.val_interval': 2,
            'default_hooks.checkpoint.interval': 3,
        }
    name = RETINANET if part == 'coco' else SEGMENTOR
    cfg = small(load(name, **options), drawn, part)
    cfg.auto_scale_lr.base_batch_size = 4
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.custom_hooks = []
    feature(cfg)
    return write(cfg, folder / 'config.py')


def run(command, *argv):
    """The exit status of a command in this process, as in one of its own."""
    visualizers = (DetLocalVisualizer, SegLocalVisualizer)
    for manager in (MessageHub, MMLogger, *visualizers):
        manager._instance_dict.clear()
    return cli.run(lambda: command(list(map(str, argv))))


def stop(monkeypatch, iteration, batches):
    """Let a signal come when some batches have been trained on."""
    plain = PreemptionHook.before_next_batch

    def before_next_batch(self, runner):
        if (runner.iter, runner.train_loop.batches_done) == (
            iteration,
            batches,
        ):
            self.signum = signal.SIGTERM
        plain(self, runner)

    monkeypatch.setattr(PreemptionHook, 'before_next_batch', before_next_batch)


def last(work):
    """The last checkpoint of a run."""
    return (work / 'last_checkpoint').read_text()


def state(work):
    """What a run goes on from, in its last checkpoint."""
    with checkpoint_reading():
        checkpoint = torch.load(last(work))
    meta = checkpoint['meta']
    found = {'early_stopping': meta['early_stopping'], 'iter': meta['iter']}
    parts = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
    return found | {key: checkpoint.get(key) for key in parts}


def equal(a, b):
    """Whether two states are equal in every bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def scores(work, pattern):
    """The last scores that a run wrote down."""
    files = sorted(work.glob(pattern))
    rows = [json.loads(x) for f in files for x in f.read_text().splitlines()]
    row = [row for row in rows if 'loss' not in row][-1]
    return {k: v for k, v in row.items() if k.startswith(('coco', 'm'))}


@pytest.mark.parametrize(('feature', 'part', 'workers', 'place'), FEATURES)
def test_it_trains_resumes_and_is_tested(
    tmp_path, drawn, monkeypatch, feature, part, workers, place
):
    """And skips the image that cannot be read."""
    file = config(tmp_path, drawn, part, feature)
    begin = [training.train, file, '--work-dir']
    whole, work, test = (tmp_path / name for name in ('a', 'b', 'test'))
    assert run(*begin, whole) == 0
    with monkeypatch.context() as patch:
        stop(patch, *place)
        assert run(*begin, work) == 143
    options = ['--cfg-options', f'train_dataloader.num_workers={workers}']
    options += [f'train_dataloader.persistent_workers={workers > 0}']
    assert run(*begin, work, '--resume', *options) == 0
    assert equal(state(work), state(whole))
    assert run(testing.test, file, last(work), '--work-dir', test) == 0
    assert scores(test, '*/2*.json') == scores(
        whole, '*/vis_data/scalars.json'
    )
    (log,) = whole.glob('*/*.log')
    text = log.read_text()
    said = 'skipped in this epoch; so far 1 cannot be used'
    epochs = text.count(' epochs\n') if part == 'coco' else 1
    assert text.count(said) == epochs
