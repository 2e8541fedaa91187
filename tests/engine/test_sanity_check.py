"""The sanity check: what would fail at the first score fails before it."""

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import ConfigDict
from mmengine.registry import METRICS
from small_runs import (
    RETINANET,
    SEGMENTOR,
    draw,
    load,
    merge_options,
    outcome,
    pair,
    same,
    say,
    small,
    start,
    write,
)

from pvt_mm.engine import train as training
from pvt_mm.engine.hooks import sanity_check_hook
from pvt_mm.engine.hooks.sanity_check_hook import (
    check_free_space,
    check_monitors,
)
from pvt_mm.errors import UsageError

NORM = dict(type='BN')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Drawn images, and annotation files that are not those of val."""
    root = draw(tmp_path_factory.mktemp('drawn'))
    file = next((root / 'coco').rglob('*val*.json'))
    content = json.loads(file.read_text())
    for name, change in OTHERS.items():
        other = deepcopy(content)
        change(other)
        (file.parent / f'{name}.json').write_text(json.dumps(other))
    shutil.copytree(root / 'coco/val2017', root / 'coco/more2017')
    return root


def other_ids(content):
    for image in content['images']:
        image['id'] += 1000
    for annotation in content['annotations']:
        annotation['image_id'] += 1000


def other_names(content):
    for image in content['images']:
        image['file_name'] = f'other_{image["file_name"]}'


def other_sizes(content):
    for image in content['images']:
        image['width'] += 1


def other_objects(content):
    """The same images, but each has the objects of another one."""
    ids = [image['id'] for image in content['images']]
    for annotation in content['annotations']:
        place = ids.index(annotation['image_id'])
        annotation['image_id'] = ids[place - 1]


OTHERS = dict(
    other_ids=other_ids,
    other_names=other_names,
    other_sizes=other_sizes,
    other_objects=other_objects,
)


def config(root, name=RETINANET, **options):
    """The config of a run of one epoch, or of two iterations."""
    cfg = small(load(name), root, 'coco' if name == RETINANET else 'ade20k')
    if name == RETINANET:
        cfg.train_cfg.max_epochs = 1
    else:
        cfg.train_cfg.update(max_iters=2, val_interval=2)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    merge_options(cfg, options)
    return cfg


def train(capsys, cfg, folder, *argv):
    """The exit status of a training, and what it said."""
    status, out, err = say(
        capsys,
        training.train,
        write(cfg, folder / 'config.py'),
        *('--work-dir', folder / 'w', '--batch', 'as-is'),
        *argv,
    )
    return status, out + err


def head(kind, **options):
    """The config of a decode head that sees the last map, 32 channels."""
    return dict(
        type=kind,
        in_channels=32,
        in_index=3,
        channels=16,
        num_classes=6,
        norm_cfg=NORM,
        loss_decode=dict(type='CrossEntropyLoss'),
        **options,
    )


def without_neck(cfg, decode_head):
    cfg.model.neck = None
    cfg.model.decode_head = decode_head


def aspp_head(cfg):
    without_neck(
        cfg,
        head(
            'DepthwiseSeparableASPPHead',
            dilations=(1, 2),
            c1_in_channels=256,
            c1_channels=8,
        ),
    )


def batch_of_one(cfg):
    without_neck(cfg, head('PSPHead', pool_scales=(1, 2)))
    cfg.train_dataloader.batch_size = 1


def fewer_channels(cfg):
    cfg.model.decode_head.in_channels = [64, 64, 64, 63]


def absent_map(cfg):
    cfg.model.decode_head.in_index = [0, 1, 2, 4]


def neck_of_other_maps(cfg):
    cfg.model.neck.in_channels = [8, 16, 20, 31]


def images_of_two_sizes(cfg):
    """Without a size to pad to."""
    cfg.model.data_preprocessor.size = None
    del cfg.model.data_preprocessor['size']
    cfg.train_dataloader.dataset.pipeline.insert(
        -1, dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0))
    )


def unpacked(cfg):
    cfg.train_dataloader.dataset.pipeline.pop()


def metric_without_file(cfg):
    cfg.val_evaluator.ann_file = None


def file(name):
    def change(cfg):
        path = Path(cfg.val_evaluator.ann_file)
        cfg.val_evaluator.ann_file = str(path.with_name(f'{name}.json'))

    return change


def two_sets(**second):
    def change(cfg):
        one = cfg.val_dataloader.dataset
        if 'ann_file' in second:
            path = Path(one.ann_file).with_name(second['ann_file'])
            second['ann_file'] = str(path)
        cfg.val_dataloader.dataset = ConfigDict(
            type='ConcatDataset', datasets=[one, dict(one, **second)]
        )

    return change


def save_best(name):
    return lambda cfg: cfg.default_hooks.checkpoint.update(save_best=name)


def stop_early(cfg):
    hook = dict(type='EarlyStoppingHook', monitor='coco/bbox_map')
    cfg.custom_hooks = [*cfg.get('custom_hooks', ()), hook]


def scored_masks(cfg):
    cfg.val_evaluator.metric = ['bbox', 'segm']


CONFIGS = [
    (
        RETINANET,
        file('other_objects'),
        r'ground truth of 2 batches, .* has a coco/bbox_mAP of 0\S*, not 1',
    ),
    (
        RETINANET,
        save_best('bbox_mAP'),
        "save_best='bbox_mAP' of AtomicCheckpointHook is no score of this "
        'validation; nearest: coco/bbox_mAP',
    ),
    (
        SEGMENTOR,
        save_best('miou'),
        "save_best='miou' of .* is no score of this validation; .*mIoU",
    ),
    (
        RETINANET,
        stop_early,
        "monitor='coco/bbox_map' of EarlyStoppingHook is no score",
    ),
    (RETINANET, scored_masks, "metric has 'segm', but the model has no part"),
    (SEGMENTOR, fewer_channels, r'scale_heads.3.0.conv, .* \(1, 64, 2, 2\)'),
    (
        SEGMENTOR,
        absent_map,
        r'in model.decode_head, a \w+: IndexError: tuple index out of range',
    ),
    (
        SEGMENTOR,
        aspp_head,
        r'in model.decode_head.c1_bottleneck.conv, a Conv2d that gets '
        r'\(1, 8, 16, 16\)',
    ),
    (
        SEGMENTOR,
        batch_of_one,
        r'a training pass fails in model.decode_head.\S+.bn, a BatchNorm2d '
        r'that gets \(1, 16, 1, 1\)',
    ),
    (SEGMENTOR, images_of_two_sizes, 'a training pass fails'),
    (RETINANET, unpacked, 'a batch of the training samples fails: Runtime'),
    (RETINANET, neck_of_other_maps, r'model.neck.lateral_convs.2.conv'),
    (RETINANET, metric_without_file, 'batches fails in CocoMetric: Assertion'),
    (
        RETINANET,
        file('other_ids'),
        'ann_file of CocoMetric has no image of this id',
    ),
    (RETINANET, file('other_names'), r'has other_\S+ of 64x52 pixels under'),
    (RETINANET, file('other_sizes'), 'of 65x52 pixels under it'),
    (RETINANET, two_sets(ann_file='other_ids.json'), 'no image of this id'),
    (RETINANET, two_sets(data_prefix=dict(img='more2017/')), 'the same id'),
]


@pytest.mark.parametrize(('name', 'change', 'words'), CONFIGS)
def test_what_fails_later_fails_now(
    capsys, drawn, tmp_path, name, change, words
):
    cfg = config(drawn, name)
    change(cfg)
    status, said = train(capsys, cfg, tmp_path, '--no-data-check')
    assert status == 1
    assert re.search(words, said), said
    assert '--no-sanity-check starts anyway' in said
    assert 'Epoch(train)' not in said
    assert 'Iter(train)' not in said


def test_run_is_bit_equal_with_and_without(capsys, drawn, tmp_path):
    """Random states, buffers, averages, caches of transforms and metrics."""
    cfg = config(drawn)
    dataset = cfg.train_dataloader.dataset
    mosaic = dict(type='CachedMosaic', img_scale=(64, 64), max_cached_images=4)
    cfg.train_dataloader.dataset = ConfigDict(
        type='MultiImageMixDataset',
        dataset=dict(dataset, pipeline=dataset.pipeline[:-1]),
        pipeline=[mosaic, *dataset.pipeline[2:]],
    )
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    cfg.model.neck.norm_cfg = NORM
    path = write(cfg, tmp_path / 'config.py')
    found = []
    for name, *argv in (('a',), ('b', '--no-sanity-check')):
        log = tmp_path / f'{name}.log'
        work_dir = tmp_path / name
        both = [path, '--work-dir', work_dir, '--batch', 'as-is']
        assert outcome(start([*both, *argv], log)) == 0, log.read_text()
        before, found_it, _ = log.read_text().partition('Sanity check: ')
        assert bool(found_it) == (not argv)
        if found_it:
            assert 'bbox' not in before.split('Batch: ')[1]
        (scalars,) = work_dir.rglob('scalars.json')
        rows = map(json.loads, scalars.read_text().splitlines())
        found.append(
            [{k: v for k, v in r.items() if 'time' not in k} for r in rows]
        )
    assert len(found[0]) > 3
    assert found[0] == found[1]
    assert same(tmp_path / 'a/epoch_1.pth', tmp_path / 'b/epoch_1.pth')


def test_metric_without_a_file_keeps_nothing(capsys, drawn, tmp_path):
    """mmdet's CocoMetric makes a file of what it has seen, once."""
    cfg = config(drawn)
    cfg.val_evaluator.ann_file = None
    cfg.val_dataloader.batch_size = 1  # 2 of 4 images in the check
    pack = cfg.val_dataloader.dataset.pipeline[-1]
    pack.meta_keys = (*pack.meta_keys, 'instances')
    seen = []
    plain = CocoMetric.gt_to_coco_json

    def spy(self, gt_dicts, outfile_prefix):
        seen.append(len(gt_dicts))
        return plain(self, gt_dicts, outfile_prefix)

    with patch.object(CocoMetric, 'gt_to_coco_json', spy):
        status, said = train(capsys, cfg, tmp_path)
    assert status == 0, said
    assert seen[-1] == 4


