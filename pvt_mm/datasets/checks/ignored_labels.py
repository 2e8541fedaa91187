"""Tell the data sets of a segmentor which label its heads or metrics ignore.

mmseg has an ``ignore_index`` in each data set, head and metric. Heads and
metrics decide: the data set's own is read by no loss.
"""

from typing import Any

from torch import nn

from .fault_tolerant_pipeline import tolerant_parts


def heads_of(model: Any) -> dict[str, Any]:
    """The ``ignore_index`` of each head, by its key in the config.

    Args:
        model: built, also inside a wrapper; only a segmentor's heads ignore.
    """
    model = getattr(model, 'module', model)
    found = {}
    for name in ('decode_head', 'auxiliary_head'):
        part = getattr(model, name, None)
        several = isinstance(part, nn.ModuleList)
        for i, head in enumerate(part if several else [part]):
            if hasattr(head, 'ignore_index'):
                key = f'model.{name}{f".{i}" if several else ""}.ignore_index'
                found[key] = head.ignore_index
    return found


def metrics_of(evaluator: Any, mode: str) -> dict[str, Any]:
    """The ``ignore_index`` of the metrics that have one.

    Args:
        evaluator: mmengine's, of the loop; None if it has none.
        mode: 'val' or 'test'.
    """
    metrics = getattr(evaluator, 'metrics', ())
    return {
        f'{mode}_evaluator{f".{i}" if metrics[1:] else ""}.ignore_index': (
            metric.ignore_index
        )
        for i, metric in enumerate(metrics)
        if hasattr(metric, 'ignore_index')
    }


def set_ignored(dataset: Any, given: dict[str, Any]) -> None:
    """Let the pipelines accept the label that all of these ignore.

    Args:
        dataset: as it was built, after :func:`make_fault_tolerant`.
        given: of :func:`heads_of` or :func:`metrics_of`; without any, the
            data set's own ignore_index counts.
    """
    for part in tolerant_parts(dataset) if given else ():
        labels = set(given.values())
        part.pipeline.ignore = labels if len(labels) == 1 else set()
        part.pipeline.ignored_by = ', '.join(
            f'{key}={label}' for key, label in given.items()
        )
