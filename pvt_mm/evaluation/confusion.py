"""Confusion matrix of the predictions of a test run, and rows of scores."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from torch import Tensor

from ..datasets.checks.files import problem
from ..datasets.image_names import image_paths, label_map_names
from ..errors import UsageError


def detections(
    dataset: Any, results: Sequence[Mapping], score: float, iou: float
) -> np.ndarray:
    """The confusion matrix of a detector.

    A found object, the best score first, is matched with the true object
    that it overlaps most, whatever its class. One that lies on a crowd is
    not counted.

    Args:
        dataset: mmdet's test data set, built.
        results: predictions as ``tools/test.py --out`` keeps them.
        score: found objects below are left out.
        iou: least overlap of two boxes that are the same object.

    Returns:
        int64 (classes + 1, classes + 1), true by found; the last row is of
        no object, the last column of objects that were not found
    """
    classes = len(dataset.metainfo['classes'])
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    truths = {info['img_id']: info['instances'] for info in infos}
    for result in results:
        pairs = match(truths[result['img_id']], result, score, iou)
        for true, found in pairs:
            matrix[true, found] += 1  # -1, for none, is the last index
    return matrix


def match(
    truth: Sequence[Mapping], result: Mapping, score: float, iou: float
) -> Iterator[tuple[int, int]]:
    """Match the found objects of an image with the true ones.

    Args:
        truth: instances of mmdet's data set.
        result: prediction with scores (N,), bboxes (N, 4), labels (N,).
        score: found objects below are left out.
        iou: least overlap of two boxes that are the same object.

    Returns:
        (true class, found class) of each object; -1 for none
    """
    found = result['pred_instances']
    keep = found['scores'] >= score
    order = found['scores'][keep].argsort(descending=True, stable=True)
    boxes = found['bboxes'][keep][order]
    labels = found['labels'][keep][order].tolist()
    real = [o for o in truth if not o['ignore_flag']]
    crowd = [o['bbox'] for o in truth if o['ignore_flag']]
    overlaps = overlap(boxes, [o['bbox'] for o in real])
    free = torch.ones(len(real), dtype=torch.bool)
    on_crowd = overlap(boxes, crowd, mode='iof')
    for i, label in enumerate(labels):
        candidates = overlaps[i].where(free, -1)
        if len(real) and candidates.max() >= iou:
            taken = int(candidates.argmax())
            free[taken] = False
            yield real[taken]['bbox_label'], label
        elif not (on_crowd[i] >= iou).any():
            yield -1, label
    for place in free.nonzero().flatten().tolist():
        yield real[place]['bbox_label'], -1


def overlap(boxes: Tensor, others: list, mode: str = 'iou') -> Tensor:
    """Overlap of boxes (N, 4) and others (M, 4) -> (N, M)"""
    from mmdet.structures.bbox import bbox_overlaps

    return bbox_overlaps(boxes, boxes.new_tensor(others).view(-1, 4), mode)


def label_maps(dataset: Any, folder: Path) -> np.ndarray:
    """The confusion matrix of a segmentor, in pixels.

    Args:
        dataset: mmseg's test data set, built.
        folder: label maps as ``tools/test.py --out`` keeps them: counted
            from 1 where label 0 is no class (reduce_zero_label).

    Returns:
        int64 (classes, classes), true by found

    Raises:
        UsageError: a label map is missing, or is of another image or config.
    """
    from mmseg.datasets.transforms import LoadAnnotations

    load = LoadAnnotations()
    classes = len(dataset.metainfo['classes'])
    matrix = np.zeros((classes, classes), np.int64)
    names = label_map_names(image_paths(dataset))
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        file = folder / names[info['img_path']]
        if not file.is_file():
            raise UsageError(
                f'{file} is not there: give the folder that tools/test.py '
                '--out wrote for this config'
            )
        for path in (str(file), info['seg_map_path']):
            if fault := problem(path):
                raise UsageError(f'{path} {fault}')
        found = mmcv.imread(file, 'unchanged').astype(np.int64)
        found -= bool(info['reduce_zero_label'])
        true = load(info)['gt_seg_map'].astype(np.int64)
        if found.shape != true.shape or found.min() < 0:
            raise UsageError(
                f'{file} is no label map of {info["img_path"]} from '
                'tools/test.py --out with this config'
            )
        known = (true != dataset.ignore_index) & (true < classes)
        pairs = true[known] * classes + found[known].clip(max=classes - 1)
        matrix += np.bincount(pairs, minlength=classes**2).reshape(
            classes, classes
        )
    return matrix


def intersections(matrix: np.ndarray) -> dict[str, list[float]]:
    """IoU and accuracy per class in percent, from mmseg's IoUMetric.

    Args:
        matrix: pixels (classes, classes), true by found.
    """
    from mmseg.evaluation import IoUMetric

    hits = matrix.diagonal().copy()
    found, true = matrix.sum(0), matrix.sum(1)
    scores = IoUMetric.total_area_to_metrics(
        *map(torch.from_numpy, (hits, true + found - hits, found, true)),
        metrics=['mIoU'],
    )
    return {
        'IoU': (100 * scores['IoU']).tolist(),
        'accuracy': (100 * scores['Acc']).tolist(),
    }


def score_rows(
    names: Sequence[str], columns: Mapping[str, Sequence]
) -> Iterable[list[str]]:
    """Rows of text: a head, one per class, means of scores, sums of counts.

    Args:
        names: of the classes.
        columns: name -> a score in percent (float) or count per class.
    """
    yield ['class', *columns]
    for name, *values in zip(names, *columns.values(), strict=True):
        yield [name, *map(cell, values)]
    yield ['mean, or sum', *map(cell, map(mean_or_sum, columns.values()))]


def mean_or_sum(values: Sequence) -> float:
    """The mean of the scores that there are, or the sum of counts."""
    if not isinstance(values[0], float):
        return sum(values)
    there = [value for value in values if not np.isnan(value)]
    return sum(there) / len(there) if there else float('nan')


def cell(value: float) -> str:
    """A count, or a score in percent; '-' where there is none."""
    if isinstance(value, float):
        return '-' if np.isnan(value) else f'{value:.1f}'
    return f'{value}'
