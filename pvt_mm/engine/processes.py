"""One process or many, on GPUs or on the CPU alone."""

import os
from collections.abc import MutableMapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import print_log
from torch import distributed

from .errors import UsageError
from .keys import walk


def start_processes(cfg: Config, launcher: str) -> None:
    """Prepare the config for its launcher.

    mmengine puts every process on a GPU. Without one, the processes are
    joined here through gloo, the model is wrapped without device ids, and
    SyncBN becomes BN, because torch's SyncBatchNorm works on GPUs only.
    """
    cfg.launcher = launcher
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise UsageError(
            f'--launcher {launcher} needs a GPU; on the CPU start several '
            'processes with torchrun and --launcher pytorch'
        )
    if 'RANK' not in os.environ:
        raise UsageError(
            '--launcher pytorch is for processes that torchrun started: use '
            'tools/dist_train.sh CONFIG PROCESSES'
        )
    distributed.init_process_group('gloo')
    unused = cfg.get('find_unused_parameters', False)
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': unused,
        **(cfg.get('model_wrapper_cfg') or {}),
        'device_ids': None,
    }
    if replace_sync_bn(cfg.model):
        print_log('No GPU: every SyncBN is a BN in this run.')


def replace_sync_bn(model: MutableMapping[str, Any]) -> int:
    """Turn each SyncBN of a model's config into BN; how many there were."""
    norms = [
        node
        for _, node in walk(model)
        if isinstance(node, MutableMapping) and node.get('type') == 'SyncBN'
    ]
    for norm in norms:
        norm['type'] = 'BN'
    return len(norms)


def anywhere(number: int) -> int:
    """The largest of the processes' numbers, as all of them get to know it."""
    if get_world_size() == 1:
        return number
    largest = torch.tensor(number)
    all_reduce(largest, 'max')
    return int(largest)
