"""The ground truth as predictions scores about 1, or the data is wrong."""

import json
from contextlib import redirect_stdout
from functools import partial

import cv2
import numpy as np
import pytest
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, init_default_scope

from pvt_mm.datasets.checks.examine import examine
from pvt_mm.datasets.checks.fault_tolerant_pipeline import make_fault_tolerant
from pvt_mm.evaluation.ground_truth import score_ground_truth

CLASSES = ('moss', 'stone')
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
LOAD = dict(type='LoadImageFromFile')
TRUTH = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
RESIZE = dict(type='Resize', scale=(128, 128), keep_ratio=True)
PACK = dict(type='PackDetInputs', meta_keys=META)


def image(file, values=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((48, 64, 3), 'u1') if values is None else values
    cv2.imwrite(str(file), values)


def coco(root, first=1, crowd=(), shift=0):
    """A COCO file of four images with two polygons each."""
    notes = []
    for i in range(8):
        x, y = 4 + 5 * i, 3 + 2 * i
        corners = [x, y, x + 14, y, x + 14, y + 20, x, y + 20]
        notes.append(
            {
                'id': i + first,
                'image_id': (i // 2 + shift) % 4,
                'category_id': i % 2,
                'bbox': [x, y, 14, 20],
                'segmentation': [corners],
                'area': 14 * 20,
                'iscrowd': int(i in crowd),
            }
        )
        image(root / f'{i // 2}.png')
    content = {
        'images': [
            {'id': i, 'file_name': f'{i}.png', 'height': 48, 'width': 64}
            for i in range(4)
        ],
        'annotations': notes,
        'categories': [{'id': i, 'name': n} for i, n in enumerate(CLASSES)],
    }
    file = root / f'{first}{shift}{len(crowd)}.json'
    file.write_text(json.dumps(content))
    return str(file)


def detector(file, root, *pipeline):
    return dict(
        type='CocoDataset',
        metainfo=dict(classes=CLASSES),
        ann_file=file,
        data_prefix=dict(img=str(root)),
        test_mode=True,
        pipeline=[*pipeline, PACK],
    )


def score(cfg, evaluator, scope='mmdet'):
    init_default_scope(scope)
    with redirect_stdout(None):  # pycocotools tells what it does
        dataset = DATASETS.build(cfg)
        make_fault_tolerant(dataset, skip=False)
        metrics = Evaluator(evaluator)
        metrics.dataset_meta = dataset.metainfo
        examine(dataset, 'val', None, 0, partial(score_ground_truth, metrics))
        return metrics.evaluate(len(dataset))


def metric(file):
    return dict(type='CocoMetric', ann_file=file, metric=['bbox', 'segm'])


@pytest.mark.parametrize('crowd', [(), (0, 5)])
@pytest.mark.parametrize('order', [(RESIZE, TRUTH), (TRUTH, RESIZE), (TRUTH,)])
def test_coco(tmp_path, order, crowd):
    """Wherever the validation loads its boxes."""
    file = coco(tmp_path, crowd=crowd)
    found = score(detector(file, tmp_path, LOAD, *order), metric(file))
    assert found['coco/bbox_mAP'] == found['coco/segm_mAP'] == 1


@pytest.mark.parametrize(
    ('wrong', 'low', 'high'),
    [
        (dict(first=0), 0.7, 0.9),  # pycocotools counts the id 0 as missed
        (dict(shift=1), 0, 0.1),  # the same ids, other images
    ],
)
def test_coco_with_an_evaluator_that_does_not_fit(tmp_path, wrong, low, high):
    cfg = detector(coco(tmp_path), tmp_path, LOAD, RESIZE, TRUTH)
    found = score(cfg, metric(coco(tmp_path, **wrong)))
    assert low <= found['coco/bbox_mAP'] <= high
    assert low <= found['coco/segm_mAP'] <= high


def test_coco_of_crowd_has_no_score(tmp_path):
    file = coco(tmp_path, crowd=range(8))
    found = score(detector(file, tmp_path, LOAD, TRUTH), metric(file))
    assert 'coco/bbox_mAP' not in found


@pytest.mark.parametrize('order', [(RESIZE, TRUTH), (TRUTH,)])
def test_voc(tmp_path, order):
    file = coco(tmp_path)
    steps = [{**s, 'with_mask': False} if s is TRUTH else s for s in order]
    cfg = detector(file, tmp_path, LOAD, *steps)
    found = score(cfg, dict(type='VOCMetric', metric='mAP'))
    assert found['pascal_voc/mAP'] == 1


def test_label_maps(tmp_path):
    labels = np.repeat(np.array([0, 0, 1, 255], 'u1')[:, None], 8, 1)
    for i in range(2):
        image(tmp_path / f'images/{i}.jpg', np.zeros((4, 8, 3), 'u1'))
        image(tmp_path / f'labels/{i}.png', labels)
    cfg = dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=CLASSES, palette=[[0] * 3] * 2),
        pipeline=[
            LOAD,
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    )
    found = score(cfg, dict(type='IoUMetric'), 'mmseg')
    assert found['mIoU'] == 100


def test_a_classifier_has_no_ground_truth_to_score(tmp_path):
    image(tmp_path / 'moss/0.png')
    cfg = dict(
        type='ImageFolder',
        data_prefix=dict(img_path=str(tmp_path)),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackLabelled')],
    )
    assert score(cfg, [], 'mmengine') == {}
