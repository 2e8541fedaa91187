"""Explain errors of other processes and of ports in one sentence.

And say a sentence once that ends several processes.
"""

import os
import re
import signal
import time
from datetime import timedelta

from torch import distributed
from torch.distributed.rendezvous import rendezvous

from ..compat import receives_batch

# Seconds that a process which ends waits for what the others say.
WAIT = 10.0
WORKER = re.compile(
    r'DataLoader worker \(pid\(?s?\)? [\d, ]+\) .*|Pin memory thread exited.*'
    r'|Caught (Connection\w+|EOFError) in pin memory thread.*'
)
PEER = re.compile(
    'Connection closed by peer|Connection reset by peer|likely closed'
    '|Timed out waiting|NCCL.*(timeout|remote process)'
)


def explain(error: BaseException | None) -> str | None:
    """What happened and what to do; None if no other process is involved."""
    # torch's handler of SIGCHLD may have raised inside another error
    while error:
        sentence = explain_one(error)
        if sentence:
            return sentence
        error = error.__context__
    return None


def explain_one(error: BaseException) -> str | None:
    """Sentence for one exception, ignoring its context.

    None if no other process is involved.
    """
    text = str(error)
    worker = WORKER.search(text)
    if worker or receives_batch(error):
        what = worker[0] if worker else text
        return (
            f'a process that loads data ended ({what.rstrip(". ")}): most '
            'often the machine ran out of memory; lower '
            'train_dataloader.num_workers or batch_size with --cfg-options, '
            'then go on with --resume'
        )
    if 'EADDRINUSE' in text:
        port = os.environ.get('MASTER_PORT', '?')
        return (
            f'port {port} is in use, by another training perhaps: choose '
            'another one, PORT=29501 tools/dist_train.sh ..., or MASTER_PORT '
            'where torchrun is not used'
        )
    broken = 'Broken pipe' in text and distributed.is_initialized()
    if broken or PEER.search(text):
        return (
            'another process of this run ended or does not answer '
            f'({text.splitlines()[0][:120]}): its own message, above or in '
            'its log, says why; then go on with --resume'
        )
    return None


def said_by_first(sentence: str) -> bool:
    """Whether the first process ends with the same sentence as this one.

    Each process whose sentence others may have asks once before it ends,
    the first one after it has printed its own. No if the first has none
    within WAIT or cannot be asked: a sentence may appear twice, but none is
    lost. A checkpoint that the first is saving is complete at a yes.

    Args:
        sentence: why this process ends.
    """
    try:
        # a launcher ends all processes after the first that ends
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        limit = timedelta(seconds=WAIT)
        store, rank, size = next(rendezvous('env://', timeout=limit))
        if rank == 0:
            store.set('said', sentence)
            store.add('ended', 1)
            reaches(store, 'asked', size - 1)
            return True
        if not reaches(store, 'ended', 1):
            return False
        same = store.get('said').decode() == sentence
        store.add('asked', 1)
        return same
    except (RuntimeError, ValueError, OSError):
        return False


def reaches(store: distributed.Store, counter: str, number: int) -> bool:
    """Whether a counter of all processes reaches a number within WAIT."""
    end = time.monotonic() + WAIT
    while store.add(counter, 0) < number:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
