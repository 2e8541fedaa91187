"""Turn the ground truth of a sample into predictions, to try a metric."""

import torch
from mmengine.structures import BaseDataElement, InstanceData


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
