"""CocoMetric gives the same scores with faster-coco-eval and pycocotools."""

import json
import sys

import numpy as np
import pycocotools.mask
import pytest
import torch
from mmdet.datasets.api_wrappers import COCOeval
from mmdet.evaluation.metrics import coco_metric
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pvt_mm import compat

CLASSES = ('moss', 'stone', 'star')
IMAGES, HEIGHT, WIDTH = 40, 100, 120


def rectangle(box):
    """Pixels of a box (left, top, right, bottom)."""
    left, top, right, bottom = map(int, box)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def encode(mask):
    """Pixels as COCO's compressed text."""
    packed = pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))
    return {**packed, 'counts': packed['counts'].decode()}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """A COCO file with crowds, and predictions near its objects."""
    rng = np.random.default_rng(0)
    notes, predictions = [], []
    for number in range(IMAGES):
        found = []
        for _ in range(rng.integers(0, 8)):
            w, h = rng.uniform(5, 60, 2)
            x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
            box = np.array([x, y, x + w, y + h])
            label = int(rng.integers(len(CLASSES)))
            notes.append(
                dict(
                    id=len(notes) + 1,
                    image_id=number,
                    category_id=label,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=int(rng.random() < 0.2),
                    segmentation=encode(rectangle(box)),
                )
            )
            # mmdet's AP is of the 100 best of an image: some have more
            for _ in range(rng.integers(0, 60)):
                near = box + 3 * rng.normal(size=4)
                found.append((near.clip(0, WIDTH - 1), rng.random(), label))
        boxes = np.array([box for box, *_ in found]).reshape(-1, 4)
        sample = DetDataSample(
            metainfo=dict(img_id=number, ori_shape=(HEIGHT, WIDTH))
        )
        masks = [rectangle(box) for box in boxes]
        sample.pred_instances = InstanceData(
            bboxes=torch.from_numpy(boxes),
            scores=torch.tensor([score for _, score, _ in found]),
            labels=torch.tensor([label for *_, label in found]).long(),
            masks=torch.from_numpy(
                np.array(masks, bool).reshape(-1, HEIGHT, WIDTH)
            ),
        )
        predictions.append(sample.to_dict())
    file = tmp_path_factory.mktemp('coco') / 'truth.json'
    images = [
        dict(id=i, height=HEIGHT, width=WIDTH, file_name=f'{i}.jpg')
        for i in range(IMAGES)
    ]
    names = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
    file.write_text(
        json.dumps(dict(images=images, annotations=notes, categories=names))
    )
    return file, predictions


@pytest.mark.parametrize('metric', ['bbox', 'segm', 'proposal'])
def test_the_scores_are_the_same(drawn, metric, monkeypatch):
    file, predictions = drawn
    used = []

    def scores():
        measure = coco_metric.CocoMetric(
            ann_file=str(file), metric=metric, classwise=metric != 'proposal'
        )
        measure.dataset_meta = dict(classes=CLASSES)
        used.append(coco_metric.COCOeval)
        measure.process({}, predictions)
        return measure.evaluate(IMAGES)

    monkeypatch.setattr(coco_metric, 'COCOeval', COCOeval)
    plain = scores()
    assert compat.use_faster_coco_eval()
    fast = scores()
    assert used[0] is COCOeval and used[1] is not COCOeval
    assert fast == plain
    assert max(plain.values()) > 0.1


@pytest.mark.parametrize('change', ['text', 'share', 'sign', 'size'])
def test_ids_that_are_no_whole_numbers(drawn, tmp_path, change, monkeypatch):
    """faster-coco-eval would give 0, or fail, and pycocotools scores."""
    file, predictions = drawn
    content = json.loads(file.read_text())
    if change in ('text', 'size'):
        new = {'text': str, 'size': lambda i: i + 2**60}[change]
        for image in content['images']:
            image['id'] = new(image['id'])
        for note in content['annotations']:
            note['image_id'] = new(note['image_id'])
        predictions = [
            {**each, 'img_id': new(each['img_id'])} for each in predictions
        ]
    else:
        for note in content['annotations']:
            note['id'] = {'share': 0.5, 'sign': -1}[change] * note['id']
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(content))
    monkeypatch.setattr(coco_metric, 'COCOeval', COCOeval)
    assert compat.use_faster_coco_eval()
    scores = []
    for name, found in ((file, drawn[1]), (other, predictions)):
        measure = coco_metric.CocoMetric(ann_file=str(name))
        measure.dataset_meta = dict(classes=CLASSES)
        measure.process({}, found)
        scores.append(measure.evaluate(IMAGES))
    assert scores[0] == scores[1]


def test_it_is_used_where_it_can_be(monkeypatch):
    monkeypatch.setattr(compat, 'find_spec', lambda name: None)
    assert compat.use_faster_coco_eval() == ''
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, coco_metric.__name__)
    assert compat.use_faster_coco_eval() == ''  # a segmentor's run
