"""Pictures of a run: what is read, which boxes are drawn, what is written."""

import json

import cv2
import pytest
import torch

from pvt_mm.datasets.synthetic import draw_coco
from pvt_mm.visualization.figures import (
    draw_curves,
    draw_detections,
    found_boxes,
    read_scalars,
    true_boxes,
)

ROWS = [
    {'AP': 0.0, 'step': 0},
    {'loss': 2.0, 'loss_cls': 1.5, 'step': 10},
    {'loss': 1.0, 'loss_cls': 0.5, 'step': 20},
    {'AP': 0.5, 'step': 1},
]


@pytest.fixture
def scalars(tmp_path):
    file = tmp_path / 'scalars.json'
    file.write_text('\n'.join(map(json.dumps, ROWS)) + '\n')
    return file


def found():
    return {
        'bboxes': torch.tensor([[2.0, 4.0, 30.0, 40.0], [0.0, 0.0, 5.0, 5.0]]),
        'labels': torch.tensor([1, 0]),
        'scores': torch.tensor([0.875, 0.125]),
    }


def test_read_scalars_parts_losses_from_scores(scalars):
    losses, scores = read_scalars(scalars)
    assert losses == ROWS[1:3]
    assert scores == [ROWS[0], ROWS[3]]


def test_a_network_that_found_nothing_scores_zero(scalars):
    scalars.write_text('{"time": 0.1, "step": 0}\n{"AP": 0.5, "step": 1}')
    scores = read_scalars(scalars, ['AP'])[1]
    assert [r['AP'] for r in scores] == [0.0, 0.5]


def test_curves_are_written_at_a_readable_size(scalars, tmp_path):
    draw_curves(tmp_path / 'new/curves.png', scalars, {'AP': 'AP'}, 'toy')
    picture = cv2.imread(str(tmp_path / 'new/curves.png'))
    assert picture.shape == (600, 700, 3)
    assert (picture < 128).any()


def test_only_boxes_with_a_score_are_drawn():
    assert found_boxes(found(), ['disc', 'square'], 0.4) == [
        (2.0, 4.0, 30.0, 40.0, 1, 'square 0.88')
    ]
    assert len(found_boxes(found(), ['disc', 'square'], 0.1)) == 2


def test_true_boxes_have_corners_and_name_the_crowd():
    truth = {
        'categories': [{'id': 7, 'name': 'disc'}, {'id': 9, 'name': 'star'}],
        'annotations': [
            {
                'image_id': 1,
                'bbox': [2, 3, 10, 20],
                'category_id': 9,
                'iscrowd': 1,
            },
            {
                'image_id': 2,
                'bbox': [0, 0, 1, 1],
                'category_id': 7,
                'iscrowd': 0,
            },
        ],
    }
    boxes = true_boxes(truth, 1, ['disc', 'star'])
    assert boxes == [(2, 3, 12, 23, 1, 'star crowd')]


def test_detections_stand_below_the_truth(tmp_path):
    draw_coco(tmp_path, train=1, val=2, size=64)
    results = [{'img_id': n, 'pred_instances': found()} for n in (1, 2)]
    draw_detections(
        tmp_path / 'found.png',
        tmp_path / 'annotations/instances_val2017.json',
        tmp_path / 'val2017',
        results,
    )
    picture = cv2.imread(str(tmp_path / 'found.png'))
    assert picture.shape == (520, 480, 3)
