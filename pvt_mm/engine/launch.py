"""Initialise the processes of a run, on GPUs or on the CPU."""

import contextlib
import os
import subprocess
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from mmengine.dist import (
    broadcast_object_list,
    get_comm_device,
    init_dist,
    is_main_process,
)
from mmengine.utils.dl_utils import set_multi_processing
from torch import Tensor, distributed

from ..config.schema import walk
from ..errors import UsageError
from ..models.layers import cpu

T = TypeVar('T')

# What started the processes -> what it calls torchrun's variables, and how to
# start it.
STARTERS = {
    'pytorch': (
        dict(RANK='RANK', WORLD_SIZE='WORLD_SIZE', LOCAL_RANK='LOCAL_RANK'),
        'torchrun: tools/dist_train.sh CONFIG PROCESSES',
    ),
    'slurm': (
        dict(
            RANK='SLURM_PROCID',
            WORLD_SIZE='SLURM_NTASKS',
            LOCAL_RANK='SLURM_LOCALID',
        ),
        'srun: tools/slurm_train.sh PARTITION ...',
    ),
    'mpi': (
        dict(
            RANK='OMPI_COMM_WORLD_RANK',
            WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
            LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK',
        ),
        'mpirun',
    ),
}
PORT = '29500'  # torch's and mmengine's


def number_process(launcher: str) -> None:
    """Set the variables that torchrun sets, from those of another launcher.

    mmengine does the same, on GPUs only.

    Args:
        launcher: what started the processes, or 'none'.

    Raises:
        UsageError: it did not start this process.
    """
    if launcher == 'none':
        return
    names, starter = STARTERS[launcher]
    for name, theirs in names.items():
        if theirs not in os.environ:
            raise UsageError(
                f'--launcher {launcher}, but {theirs} is not set: start the '
                f'processes with {starter}'
            )
        os.environ[name] = os.environ[theirs]
    os.environ.setdefault('MASTER_PORT', PORT)
    if launcher == 'slurm' and not os.environ.get('MASTER_ADDR'):
        os.environ['MASTER_ADDR'] = first_machine()
    if not os.environ.get('MASTER_ADDR'):
        raise UsageError(
            f'--launcher {launcher}, but MASTER_ADDR is not set: it is the '
            'address of the machine of process 0'
        )


def first_machine() -> str:
    """The first machine of a Slurm job; '' if Slurm does not tell."""
    machines = os.environ.get('SLURM_NODELIST', '')
    with contextlib.suppress(OSError):
        said = subprocess.run(
            ['scontrol', 'show', 'hostnames', machines],
            capture_output=True,
            text=True,
        )
        return next(iter(said.stdout.split()), '')
    return ''


def start_processes(cfg: Config, launcher: str, remarks: list[str]) -> None:
    """Initialise torch.distributed, and prepare the config for it.

    mmengine's Runner would do it later; before, the first process chooses
    and checks for all, and the total batch is fitted to their number.

    Args:
        cfg: the config of the run.
        launcher: as :func:`number_process` got it.
        remarks: sentences for the log are added here.
    """
    cfg.launcher = launcher
    if not torch.cuda.is_available():
        remarks.append(f'Layers on the CPU: {cpu.describe()}.')
    if launcher == 'none':
        return
    settings = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
    if launcher == 'slurm' and settings.get('port'):
        os.environ['MASTER_PORT'] = str(settings['port'])
    if torch.cuda.is_available():
        join_on_gpus(cfg, launcher)
    else:
        join_on_the_cpu(cfg, remarks)


def join_on_the_cpu(cfg: Config, remarks: list[str]) -> None:
    """Initialise gloo; mmengine would put every process on a GPU.

    The model is wrapped without device ids, and SyncBN becomes BN, because
    torch's SyncBatchNorm works on GPUs only.
    """
    distributed.init_process_group('gloo')
    share_gradient_memory(cfg, device_ids=None)
    if replace_sync_bn(cfg.model):
        remarks.append('No GPU: every SyncBN is a BN in this run.')


def join_on_gpus(cfg: Config, launcher: str) -> None:
    """Initialise torch.distributed as mmengine's Runner does.

    The Runner then skips it.
    """
    settings = cfg.get('env_cfg') or {}
    multiprocessing = settings.get('mp_cfg') or {}
    set_multi_processing(**multiprocessing, distributed=True)
    init_dist(launcher, **(settings.get('dist_cfg') or {}))
    if not cfg.get('strategy'):
        share_gradient_memory(cfg)


def share_gradient_memory(cfg: Config, **more: Any) -> None:
    """Let gradients be views of the buckets that DDP sends.

    That saves a copy of all of them. The other arguments of DDP are
    mmengine's; ``static_graph`` stays off, because a batch without objects
    leaves parameters of a head unused.

    Args:
        cfg: what it sets for the wrapper counts.
        more: arguments that count whatever it sets.
    """
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
        'gradient_as_bucket_view': True,
        **(cfg.get('model_wrapper_cfg') or {}),
        **more,
    }


def replace_sync_bn(model: MutableMapping[str, Any]) -> int:
    """Turn each SyncBN of a model's config into BN -> how many there were."""
    norms = [
        node
        for _, node in walk(model)
        if isinstance(node, MutableMapping) and node.get('type') == 'SyncBN'
    ]
    for norm in norms:
        norm['type'] = 'BN'
    return len(norms)


def call_in_first(function: Callable[..., T], *args: Any) -> T:
    """Call a function in the first process -> its result, in each of them.

    Its error is raised there, and says why the others end with status 1.

    Args:
        function: gives what can be pickled.
        args: its arguments.
    """
    result, error = None, None
    if is_main_process():
        try:
            result = function(*args)
        except Exception as caught:  # the others must not wait for a result
            error = caught
            error.shared = False
    outcome = [result, error is not None]
    broadcast_object_list(outcome)
    if error:
        raise error
    if outcome[1]:
        raise SystemExit(1)
    return outcome[0]


class Later:
    """Numbers of a device that the host reads later.

    A GPU copies them in the order of its work, and nothing waits for it.
    mmengine reads the losses after each step of the optimizer: whatever was
    asked for before that is there without a further wait.

    Args:
        numbers: tensor (N,) or () on any device.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.copied = None
        # into pinned memory; a copy into any other would wait
        self.numbers = numbers.detach().to('cpu', non_blocking=True)
        if numbers.is_cuda:
            self.copied = torch.cuda.Event()
            self.copied.record()

    def read(self) -> list[float]:
        """The numbers, once they have arrived."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.numbers.view(-1).tolist()


class LargestLater:
    """The largest of a number in all processes, which is read later.

    The exchange runs beside all other work: no process waits for another
    before it reads the answer, and then only if one has not asked yet.

    Args:
        number: of this process.
    """

    def __init__(self, number: int) -> None:
        # a kernel fills it: a copy from the host would wait
        self.largest = torch.full((1,), number, device=get_comm_device())
        self.work = distributed.all_reduce(
            self.largest, distributed.ReduceOp.MAX, async_op=True
        )
        self.answer = None
        if self.largest.is_cuda:
            # of NCCL the stream waits, not this process
            with torch.cuda.stream(torch.cuda.Stream()):
                self.work.wait()
                self.answer = Later(self.largest)

    def read(self) -> int:
        """The largest number."""
        if self.answer is None:
            self.work.wait()
            self.answer = Later(self.largest)
        return int(self.answer.read()[0])
