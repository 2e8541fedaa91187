"""Keep runs of one work dir apart: one at a time, none overwrites another."""

import fcntl
import os
import re
import socket
import time
from pathlib import Path
from typing import IO

from mmengine.logging import print_log

from ..errors import UsageError

LOCK = '.lock'
STAMP = '%Y%m%d_%H%M%S'  # of mmengine's folder for each run
# Open files of this process: a lock ends when its file is closed.
LOCKS: dict[str, IO[str]] = {}


def lock_work_dir(folder: str) -> None:
    """Let no other training use a work dir as long as this process lives.

    A POSIX record lock (fcntl(2)): it ends with its process, however that
    ends, and NFS knows it, too.

    Args:
        folder: the work dir; it is made.

    Raises:
        OSError: it cannot be written.
        UsageError: another process trains in it.
    """
    path = os.path.join(os.path.realpath(folder), LOCK)
    if path in LOCKS:
        return
    os.makedirs(folder, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # of no link the target
    file = open(os.open(path, flags, 0o644), 'r+')  # noqa: SIM115
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        raise UsageError(
            f'{file.read().strip() or "another process"} trains in {folder}: '
            'wait for its end, or choose another --work-dir'
        ) from error
    except OSError as error:
        print_log(
            f'{folder} cannot be locked ({error.strerror}): a second training '
            'in it would not be noticed'
        )
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    LOCKS[path] = file


def move_earlier_checkpoints(
    folder: str | Path, out_dir: str | Path, template: str
) -> None:
    """Move the checkpoints of an earlier run to the folder of its logs.

    Args:
        folder: the work dir, where mmengine makes a folder for each run.
        out_dir: where the checkpoints are.
        template: of their names: 'epoch_{}.pth'.
    """
    # mmengine's own names, and those of the hook's filename_tmpl
    own = re.escape(template).replace(r'\{\}', r'\d+')
    names = re.compile(rf'{own}|(epoch|iter)_\d+\.pth|best_.*\.pth')
    files = [p for p in Path(out_dir).glob('*') if names.fullmatch(p.name)]
    if not files:
        return
    saved = max(file.stat().st_mtime for file in files)
    last = time.strftime(STAMP, time.localtime(saved))
    stamps = [p.name for p in Path(folder).glob('*_*') if is_stamp(p.name)]
    run = max((name for name in stamps if name <= last), default=last)
    target = Path(out_dir, run)
    target.mkdir(exist_ok=True)
    files += Path(out_dir).glob('last_checkpoint')
    for file in files:
        os.rename(file, target / file.name)
    print_log(
        f'{out_dir} has the checkpoints of an earlier run: moved to {target}.',
        'current',
    )


def is_stamp(name: str) -> bool:
    """Whether a folder has the name of a run's time."""
    return re.fullmatch(r'\d{8}_\d{6}', name) is not None
