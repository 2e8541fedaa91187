"""tools/demo.py: its data in the real datasets, its progress, its pictures."""

import importlib.util
import json
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmseg.datasets import ADE20KDataset

import pvt_mm.engine.hooks.first_score_hook  # noqa: F401  registers the hook
from pvt_mm.config.loading import load_config
from pvt_mm.datasets.synthetic import CLASSES, draw_ade20k, draw_coco
from pvt_mm.datasets.synthetic.scene import CROWD
from pvt_mm.datasets.synthetic.shapes import scenes
from pvt_mm.reproduction.training_log import read_records
from pvt_mm.visualization.drawing import build_visualizer, draw_objects

ROOT = Path(__file__).resolve().parents[2]
DETECTION = ROOT / 'configs/retinanet_pvt_v2_b0_shapes.py'
SEGMENTATION = ROOT / 'configs/semantic_fpn_pvt_v2_b0_shapes.py'
LOG = (
    'INFO - Epoch(train)  [3][ 40/150]  lr: 1.0000e-03  eta: 0:01:05  '
    'time: 0.2  data_time: 0.0  grad_norm: 1.3  loss: 0.5417  loss_cls: 0.27',
    'INFO - Epoch(val) [3][38/38]    coco/bbox_mAP: 0.5150  '
    'coco/bbox_mAP_50: 0.7390  coco/bbox_mAP_75: 0.6110',
    'ERROR - The testing results of the whole dataset is empty.',
)


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """tools/demo.py as a module that works in an empty folder."""
    spec = importlib.util.spec_from_file_location(
        'demo', ROOT / 'tools/demo.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'ROOT', tmp_path)
    return module


def test_coco_dataset_reads_the_drawn_set(tmp_path):
    draw_coco(tmp_path, train=6, val=1, size=96)
    options = load_config(DETECTION).train_dataloader.dataset
    pipeline = [
        dict(type='mmdet.LoadImageFromFile'),
        dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    ]
    options.update(data_root=str(tmp_path), pipeline=pipeline)
    options.pop('type')
    data = CocoDataset(**options)
    found = {data[i]['img_id']: data[i] for i in range(len(data))}
    assert 4 not in found  # the one without objects is no training image
    for number, scene in scenes(0, 'train', 6, 96):
        if number == 4:
            continue
        sample = found[number]
        crowd = scene.crowd_label is not None
        count = len(scene.labels)
        assert sample['img'].shape == (*scene.owner.shape, 3)
        assert sample['gt_bboxes_labels'][:count].tolist() == scene.labels
        assert sample['gt_ignore_flags'].sum() == crowd
        masks = sample['gt_masks'].masks.astype(bool)
        for index in range(count):
            seen = scene.visible(index)
            assert (masks[index] & seen).sum() > 0.95 * seen.sum()
        if crowd:
            assert (masks[count] == (scene.owner == CROWD)).all()


def test_ade20k_dataset_reads_the_drawn_set(tmp_path):
    draw_ade20k(tmp_path, train=3, val=1, size=64)
    data = ADE20KDataset(
        data_root=str(tmp_path),
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'
        ),
        pipeline=[
            dict(type='mmseg.LoadImageFromFile'),
            dict(type='mmseg.LoadAnnotations'),
        ],
    )
    assert len(data) == 3
    for index, (_, scene) in enumerate(scenes(0, 'train', 3, 64)):
        # after reduce_zero_label: 255 none, 0 the ground, then the shapes
        lut = np.array([*(n + 1 for n in scene.labels), 255, 0])
        assert (data[index]['gt_seg_map'] == lut[scene.owner]).all()


def test_configs_name_the_classes_in_the_drawn_order():
    detection = load_config(DETECTION)
    segmentation = load_config(SEGMENTATION)
    assert detection.metainfo.classes == CLASSES
    assert detection.model.bbox_head.num_classes == len(CLASSES)
    assert segmentation.metainfo.classes == ('ground', *CLASSES)
    assert segmentation.model.decode_head.num_classes == len(CLASSES) + 1


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        loss = (self.weight * inputs).sum()
        return {'loss': loss} if mode == 'loss' else [self.weight.item()]


