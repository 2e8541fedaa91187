"""Top-1 and top-5 accuracy of a classifier."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor


@METRICS.register_module()
class TopAccuracy(BaseMetric):
    """Top-1 and top-5 accuracy in percent; top-5 from 5 classes on."""

    def process(self, data_batch: Any, data_samples: Sequence[Tensor]) -> None:
        """Add a batch: scores (B, num_classes), labels (B,)"""
        scores, labels = data_samples
        best = scores.topk(min(5, scores.shape[1])).indices.cpu()
        hits = best == labels.cpu()[:, None]
        self.results += [row.tolist() for row in hits]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Percent of images whose label is the best score, or in the best 5.

        Args:
            results: per image, whether each of its best scores is the label.
        """
        scores = {'top1': 100 * sum(row[0] for row in results) / len(results)}
        if len(results[0]) == 5:
            scores['top5'] = 100 * sum(map(any, results)) / len(results)
        return scores