def test_validation_without_ground_truth_in_its_samples(
    capsys, drawn, tmp_path
):
    """As of mmdet's semi-supervised configs: the metric reads its file."""
    cfg = config(drawn)
    pipeline = cfg.val_dataloader.dataset.pipeline
    cfg.val_dataloader.dataset.pipeline = [
        step for step in pipeline if step.type != 'LoadAnnotations'
    ]
    cfg.pop('test_cfg')  # and mmengine's loop is taken where none is named
    status, said = train(capsys, cfg, tmp_path)
    assert status == 0, said
    assert "test_cfg: added {'type': 'TestLoop'} (mmengine's loop)" in said


def test_error_of_the_users_own_code_is_a_traceback(drawn, tmp_path):
    class Own(CocoMetric):
        def compute_metrics(self, results):
            raise ZeroDivisionError('mine')

    METRICS.register_module(module=Own, force=True)
    cfg = config(drawn)
    cfg.val_evaluator.type = 'Own'
    path = write(cfg, tmp_path / 'config.py')
    with pytest.raises(ZeroDivisionError, match='mine') as error:
        training.train([path, '--work-dir', str(tmp_path / 'w')])
    (note,) = error.value.__notes__
    assert note.startswith('before the first iteration: the validation of 2 ')


@pytest.mark.parametrize(
    ('save_best', 'names', 'wrong'),
    [
        (None, {'mIoU'}, None),
        ('auto', {'mIoU'}, None),
        (['aAcc', 'mIoU'], {'mIoU', 'aAcc'}, None),
        (['aAcc', 'miou'], {'mIoU', 'aAcc'}, 'miou'),
        ('miou', set(), None),  # nothing is known
    ],
)
def test_scores_that_hooks_wait_for(save_best, names, wrong):
    hooks = [SimpleNamespace(save_best=save_best), SimpleNamespace()]
    runner = SimpleNamespace(hooks=hooks, param_schedulers=None)
    if wrong is None:
        check_monitors(runner, names)
        return
    with pytest.raises(UsageError, match=f"save_best='{wrong}' .*: mIoU"):
        check_monitors(runner, names)


