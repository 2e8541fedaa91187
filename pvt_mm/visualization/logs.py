"""Logs of trainings -> their curves."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from ..reproduction.logs import in_percent, known, step

SCALARS = '*/vis_data/scalars.json'  # mmengine's, in a folder per start
# Names of the total loss in logs of the MM libraries and of detectron2.
LOSSES = ('loss', 'total_loss')
Points = list[tuple[int, float]]


class Run(NamedTuple):
    """The curves of a training.

    Attributes:
        name: as it was given.
        config: name of its config, empty if it is not known.
        losses: the training loss at iterations.
        rates: the learning rate at iterations.
        scores: in percent, by name, at epochs or iterations.
        by_epoch: whether the scores are at epochs.
    """

    name: str
    config: str
    losses: Points
    rates: Points
    scores: dict[str, Points]
    by_epoch: bool


def read_run(path: str) -> Run:
    """A work dir, or a log with one JSON object per line.

    A run that was resumed has a log per start: what a later start did again
    counts.

    Raises:
        UsageError: there is no log, or nothing to draw in it.
    """
    place = Path(path)
    files = [place]
    if place.is_dir():
        files = sorted(place.glob(SCALARS))
    if not files or not files[0].is_file():
        raise UsageError(
            f'{path} has no {SCALARS}: give the work dir of a training, or '
            'a log with one JSON object per line'
        )
    losses, rates, scores, epochs = {}, {}, {}, 0
    for file in files:
        records = read_records(file)
        length = epoch_length(records)
        for record in records:
            epochs = max(epochs, record.get('epoch') or 0)
            loss = next((record[k] for k in LOSSES if k in record), None)
            if known(record):
                put(scores, step(record), known(record))
            elif loss is not None:
                put(losses, iteration(record, length), loss)
                if 'lr' in record:
                    put(rates, iteration(record, length), record['lr'])
    if not losses and not scores:
        raise UsageError(f'{path} has neither a loss nor a score to draw')
    scores = in_percent(scores) if scores else {}
    names = sorted({name for found in scores.values() for name in found})
    return Run(
        path,
        config_of(place),
        list(losses.items()),
        list(rates.items()),
        {n: [(x, s[n]) for x, s in scores.items() if n in s] for n in names},
        max(scores, default=0) <= epochs,
    )


def put(curve: dict, place: int, value: object) -> None:
    """Add a point; what an earlier start had from there on is forgotten."""
    for old in [x for x in curve if x >= place]:
        del curve[old]
    curve[place] = value


def read_records(file: Path) -> list[dict]:
    """The JSON objects of a log."""
    try:
        lines = file.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(
            f'{file} is no training log (one JSON object per line): {error}'
        ) from error
    return [record for record in records if isinstance(record, dict)]


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


def config_of(folder: Path) -> str:
    """The name of the config that mmengine keeps in a work dir."""
    configs = sorted(folder.glob('*.py')) if folder.is_dir() else []
    return configs[0].stem if len(configs) == 1 else ''
