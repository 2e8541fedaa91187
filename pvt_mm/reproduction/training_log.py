"""Read the training logs of mmengine, mmdet 2, mmseg 0 and detectron2.

Each has one JSON object per line: scalars.json, .log.json, metrics.json.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError

SCALARS = '*/vis_data/scalars.json'  # mmengine's, in a folder per start
# Name in these logs -> ours, and what makes it a percentage.
SCORES = {
    'coco/bbox_mAP': ('box_AP', 100),
    'bbox_mAP': ('box_AP', 100),
    'bbox/AP': ('box_AP', 1),
    'coco/segm_mAP': ('mask_AP', 100),
    'segm_mAP': ('mask_AP', 100),
    'segm/AP': ('mask_AP', 1),
    'mIoU': ('mIoU', 1),
    'top1': ('top1', 1),
}
OLD_MIOU = {'mIoU': ('mIoU', 100)}  # mmseg 0 alone; its records have a mode
# Names of losses and places in these logs, the first that is there.
LOSSES = ('loss', 'total_loss')
STEPS = ('step', 'epoch', 'iteration', 'iter')
Points = list[tuple[int, float]]
Scores = dict[int, dict[str, float]]


class TrainingLog(NamedTuple):
    """The curves of a training.

    Attributes:
        name: the path as it was given.
        config: name of its config, empty if it is not known.
        losses: (iteration, training loss).
        rates: (iteration, learning rate).
        scores: epoch or iteration -> score in percent by name.
        by_epoch: whether the scores are at epochs.
    """

    name: str
    config: str
    losses: Points
    rates: Points
    scores: Scores
    by_epoch: bool

    def curves(self) -> dict[str, Points]:
        """Score by name -> (epoch or iteration, percent)."""
        names = sorted(
            {name for found in self.scores.values() for name in found}
        )
        return {
            name: [(x, s[name]) for x, s in self.scores.items() if name in s]
            for name in names
        }


def read_log(path: str | Path) -> TrainingLog:
    """Read a work dir, or one log file.

    A run that was resumed has a log per start: where they overlap, the later
    one counts.

    Raises:
        UsageError: there is no log, or neither a loss nor a score in it.
    """
    place = Path(path)
    files = sorted(place.glob(SCALARS)) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise UsageError(
            f'{path} has no {SCALARS}: give the work dir of a training, or '
            'a log with one JSON object per line'
        )
    losses, rates, scores, epochs = {}, {}, {}, 0
    for file in files:
        records = [r for r in read_records(file) if r.keys() & set(STEPS)]
        length = epoch_length(records)
        for record in records:
            epochs = max(epochs, record.get('epoch') or 0)
            loss = next((record[k] for k in LOSSES if k in record), None)
            if found := known_scores(record):
                put(scores, step(record), found)
            elif loss is not None:
                put(losses, iteration(record, length), loss)
                if 'lr' in record:
                    put(rates, iteration(record, length), record['lr'])
    if not losses and not scores:
        raise UsageError(f'{path} has neither a loss nor a score')
    return TrainingLog(
        *(str(path), config_of(place)),
        *(list(losses.items()), list(rates.items())),
        *(scores, max(scores, default=0) <= epochs),
    )


def read_scores(path: str | Path) -> Scores:
    """The scores of a log in percent, by epoch or iteration.

    Raises:
        UsageError: it is no log, or has no score that we know.
    """
    scores = read_log(path).scores
    if not scores:
        raise UsageError(
            f'{path} has none of the scores {", ".join(SCORES)}: give the '
            'scalars.json of mmengine, the .log.json of mmdet 2 or mmseg 0, '
            'or the metrics.json of detectron2'
        )
    return scores


def read_records(file: str | Path) -> list[dict]:
    """The JSON objects of a log file.

    Raises:
        UsageError: it has something else.
    """
    try:
        lines = Path(file).read_text().splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f'{file} is no training log (one JSON object per line): {error}'
        ) from error
    return [numbers(record) for record in records if isinstance(record, dict)]


def numbers(record: dict) -> dict:
    """What is a number in a record; steps are whole ones."""
    return {
        key: value
        for key, value in record.items()
        if key == 'mode'
        or (isinstance(value, float) and key not in STEPS)
        or (isinstance(value, int) and abs(value) < 2**53)
    }


def put(curve: dict, place: int, value: object) -> None:
    """Add a point, and drop those of an earlier start from there on."""
    for old in [x for x in curve if x >= place]:
        del curve[old]
    curve[place] = value


def step(record: dict) -> int:
    """The epoch or iteration of a record."""
    return next(int(record[key]) for key in STEPS if key in record)


def epoch_length(records: Sequence[dict]) -> int:
    """Iterations of an epoch, where a log counts them anew in each.

    mmdet 2 does; 0 for the others.
    """
    places = [
        (r['epoch'], r['iter'])
        for r in records
        if r.get('mode') == 'train' and 'epoch' in r and 'iter' in r
    ]
    falls = any(
        b < a for (_, a), (_, b) in zip(places, places[1:], strict=False)
    )
    return max(i for _, i in places) if falls else 0


def iteration(record: dict, length: int) -> int:
    """The iteration of a record, counted over the whole training."""
    if length:
        return (record['epoch'] - 1) * length + record['iter']
    if 'step' not in record and 'iter' in record:
        return record['iter']
    return step(record)


def known_scores(record: dict) -> dict[str, float]:
    """The scores of a record under our names, in percent."""
    known = SCORES | OLD_MIOU if 'mode' in record else SCORES
    return {
        name: float(record[key]) * unit
        for key, (name, unit) in known.items()
        if isinstance(record.get(key), int | float)
    }


def config_of(folder: Path) -> str:
    """The name of the config that mmengine keeps in a work dir."""
    configs = sorted(folder.glob('*.py')) if folder.is_dir() else []
    return configs[0].stem if len(configs) == 1 else ''