def test_space_for_two_checkpoints(tmp_path):
    """4 MB of weights with Adam's two moments, twice."""
    model = torch.nn.Linear(1000, 1000, bias=False)
    runner = SimpleNamespace(
        model=model,
        work_dir=tmp_path,
        optim_wrapper=SimpleNamespace(
            optimizer=torch.optim.AdamW(model.parameters())
        ),
    )
    for free, ends_well in ((24e6, True), (23.9e6, False)):
        usage = SimpleNamespace(free=free)
        with patch.object(
            sanity_check_hook.shutil, 'disk_usage', lambda _, u=usage: u
        ):
            if ends_well:
                check_free_space(runner)
                continue
            with pytest.raises(UsageError, match='23.9 MB left, .* 24.0 MB'):
                check_free_space(runner)


@pytest.mark.parametrize('divided', [False, True])
def test_several_processes(drawn, tmp_path, divided):
    cfg = config(drawn)
    if divided:
        cfg.strategy = load('configs/_base_/strategy_fsdp.py').strategy
    path = write(cfg, tmp_path / 'config.py')
    both = pair(path, tmp_path / 'w', tmp_path / 'log')
    assert [outcome(each) for each in both] == [0, 0]
    said = (tmp_path / 'log0').read_text()
    before, _, _ = said.partition('Sanity check: a validation on 2 batches')
    assert before != said
    assert 'bbox' not in before.split('Batch: ')[1]
    assert (tmp_path / 'w/epoch_1.pth').is_file()
