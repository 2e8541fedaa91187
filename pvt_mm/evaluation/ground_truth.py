"""Turn the ground truth of a sample into predictions, to try a metric."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement, InstanceData

# Ends of names of scores -> the best value.
BEST = {'mAP': 1, 'mIoU': 100}
SEGM = 'segm'  # CocoMetric's name for the scores of masks
SCORED = 100  # predictions of an image, as COCO's metric has it


def as_predictions(sample: BaseDataElement) -> BaseDataElement:
    """The sample with its ground truth as predictions of score 1.

    Ignored objects are no predictions.

    Args:
        sample: of mmdet with ``gt_instances``, whose boxes are (N, 4) in
            pixels and whose masks are (N, H, W), or of mmseg with
            ``gt_sem_seg``, (1, H, W); of another kind it stays as it is.
    """
    answer = sample.new()
    if 'gt_sem_seg' in sample:
        answer.pred_sem_seg = sample.gt_sem_seg
    if 'gt_instances' in sample:
        truth = sample.gt_instances
        found = InstanceData(
            bboxes=getattr(truth.bboxes, 'tensor', truth.bboxes),
            labels=truth.labels,
            scores=torch.ones(len(truth.labels)),
        )
        if has_masks(sample):
            masks = truth.masks.resize(sample.ori_shape).to_ndarray()
            found.masks = torch.from_numpy(masks).bool()
        answer.pred_instances = found
    return answer


def has_truth(sample: BaseDataElement) -> bool:
    """Whether a sample has a ground truth that a metric can score."""
    return 'gt_sem_seg' in sample or 'bboxes' in sample.get('gt_instances', ())


def has_masks(sample: BaseDataElement) -> bool:
    """Whether the ground truth of a sample has masks."""
    return 'masks' in sample.get('gt_instances', ())


def score_ground_truth(evaluator: Evaluator, part: Any, sample: Any) -> None:
    """Give the ground truth of a sample to an evaluator as predictions.

    Args:
        evaluator: of the data set, for this only; without masks in the
            sample it scores none.
        part: the data set, or the one inside a wrapper.
        sample: without a ground truth that can be scored nothing is done.
    """
    if not has_truth(sample):
        return
    found = as_predictions(sample)
    if 'pred_instances' in found and loads_early(part):
        factors = torch.tensor(sample.scale_factor).repeat(2)
        found.pred_instances.bboxes /= factors
    for metric in evaluator.metrics:
        # the file has masks, but this pipeline loads none
        if SEGM in getattr(metric, 'metrics', ()) and not has_masks(sample):
            metric.metrics = [m for m in metric.metrics if m != SEGM]
    evaluator.process([found], {'data_samples': [sample]})


def best_scores(scores: Mapping[str, Any]) -> Iterator[tuple]:
    """(name, value, the best value) of the scores that have a best value."""
    for name, value in scores.items():
        for end, best in BEST.items():
            if name.endswith(end):
                # a metric of the user's own may give a share, not percent
                best = 1 if best / 200 < value <= 1 else best
                yield name, float(value), best


def loads_early(part: Any) -> bool:
    """Whether boxes are loaded before the image is resized, and with it."""
    steps = getattr(getattr(part, 'pipeline', None), 'transforms', ())
    names = [type(transform).__name__ for transform in steps]
    loads = [i for i, name in enumerate(names) if 'LoadAnnotations' in name]
    return bool(loads) and any('Resize' in n for n in names[loads[0] :])
