"""Explain errors of other processes and of ports in one sentence."""

import os
import re
import traceback

from ..compat import ignore_dead_workers

WORKER = re.compile(
    r'DataLoader worker \(pid\(?s?\)? [\d, ]+\) .*|Pin memory thread exited.*'
    r'|Caught (Connection\w+|EOFError) in pin memory thread.*'
)
PEER = re.compile(
    'Connection closed by peer|Connection reset by peer|Broken pipe'
    '|Timed out waiting|NCCL.*(timeout|remote process)'
)


def explain(error: BaseException | None) -> str | None:
    """What happened and what to do; None if no other process is involved."""
    # torch's handler raises in the middle of anything, also of this
    ignore_dead_workers()
    # where it did, what it interrupted may have raised another error
    while error:
        sentence = explain_one(error)
        if sentence:
            return sentence
        error = error.__context__
    return None


def explain_one(error: BaseException) -> str | None:
    """The same for one exception of a chain."""
    text = str(error)
    worker = WORKER.search(text)
    if worker or receives_data(error):
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
    if PEER.search(text):
        return (
            'another process of this run ended or does not answer '
            f'({text.splitlines()[0][:120]}): its own message, above or in '
            'its log, says why; then go on with --resume'
        )
    return None


def receives_data(error: BaseException) -> bool:
    """Whether a connection to a worker broke, while a batch came from it."""
    frames = traceback.walk_tb(error.__traceback__)
    inside = any(f.f_code.co_name == '_try_get_data' for f, _ in frames)
    return inside and isinstance(error, OSError | EOFError)
