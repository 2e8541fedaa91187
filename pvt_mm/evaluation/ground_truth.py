"""Turn the ground truth of a sample into predictions, to try a metric."""

from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement, InstanceData
from torch.utils.data import DataLoader

from ..datasets.checks.fault_tolerant_pipeline import inner


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
        if 'masks' in truth:
            masks = truth.masks.resize(sample.ori_shape).to_ndarray()
            found.masks = torch.from_numpy(masks).bool()
        answer.pred_instances = found
    return answer


def score_ground_truth(
    evaluator: Evaluator, dataset: Any, workers: int = 0
) -> dict[str, float]:
    """The scores of the ground truth of a data set as predictions.

    Args:
        evaluator: of the data set, without results; empty after it.
        dataset: of a detector or segmentor; others have no scores.
        workers: processes that read; 0 reads in this one.
    """
    evaluator.dataset_meta = dataset.metainfo
    early = any(map(loads_early, inner(dataset)))
    for batch in DataLoader(
        dataset, num_workers=workers, collate_fn=pseudo_collate
    ):
        if 'data_samples' not in batch:
            return {}
        found = [as_predictions(sample) for sample in batch['data_samples']]
        for sample in found if early else ():
            if 'pred_instances' in sample:
                factors = torch.tensor(sample.scale_factor).repeat(2)
                sample.pred_instances.bboxes /= factors
        evaluator.process(found, batch)
    return evaluator.evaluate(len(dataset))


def loads_early(part: Any) -> bool:
    """Whether boxes are loaded before the image is resized, and with it."""
    steps = getattr(getattr(part, 'pipeline', None), 'transforms', ())
    names = [type(transform).__name__ for transform in steps]
    loads = [i for i, name in enumerate(names) if 'LoadAnnotations' in name]
    return bool(loads) and any('Resize' in n for n in names[loads[0] :])
