"""Evaluate published weights of a config in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..checkpoints import convert, locate
from ..checkpoints.download import ENDINGS, FOLDER, nearby
from ..config.paths import config_path
from ..errors import CheckpointError, UsageError
from .plan import BY_HAND, Job

# Name in our tables <- name in the log of an evaluation, and its unit.
SCORES = {
    'coco/bbox_mAP': ('box_AP', 100),
    'coco/segm_mAP': ('mask_AP', 100),
    'mIoU': ('mIoU', 1),
    'top1': ('top1', 1),
}
CONVERTED = 'weights.pth'


class NotCheckable(Exception):
    """A number cannot be checked; the message says why."""


def find_weights(job: Job, *, fetch: bool = True) -> str:
    """The file of a job's weights.

    Args:
        job: what to check.
        fetch: download the file; else return its address.

    Raises:
        NotCheckable: none were published, or they cannot be downloaded.
    """
    try:
        given = nearby(*(job.key + ending for ending in ENDINGS))
        if given:
            return str(given)
        if not job.weights:
            raise NotCheckable('no weights were published with it')
        for host, why in BY_HAND.items():
            if host in job.weights:
                raise NotCheckable(
                    f'{job.weights}: {why}; put the file as {job.key}.pth '
                    f'into the folder that {FOLDER} names'
                )
        return str(locate(job.weights)) if fetch else job.weights
    except CheckpointError as error:
        raise NotCheckable(str(error)) from error


def evaluate(
    job: Job, folder: Path, options: Sequence[str]
) -> dict[str, float]:
    """Convert the weights and test them -> scores in percent by name.

    Args:
        job: what to check.
        folder: for the converted weights and logs.
        options: KEY=VALUE changes of the config.

    Raises:
        NotCheckable: the weights or the data cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    converted = folder / CONVERTED
    try:
        lines = convert(find_weights(job), str(converted), force=True)
    except (CheckpointError, UsageError) as error:
        raise NotCheckable(str(error)) from error
    log = folder / 'log.txt'
    log.write_text('\n'.join(lines) + '\n')
    command = [
        *(sys.executable, '-m', 'pvt_mm', 'test'),
        *(config_path(job.name), str(converted)),
        *('--work-dir', str(folder)),
        *(['--cfg-options', *options] if options else []),
    ]
    with open(log, 'a') as file:
        done = subprocess.run(command, stdout=file, stderr=file, check=False)
    converted.unlink()
    if done.returncode:
        raise NotCheckable(why_failed(log))
    return read_scores(folder)


def why_failed(log: Path) -> str:
    """The error message with which a test run stopped."""
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith('error: '):
            return line.removeprefix('error: ')
    return f'the evaluation failed: {lines[-1]} (log: {log})'


def read_scores(folder: Path) -> dict[str, float]:
    """The scores of the last evaluation in a folder, in percent.

    Raises:
        NotCheckable: there are none.
    """
    logs = sorted(folder.glob('*/*.json'), key=os.path.getmtime)
    if not logs:
        raise NotCheckable(f'the evaluation left no scores in {folder}')
    found = json.loads(logs[-1].read_text().splitlines()[-1])
    return scores(found)


def scores(found: Mapping[str, float]) -> dict[str, float]:
    """Scores under our names, in percent."""
    return {
        name: found[key] * unit
        for key, (name, unit) in SCORES.items()
        if key in found
    }
