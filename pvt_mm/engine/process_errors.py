"""Explain errors of other processes and of ports in one sentence."""

import os
import re

from torch import distributed

from ..compat import receives_batch

WORKER = re.compile(
    r'DataLoader worker \(pid\(?s?\)? [\d, ]+\) .*|Pin memory thread exited.*'
    r'|Caught (Connection\w+|EOFError) in pin memory thread.*'
)
PEER = re.compile(
    'Connection closed by peer|Connection reset by peer'
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
