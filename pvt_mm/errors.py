"""Errors that a user can cause: each message is one sentence with a fix."""

import errno
import io
import logging
import os
import shutil
import signal
import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

# What the operating system refuses -> what the user can do about it.
FULL = 'free some space, or choose another disk'
ELSEWHERE = 'choose another folder'
OTHER_NAME = 'choose another name, or move it away'
FIXES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: 'raise the limit of file sizes (ulimit -f)',
    errno.EROFS: ELSEWHERE,
    errno.EACCES: f'{ELSEWHERE}, or change its permissions',
    errno.EPERM: f'{ELSEWHERE}, or change its permissions',
    errno.ENOTDIR: OTHER_NAME,
    errno.EEXIST: OTHER_NAME,
    errno.EISDIR: OTHER_NAME,
    errno.ENOTEMPTY: OTHER_NAME,
    errno.ELOOP: OTHER_NAME,
    errno.ENAMETOOLONG: 'choose a shorter name',
    errno.EMFILE: 'raise the limit (ulimit -n), or read with fewer workers',
    errno.ENFILE: 'end other programs, or read with fewer workers',
    errno.EIO: 'the disk may be damaged',
    errno.ESTALE: 'its server has moved or lost it',
}
LIMITS = (errno.EMFILE, errno.ENFILE)


def printable(text: str, kept: str = '') -> str:
    """A text whose control characters are written as escapes.

    Names in data files could otherwise begin a line of their own in a
    terminal or a log, or move its cursor.

    Args:
        text: any.
        kept: characters that stay.
    """
    if text.isprintable():
        return text
    return ''.join(
        c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in text
    )


def show(*lines: str) -> None:
    """Print lines that may have text of files in them, one each."""
    for line in lines:
        print(printable(line))


class Record(logging.LogRecord):
    """A message for a log, of any library, whose lines are printable."""

    def getMessage(self) -> str:  # noqa: N802
        """The message; it may have several lines."""
        return printable(super().getMessage(), kept='\n\t')


def system_error(error: BaseException) -> str | None:
    """What the operating system refuses to do with a file, in one sentence.

    Args:
        error: any exception.

    Returns:
        None if it is of another kind, of no file, or of a file inside an
        installed package.
    """
    fix = FIXES.get(getattr(error, 'errno', None))
    if not isinstance(error, OSError) or fix is None:
        return None
    path = error.filename or open_file(error)
    reason = error.strerror[:1].lower() + error.strerror[1:]
    if error.errno in LIMITS:
        return f'{reason}: {fix}'
    if not isinstance(path, str) or is_installed(path):
        return None
    if fix is FULL:
        reason += f' ({free_space(path)} free)'
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        path, reason = nearest(path), 'is a file where a folder is needed'
        return f'{path} {reason}: {fix}'
    return f'{path} cannot be used: {reason}: {fix}'


def nearest_names(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """'nearest: a, b' for a message, at most three; or 'nearest: none'."""
    near = get_close_matches(name, sorted(known), n=3, cutoff=cutoff)
    return f'nearest: {", ".join(near) or "none"}'


def open_file(error: OSError) -> str | None:
    """The file that was open where an error without a name was raised."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            if isinstance(value, logging.FileHandler):
                return value.baseFilename
            if isinstance(value, io.IOBase) and hasattr(value, 'name'):
                return str(value.name)
    return None


def is_installed(path: str) -> bool:
    """Whether a file belongs to Python, or to an installed package."""
    places = sysconfig.get_paths()
    homes = (places['stdlib'], places['purelib'], os.path.dirname(__file__))
    return os.path.abspath(path).startswith(homes)


def nearest(path: str) -> str:
    """The nearest part of a path that is there."""
    while path and not os.path.lexists(path):
        path = os.path.dirname(path)
    return path or os.curdir


def free_space(path: str) -> str:
    """The space that is left for a file, '12 KiB', as far as known."""
    folder = nearest(os.path.abspath(path))
    try:
        return f'{shutil.disk_usage(folder).free >> 10:,} KiB'
    except OSError:
        return 'nothing'


class UsageError(ValueError):
    """What the user gave cannot be used; the message says what to do.

    Args:
        message: one line; see :func:`printable`.

    Attributes:
        shared: whether other processes of the run may raise it as well.
    """

    shared = True

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CheckpointError(UsageError):
    """A weight file, or a name of one, cannot be used."""


class InputError(UsageError):
    """An image cannot be given to a backbone; the message says why."""


class SampleError(UsageError):
    """A sample cannot be used."""

    shared = False

    def __init__(self, message: str) -> None:
        _, worker, sentence = message.rpartition('SampleError: ')
        super().__init__(sentence.strip())
        if worker:  # a data loader's worker sends its traceback as text
            self.__cause__ = RuntimeError(message)


class Preempted(Exception):  # noqa: N818
    """A run ended after a signal, with or without a checkpoint.

    Args:
        signum: number of the signal.
        checkpoint: file that was saved; None if nothing was.
    """

    def __init__(self, signum: int, checkpoint: str | None) -> None:
        where = f'{checkpoint} is saved' if checkpoint else 'nothing is saved'
        name = signal.Signals(signum).name
        super().__init__(
            f'stopped by {name}; {where}; the same command with --resume '
            'goes on'
        )
        self.status = 128 + signum
