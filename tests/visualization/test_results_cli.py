"""Scores per class and the confusion matrix of predictions that were kept."""

import csv
import json
import math

import cv2
import numpy as np
import torch
from mmengine.fileio import dump
from small_runs import one_error, say

from pvt_mm.datasets.synthetic.scene import CLASSES
from pvt_mm.evaluation.confusion import match
from pvt_mm.visualization import results_cli


def found(boxes, labels, scores):
    return {
        'bboxes': torch.tensor(boxes, dtype=torch.float).view(-1, 4),
        'labels': torch.tensor(labels, dtype=torch.long),
        'scores': torch.tensor(scores),
    }


def true(box, label, ignore=0):
    return dict(bbox=box, bbox_label=label, ignore_flag=ignore)


def test_each_object_is_matched_once():
    truth = [
        true([0, 0, 10, 10], 0),
        true([20, 0, 30, 10], 1),
        true([40, 40, 90, 90], 2, ignore=1),
    ]
    result = {
        'pred_instances': found(
            [[0, 0, 10, 9], [0, 0, 10, 10], [21, 0, 30, 10], [50, 50, 60, 60]]
            + [[70, 0, 80, 10], [0, 0, 10, 10]],
            [0, 1, 0, 2, 2, 0],
            [0.9, 0.8, 0.7, 0.6, 0.5, 0.1],
        )
    }
    pairs = sorted(match(truth, result, 0.3, 0.5))
    # right; a second box on it; a wrong class; on a crowd; on nothing
    assert pairs == [(-1, 1), (-1, 2), (0, 0), (1, 0)]
    nothing = {'pred_instances': found([], [], [])}
    assert sorted(match(truth, nothing, 0.3, 0.5)) == [(0, -1), (1, -1)]
    assert list(match([], nothing, 0.3, 0.5)) == []


def test_the_most_frequent_mistakes_are_named():
    matrix = np.array([[5, 3, 0], [1, 8, 1], [4, 0, 0]])
    names = (['a', 'b', 'no object'], ['a', 'b', 'not found'])
    assert list(results_cli.mistakes(matrix, *names, most=3)) == [
        'no object -> a: 4 (100 %)',
        'a -> b: 3 (38 %)',
        'b -> a: 1 (10 %)',
    ]
    assert not list(results_cli.mistakes(np.diag([1, 2, 3]), *names))


def rows_of(path):
    return list(csv.reader(path.open()))


def test_perfect_detections_score_all(configs, drawn, tmp_path, capsys):
    truth = json.loads(
        (drawn / 'coco/annotations/instances_val2017.json').read_text()
    )
    results, counts = [], [0] * len(CLASSES)
    for image in truth['images']:
        notes = [
            a
            for a in truth['annotations']
            if a['image_id'] == image['id'] and not a['iscrowd']
        ]
        boxes = np.array([a['bbox'] for a in notes]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [a['category_id'] - 1 for a in notes]
        for label in labels:
            counts[label] += 1
        one = found(boxes.tolist(), labels, [0.9] * len(labels))
        shape = (image['height'], image['width'])
        known = {'img_id': image['id'], 'ori_shape': shape}
        results.append({**known, 'pred_instances': one})
    dump(results, tmp_path / 'found.pkl')
    argv = [configs['det'], tmp_path / 'found.pkl', '--out', tmp_path / 'out']
    status, out, _ = say(capsys, results_cli.main, *argv)
    assert status == 0
    table = rows_of(tmp_path / 'out/classes.csv')
    assert table[0] == ['class', 'objects', 'box AP']
    for name, count, row in zip(CLASSES, counts, table[1:], strict=False):
        score = '100.0' if count else '-'
        assert row == [name, str(count), score]
        assert f'{name:24}{count:>12}{score:>12}' in out
    assert table[-1] == ['mean, or sum', str(sum(counts)), '100.0']
    matrix = rows_of(tmp_path / 'out/confusion.csv')
    assert [r[1:] for r in matrix[1:]] == [
        [str(count if i == j else 0) for j in range(6)]
        for i, count in enumerate([*counts, 0])
    ]
    assert cv2.imread(str(tmp_path / 'out/confusion.png')) is not None


def test_label_maps_give_the_scores_of_the_test_run(
    configs, drawn, tmp_path, capsys
):
    truth = drawn / 'ade20k/annotations/validation'
    maps = tmp_path / 'maps'
    maps.mkdir()
    pixels = np.zeros((7, 7), np.int64)  # true by found, counted from 1
    for path in truth.iterdir():
        right = cv2.imread(str(path), -1)
        wrong = np.where(right == 3, 2, right).clip(1)
        wrong[:3] = 1
        cv2.imwrite(str(maps / path.name), wrong)
        np.add.at(pixels, (right.ravel(), wrong.ravel()), 1)
    matrix = pixels[1:, 1:]
    argv = [configs['seg'], maps, '--out', tmp_path / 'out']
    assert say(capsys, results_cli.main, *argv)[0] == 0
    kept = rows_of(tmp_path / 'out/confusion.csv')
    assert [list(map(int, r[1:])) for r in kept[1:]] == matrix.tolist()
    for i, row in enumerate(rows_of(tmp_path / 'out/classes.csv')[1:7]):
        union = matrix[i].sum() + matrix[:, i].sum() - matrix[i, i]
        iou = 100 * matrix[i, i] / union if union else math.nan
        assert row[2] == ('-' if math.isnan(iou) else f'{iou:.1f}')
    next(maps.iterdir()).unlink()
    status, _, said = say(capsys, results_cli.main, *argv)
    assert status == 1 and 'is not there: give the folder' in one_error(said)


def test_predictions_that_are_none_are_one_sentence(configs, tmp_path, capsys):
    (tmp_path / 'text.pkl').write_text('text')
    dump([{'img_id': 1}], tmp_path / 'other.pkl')
    foreign = {'img_id': 99, 'ori_shape': (9, 9)}
    foreign['pred_instances'] = found([], [], [])
    dump([foreign], tmp_path / 'foreign.pkl')
    for kind, name, text in (
        ('det', 'no.pkl', 'no.pkl cannot be read: No such file'),
        ('det', 'text.pkl', 'text.pkl is no pickle of tensors and plain'),
        ('det', 'other.pkl', 'other.pkl holds no predictions of'),
        ('det', 'foreign.pkl', 'an image 99 that the test data set'),
        ('seg', 'text.pkl', 'is no folder: give the label maps'),
    ):
        argv = [configs[kind], tmp_path / name, '--out', tmp_path / 'out']
        status, _, said = say(capsys, results_cli.main, *argv)
        assert status == 1 and text in one_error(said)
        assert not (tmp_path / 'out').exists()


def test_nothing_found_is_a_sentence_and_no_warning(
    configs, drawn, tmp_path, capsys, recwarn
):
    truth = json.loads(
        (drawn / 'coco/annotations/instances_val2017.json').read_text()
    )
    results = [
        {
            'img_id': image['id'],
            'ori_shape': (image['height'], image['width']),
            'pred_instances': found([], [], []),
        }
        for image in truth['images']
    ]
    dump(results, tmp_path / 'found.pkl')
    argv = [configs['det'], tmp_path / 'found.pkl', '--out', tmp_path / 'out']
    status, out, _ = say(capsys, results_cli.main, *argv)
    assert status == 0
    assert 'nothing was found in any image' in out
    assert rows_of(tmp_path / 'out/classes.csv')[-1][-1] == '-'
    assert not [w for w in recwarn if 'empty slice' in str(w.message)]
