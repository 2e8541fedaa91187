"""Errors that a user can cause: each message is one sentence with a fix."""

import signal


def printable(text: str) -> str:
    """A text whose control characters are written as escapes.

    Names in data files could otherwise begin a line of their own in a
    terminal or a log, or move its cursor.
    """
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
