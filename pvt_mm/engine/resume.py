"""Find the checkpoint that a run is resumed from."""

import os
import zipfile
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from ..checkpoints.safety import DAMAGED
from ..errors import UsageError


def resume(cfg: Config, checkpoint: str) -> None:
    """Continue from a checkpoint; 'auto' is the last one of the work_dir.

    Raises:
        UsageError: there is none that is whole.
    """
    if checkpoint == 'auto':
        checkpoint = last_checkpoint(cfg.work_dir)
    if not checkpoint:
        print_log(
            f'--resume: {cfg.work_dir} holds no checkpoint, so the run '
            'starts from the beginning.'
        )
        return
    cfg.resume, cfg.load_from = True, checkpoint


def last_checkpoint(work_dir: str) -> str | None:
    """The newest whole checkpoint of a folder; None if there is none at all.

    Raises:
        UsageError: there are some, and none is whole.
    """
    found = sorted(Path(work_dir).glob('*_*.pth'), key=os.path.getmtime)
    found = [p for p in found if p.stem.split('_')[0] in ('epoch', 'iter')]
    for path in reversed(found):
        if is_whole(path):
            return str(path)
        print_log(f'--resume: {path} is damaged: the one before it is used.')
    if found:
        raise UsageError(
            f'--resume: none of the {len(found)} checkpoints in {work_dir} '
            'is whole; name another one, or remove them to start from the '
            'beginning'
        )
    return None


def is_whole(path: Path) -> bool:
    """Whether a checkpoint has all of its bytes, by its checksums.

    A file that was cut short lacks the table of contents at its end.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except DAMAGED:
        return False
