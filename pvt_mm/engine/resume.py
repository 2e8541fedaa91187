"""Find the checkpoint that a run is resumed from."""

import os
import zipfile
from pathlib import Path

from mmengine.config import Config

from ..checkpoints.safety import DAMAGED
from ..errors import UsageError
from .hooks.atomic_checkpoint_hook import LAST
from .launch import call_in_first


def resume(cfg: Config, checkpoint: str, remarks: list[str]) -> None:
    """Continue from a checkpoint; the first process chooses it for all.

    Args:
        cfg: the config of a training run.
        checkpoint: a file; 'auto' is the last one of the run in work_dir.
        remarks: sentences for the log of the first process are added here.

    Raises:
        UsageError: there are some for 'auto', and none is whole.
    """
    if checkpoint == 'auto':
        checkpoint = call_in_first(last_checkpoint, cfg.work_dir, remarks)
    if not checkpoint:
        remarks.append(
            f'--resume: {cfg.work_dir} holds no checkpoint, so the run '
            'starts from the beginning.'
        )
        return
    cfg.resume, cfg.load_from = True, checkpoint


def last_checkpoint(work_dir: str, remarks: list[str]) -> str | None:
    """The newest whole checkpoint of a run; None if there is none at all.

    Args:
        work_dir: has the checkpoints, or a file that names the last one in
            the ``out_dir`` of the checkpoint hook.
        remarks: sentences for the log are added here.

    Raises:
        UsageError: there are some, and none is whole.
    """
    found = checkpoints(Path(work_dir))
    name = Path(work_dir, LAST)
    if not found and name.is_file():
        found = checkpoints(Path(name.read_text()).parent)
    for path in reversed(found):
        if is_whole(path):
            return str(path)
        remarks.append(
            f'--resume: {path} is damaged: the one before it is used.'
        )
    if found:
        raise UsageError(
            f'--resume: none of the {len(found)} checkpoints in {work_dir} '
            'is whole; name another one, or remove them to start from the '
            'beginning'
        )
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The regular checkpoints of a folder, the newest last."""
    found = sorted(folder.glob('*_*.pth'), key=os.path.getmtime)
    return [p for p in found if p.stem.split('_')[0] in ('epoch', 'iter')]


def is_whole(path: Path) -> bool:
    """Whether a checkpoint has all of its bytes, by its checksums.

    A file that was cut short lacks the table of contents at its end.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except DAMAGED:
        return False
