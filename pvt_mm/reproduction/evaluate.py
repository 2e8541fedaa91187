"""Evaluate published weights of a config in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..checkpoints import convert, locate
from ..checkpoints.download import ENDINGS, FOLDER, nearby
from ..config.paths import config_path
from ..errors import CheckpointError, UsageError
from .plan import BY_HAND, Job
from .training_log import known_scores, read_records

CONVERTED = 'weights.pth'


def find_weights(job: Job, *, fetch: bool = True) -> str:
    """The file of a job's weights.

    Args:
        job: what to check.
        fetch: download the file; else return its address.

    Raises:
        CheckpointError: none were published, or they cannot be downloaded.
    """
    given = nearby(*(job.key + ending for ending in ENDINGS))
    if given:
        return str(given)
    if not job.weights:
        raise CheckpointError('no weights were published with it')
    for host, why in BY_HAND.items():
        if host in job.weights:
            raise CheckpointError(
                f'{job.weights}: {why}; put the file as {job.key}.pth into '
                f'the folder that {FOLDER} names'
            )
    return str(locate(job.weights)) if fetch else job.weights


def evaluate(
    job: Job, folder: Path, options: Sequence[str]
) -> dict[str, float]:
    """Convert the weights and test them -> scores in percent by name.

    Args:
        job: what to check.
        folder: for the converted weights and logs.
        options: KEY=VALUE changes of the config.

    Raises:
        UsageError: the weights or the data cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    converted = folder / CONVERTED
    lines = convert(find_weights(job), str(converted), force=True)
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
        raise UsageError(why_failed(log))
    return last_scores(folder)


def why_failed(log: Path) -> str:
    """The error message with which a test run stopped."""
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith('error: '):
            return line.removeprefix('error: ')
    return f'the evaluation failed: {lines[-1]} (log: {log})'


def last_scores(folder: Path) -> dict[str, float]:
    """The scores of the last evaluation in a folder, in percent by name.

    Raises:
        UsageError: there are none.
    """
    logs = sorted(folder.glob('*/*.json'), key=os.path.getmtime)
    if not logs:
        raise UsageError(f'the evaluation left no scores in {folder}')
    return known_scores(read_records(logs[-1])[-1])
