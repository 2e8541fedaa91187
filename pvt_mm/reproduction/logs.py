"""Training logs of several code bases -> scores by step; two logs compared."""

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import UsageError
from .plan import TOLERANCE

# Our name <- names in logs of mmengine, mmdet 2, mmseg 0 and detectron2.
NAMES = {
    'coco/bbox_mAP': 'box_AP',
    'bbox_mAP': 'box_AP',
    'bbox/AP': 'box_AP',
    'coco/segm_mAP': 'mask_AP',
    'segm_mAP': 'mask_AP',
    'segm/AP': 'mask_AP',
    'mIoU': 'mIoU',
    'top1': 'top1',
}
STEPS = ('step', 'epoch', 'iteration', 'iter')
Curve = dict[int, dict[str, float]]


def read_log(path: Path) -> Curve:
    """The scores of a log by epoch or iteration, in percent.

    Raises:
        UsageError: it is no log with one JSON object per line, or has no
            score that we know.
    """
    try:
        lines = path.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
        curve = {step(r): known(r) for r in records if known(r)}
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f'{path} is no training log (one JSON object per line): {error}'
        ) from error
    if not curve:
        raise UsageError(
            f'{path} has none of the scores {", ".join(NAMES)}: give the '
            'scalars.json of mmengine, the .log.json of mmdet 2 or mmseg 0, '
            'or the metrics.json of detectron2'
        )
    return in_percent(curve)


def step(record: Mapping) -> int:
    """The epoch or iteration of a record."""
    return next(int(record[key]) for key in STEPS if key in record)


def known(record: Mapping) -> dict[str, float]:
    """The scores of a record under our names."""
    return {
        NAMES[key]: float(value)
        for key, value in record.items()
        if key in NAMES and isinstance(value, int | float)
    }


def in_percent(curve: Curve) -> Curve:
    """The curve in percent: a log whose scores are all below 1 has shares."""
    highest = max(max(scores.values()) for scores in curve.values())
    unit = 100 if highest <= 1 else 1
    return {
        place: {key: value * unit for key, value in scores.items()}
        for place, scores in curve.items()
    }


def compare(expected: Curve, seen: Curve) -> tuple[list[str], bool]:
    """A line per step that both have, and whether the last one agrees.

    Raises:
        UsageError: they have no step in common.
    """
    common = sorted(expected.keys() & seen.keys())
    if not common:
        raise UsageError(
            f'the logs have no step in common: expected {sorted(expected)}, '
            f'seen {sorted(seen)}'
        )
    lines, good = [], True
    for place in common:
        gaps = {
            key: seen[place][key] - value
            for key, value in expected[place].items()
            if key in seen[place]
        }
        good = all(abs(g) <= TOLERANCE[k] + 1e-6 for k, g in gaps.items())
        lines += [
            f'step {place}: {key} expected {expected[place][key]:.2f}, seen '
            f'{seen[place][key]:.2f}, {gap:+.2f}'
            for key, gap in gaps.items()
        ]
    return lines, good