class Weight(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {'weight': results[0]}


def train_toy(folder, epochs, **options):
    """Train one weight with the hook; [step, score] of its evaluations."""
    loader = dict(
        batch_size=1,
        num_workers=0,
        dataset=[dict(inputs=torch.ones(1))],
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    runner = Runner(
        model=Toy(),
        work_dir=str(folder),
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=[Weight()],
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(type='ValLoop'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.25)),
        custom_hooks=[dict(type='FirstScoreHook')],
        experiment_name=f'{folder.name}-{epochs}',
        **options,
    )
    runner.train()
    log = max(folder.glob('*/vis_data/scalars.json'))
    scores = [r for r in read_records(log) if 'loss' not in r]
    return [[r['step'], r['weight']] for r in scores]


def test_the_untrained_network_is_scored_once_and_not_when_resumed(tmp_path):
    first = train_toy(tmp_path / 'run', 2)
    assert first == [[0, 1.0], [1, 0.75], [2, 0.5]]
    (tmp_path / 'run').rename(tmp_path / 'stopped')
    rest = train_toy(
        tmp_path / 'run',
        3,
        resume=True,
        load_from=str(tmp_path / 'stopped/epoch_2.pth'),
    )
    assert rest == [[3, 0.25]]


def test_screen_shows_progress_time_left_and_scores(demo, capsys):
    screen = demo.Screen(pause=1000)
    for line in ('loading annotations into memory...', *LOG, LOG[0]):
        screen.show(line)
    assert capsys.readouterr().out.splitlines() == [
        '  epoch 3    40/150  loss 0.5417  0:01:05 left',
        '  held-out images: AP 0.5150  AP50 0.7390',
        '  held-out images: AP 0, the network finds nothing',
    ]


def test_run_keeps_the_log_and_says_why_a_tool_failed(demo, tmp_path):
    tool = tmp_path / 'tool.py'
    tool.write_text('print("working")')
    demo.run(tmp_path / 'log.txt', 'tool.py')
    assert (tmp_path / 'log.txt').read_text() == 'working\n'
    tool.write_text('import sys; sys.exit("no data")')
    with pytest.raises(SystemExit, match='no data\n+demo: tool.py failed'):
        demo.run(tmp_path / 'log.txt', 'tool.py')


@pytest.mark.parametrize(
    ('ap', 'ap50', 'good'),
    [(0.6, 0.8, True), (0.59, 0.9, False), (0.7, 0.79, False)],
)
def test_summary_judges_the_last_score(demo, tmp_path, capsys, ap, ap50, good):
    file = tmp_path / 'scalars.json'
    rows = [
        {'time': 0.1, 'step': 0},  # nothing found: mmdet gives no AP
        {'loss': 1.0, 'step': 1},
        {demo.AP: ap, demo.AP50: ap50, 'step': 1},
    ]
    file.write_text('\n'.join(map(json.dumps, rows)))
    assert demo.summary(file, 61) is good
    out = capsys.readouterr().out
    assert f'AP   0.000 -> {ap:.3f}' in out
    assert '1 min 1 s' in out


def found(count):
    """Predictions of an image: its best ``count`` of two."""
    return {
        'bboxes': torch.tensor([[2.0, 4, 30, 40], [0, 0, 5, 5]])[:count],
        'labels': torch.tensor([1, 0])[:count],
        'scores': torch.tensor([0.875, 0.125])[:count],
    }


def test_found_objects_with_a_score_stand_below_the_truth(demo, tmp_path):
    draw_coco(tmp_path, train=1, val=2, size=64)
    demo.draw_detections(
        tmp_path / 'found.png',
        tmp_path / 'annotations/instances_val2017.json',
        tmp_path / 'val2017',
        [{'img_id': n, 'pred_instances': found(2)} for n in (1, 2)],
    )
    picture = mmcv.imread(tmp_path / 'found.png')
    images = [mmcv.imread(p) for p in sorted(tmp_path.glob('val2017/*'))]
    height, width = 8 * np.max([i.shape[:2] for i in images], 0)
    assert picture.shape == (2 * height, 2 * width, 3)
    meta = dict(CocoDataset.METAINFO, classes=CLASSES)
    visualizer = build_visualizer('mmdet', meta)
    best = draw_objects(visualizer, images[0], InstanceData(**found(1)))
    shown = picture[height : height + len(best), : best.shape[1]]
    assert (shown == best).all()
    assert (picture[: len(best), : best.shape[1]] != best).any()


def test_truth_has_every_object_and_names_the_crowd(demo, tmp_path):
    draw_coco(tmp_path, train=1, val=1, size=64)
    file = tmp_path / 'annotations/instances_val2017.json'
    content = json.loads(file.read_text())
    for number, one in enumerate(content['annotations']):
        one['iscrowd'] = int(number == 0)
    file.write_text(json.dumps(content))
    out, images = tmp_path / 'found.png', tmp_path / 'val2017'
    results = [{'img_id': 1, 'pred_instances': found(0)}]
    demo.draw_detections(out, file, images, results)
    crowd, *others = content['annotations']
    names = {c['id']: c['name'] for c in content['categories']}
    boxes = [one['bbox'] for one in (*others, crowd)]
    labels = [names[one['category_id']] for one in (*others, crowd)]
    truth = InstanceData(
        bboxes=torch.tensor([(x, y, x + w, y + h) for x, y, w, h in boxes]),
        labels=torch.tensor([CLASSES.index(name) for name in labels]),
        label_names=[*labels[:-1], f'{labels[-1]} crowd'],
    )
    meta = dict(CocoDataset.METAINFO, classes=CLASSES)
    (image,) = images.iterdir()
    best = draw_objects(
        build_visualizer('mmdet', meta), mmcv.imread(image), truth
    )
    picture = mmcv.imread(out)
    assert len(others) > 0 and picture.shape[0] == 2 * len(best)
    assert (picture[: len(best)] == best).all()
    plain = demo.mmcv.imread(image).repeat(8, 0).repeat(8, 1)
    assert (picture[len(best) :] == plain).mean() > 0.99  # nothing is drawn


def test_demo_refuses_a_folder_of_something_else(demo, tmp_path):
    (tmp_path / 'data/shapes').mkdir(parents=True)
    with pytest.raises(SystemExit, match='no complete synthetic data'):
        demo.main()
    assert not (tmp_path / 'work_dirs').exists()
    assert 'demo' not in sys.modules
