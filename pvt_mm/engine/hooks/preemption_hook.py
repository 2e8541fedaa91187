"""End a run after a signal with a checkpoint of its iteration."""

import os
import signal
import threading
import time
from typing import Any

from mmengine.dist import barrier, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS

from ...compat import ignore_dead_workers
from ...errors import Preempted
from ..launch import LargestLater

# Ctrl-C; the end of a job, and what Slurm sends ahead of it (--signal)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# torchrun passes on what the terminal has already sent to everybody
SAME = 2.0  # seconds in which several signals count as one


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Ends a run after the iteration in which a signal arrives.

    Several processes tell each other at the start of each iteration, and
    read at its end what the others said: all end after the same iteration,
    the one that follows the signal. A single process ends between the
    batches of an iteration, too. A second signal ends the process at once.
    """

    priority = 'LOWEST'  # after the scheduler, and what else is saved

    def __init__(self) -> None:
        self.signum = 0
        self.since = 0.0
        self.before: dict[int, Any] = {}
        self.exchange: LargestLater | None = None

    def before_train(self, runner) -> None:
        """Install the handlers."""
        self.process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                self.before[signum] = signal.signal(signum, self.receive)

    def receive(self, signum: int, frame: Any) -> None:
        """Record the first signal; another one after SAME ends the process."""
        if os.getpid() != self.process:
            return  # a data loader's worker: the training process decides
        if self.signum:
            if time.monotonic() - self.since > SAME:
                die(signum)
            return
        self.signum, self.since = signum, time.monotonic()
        # workers may have got the signal as well: torch's handler would
        # raise an error in the middle of this iteration
        ignore_dead_workers()
        os.write(2, b'stopping after this iteration; again: at once\n')

    def before_train_iter(self, runner, *args: Any, **kwargs: Any) -> None:
        """Tell the other processes which signal has come."""
        if get_world_size() > 1:
            self.exchange = LargestLater(self.signum)

    def before_next_batch(self, runner) -> None:
        """Stop between two batches of an iteration."""
        if get_world_size() == 1:
            self.stop(runner, runner.iter, self.signum)

    def after_train_iter(self, runner, *args: Any, **kwargs: Any) -> None:
        """Stop between two iterations."""
        signum, exchange = self.signum, self.exchange
        if exchange is not None:
            signum, self.exchange = exchange.read(), None
        self.stop(runner, runner.iter + 1, signum, together=True)

    def after_val_iter(self, runner, *args: Any, **kwargs: Any) -> None:
        """Stop in an evaluation; the resumed run begins it again.

        Each process for itself: nothing is left to agree on.
        """
        if not self.signum or not self.before:
            return  # no signal, or an evaluation before the training
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.after_val_epoch(runner)  # the weights that are trained
        self.stop(runner, runner.iter, self.signum)

    def stop(
        self, runner, iterations: int, signum: int, *, together: bool = False
    ) -> None:
        """Save and end the run.

        Args:
            runner: runs the training.
            iterations: that are finished.
            signum: of the signal; 0 if none has come.
            together: all processes stop here, and wait for the file: a
                launcher ends all after the first that ends.

        Raises:
            Preempted: a signal has come.
        """
        if signum:
            runner.call_hook('save_now', iterations=iterations)
            if together:
                barrier()
            info = runner.message_hub.runtime_info
            # a checkpoint hook of another kind saves nothing now
            saved = info.get('saved_iter') == iterations
            raise Preempted(signum, info.get('last_ckpt') if saved else None)

    def after_train(self, runner) -> None:
        """Restore the previous handlers."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        self.before = {}

    restore_handlers = after_train  # called also after an error


def die(signum: int) -> None:
    """End this process by the signal's default action."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def is_active() -> bool:
    """Whether a PreemptionHook handles the signals of this process."""
    handler = signal.getsignal(signal.SIGTERM)
    return isinstance(getattr(handler, '__self__', None), PreemptionHook)


def before_fork() -> None:
    """Block signals: Python forgets those that reach a child before it runs.

    A multiprocessing.Pool would wait for ever for such a child to end.
    """
    if is_active():
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def after_fork_in_parent() -> None:
    """Receive the signals that were blocked."""
    if is_active():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def after_fork_in_child() -> None:
    """Let SIGTERM end the child, also one that was blocked."""
    if is_active():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


os.register_at_fork(
    before=before_fork,
    after_in_parent=after_fork_in_parent,
    after_in_child=after_fork_in_child,
)
