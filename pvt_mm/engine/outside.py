"""Faults from outside a run, in one sentence."""

import os
import re

WORKER = re.compile(r'DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (.*)')
PEER = re.compile(
    'Connection closed by peer|Connection reset by peer|Broken pipe'
    '|Timed out waiting|NCCL.*(timeout|remote process)'
)


def explain(error: RuntimeError) -> str | None:
    """What happened and what to do; None for a fault in the code itself."""
    text = str(error)
    worker = WORKER.search(text)
    if worker:
        return (
            f'a process that loads data ended ({worker[0].rstrip(". ")}): '
            'most often the machine ran out of memory; lower '
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
