"""Scores per class of kept predictions, from mmdet's and mmseg's metrics."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from ..errors import UsageError

SCORES = {'bbox': 'box AP', 'segm': 'mask AP'}


def check_results(dataset: Any, results: Sequence[Mapping]) -> None:
    """Require a prediction for each image of a data set, and no others.

    Args:
        dataset: mmdet's test data set, built.
        results: predictions as ``tools/test.py --out`` keeps them.

    Raises:
        UsageError: they are of another data set.
    """
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    images = {info['img_id']: info for info in infos}
    classes = len(dataset.metainfo['classes'])
    for result in results:
        name, labels = result['img_id'], result['pred_instances']['labels']
        if name not in images:
            why = f'have an image {name} that the test data set does not have'
        elif difference := other_image(images[name], result):
            why = f'have another image {name}: {difference}'
        elif len(labels) and labels.max() >= classes:
            why = f'have a class {int(labels.max())} of 0 to {classes - 1}'
        else:
            continue
        raise UsageError(f'the predictions {why}: give the config they are of')
    count = Counter(result['img_id'] for result in results)
    if len(count) != len(images) or max(count.values(), default=1) > 1:
        raise UsageError(
            f'there are {len(results)} predictions, of {len(count)} of the '
            f'{len(images)} images of the test data set: give the config '
            'they are of'
        )


def other_image(info: Mapping, result: Mapping) -> str:
    """How the image of a prediction differs from the data set's; or ''."""
    files = [Path(each.get('img_path') or '').name for each in (info, result)]
    if all(files) and files[0] != files[1]:
        return f'it is {files[1]}, and {files[0]} in the data'
    size = (info.get('height'), info.get('width'))
    shape = tuple(result['ori_shape'][:2])
    if None not in size and size != shape:
        return f'its height and width are {shape}, and {size} in the data'
    return ''


def average_precision(
    cfg: Config, dataset: Any, results: Sequence[Mapping]
) -> dict[str, list[float]]:
    """AP per class in percent, by name, from CocoMetric and VOCMetric.

    Other metrics of the config have no scores per class.
    """
    from mmdet.evaluation import CocoMetric, VOCMetric

    metrics = cfg.test_evaluator
    columns: dict[str, list[float]] = {}
    for config in metrics if isinstance(metrics, list) else [metrics]:
        evaluator = Evaluator(dict(config))
        evaluator.dataset_meta = dataset.metainfo
        (metric,) = evaluator.metrics
        if isinstance(metric, CocoMetric):
            found = coco_precision(evaluator, metric, results)
        elif isinstance(metric, VOCMetric):
            found = voc_precision(metric, dataset, results)
        else:
            continue
        for name, values in found:
            name = f'{name} ({metric.prefix})' if name in columns else name
            columns[name] = values
    return columns


def coco_precision(
    evaluator: Evaluator, metric: Any, results: Sequence[Mapping]
) -> Iterator[tuple[str, list[float]]]:
    """Name and AP per class in percent, of boxes and masks."""
    metric.classwise, metric.format_only = True, False
    for kind in [kind for kind in metric.metrics if kind in SCORES]:
        metric.metrics = [kind]
        scores = evaluator.offline_evaluate(list(results))
        yield (
            SCORES[kind],
            [
                100
                * scores.get(f'{metric.prefix}/{name}_precision', float('nan'))
                for name in metric.dataset_meta['classes']
            ],
        )


def voc_precision(
    metric: Any, dataset: Any, results: Sequence[Mapping]
) -> Iterator[tuple[str, list[float]]]:
    """Name and AP per class in percent, for each overlap of the metric."""
    from mmdet.evaluation import eval_map

    if metric.metric != 'mAP':
        return  # recall, of all classes together
    truths = {}
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        truths[info['img_id']] = info['instances']
    for result in results:
        truth = truths[result['img_id']]
        parts = [[o for o in truth if o['ignore_flag'] == f] for f in (0, 1)]
        real, ignored = map(as_instances, parts)
        given = dict(gt_instances=real, ignored_instances=ignored)
        metric.process({}, [{**result, **given}])
    annotations, predictions = zip(*metric.results, strict=True)
    for overlap in metric.iou_thrs:
        _, found = eval_map(
            predictions,
            annotations,
            iou_thr=overlap,
            logger='silent',
            eval_mode=metric.eval_mode,
            use_legacy_coordinate=True,
        )
        yield (
            f'AP{overlap * 100:02.0f}',
            [
                100 * float(each['ap']) if each['num_gts'] else float('nan')
                for each in found
            ],
        )


def as_instances(objects: Sequence[Mapping]) -> InstanceData:
    """Objects of mmdet's data set as its metrics take them."""
    boxes = torch.tensor([o['bbox'] for o in objects], dtype=torch.float)
    return InstanceData(
        bboxes=boxes.view(-1, 4),
        labels=torch.tensor(
            [o['bbox_label'] for o in objects], dtype=torch.long
        ),
    )
