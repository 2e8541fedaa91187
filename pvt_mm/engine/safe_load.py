"""What a checkpoint of mmengine may hold, so that torch loads it safely.

Since torch 2.6 ``torch.load`` refuses every class it was not told about.
mmengine 0.10 writes a few: they are named here, and the safe mode stays on.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint

try:
    from numpy._core import multiarray  # numpy >= 2
except ImportError:
    from numpy.core import multiarray

# Containers of the optimizer's, scheduler's and dataset's state. All of them
# only store what they are given.
CONTAINERS = (Counter, OrderedDict, defaultdict, ConfigDict, HistoryBuffer)

# Numbers in the message hub: arrays, scalars and their types.
NUMBERS = (
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ('f8', 'f4', 'f2', 'i8', 'i4', 'u1')),
    type(np.dtype(bool)),
)

# numpy renamed the module between 1 and 2: a file may hold either name.
BUILDERS = tuple(
    (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
    for core in ('core', '_core')
    for name in ('_reconstruct', 'scalar')
)


def statistic(owner: type, name: str) -> Callable:
    """One of HistoryBuffer's own methods, which mmengine writes by name.

    It stands for the ``getattr`` in a checkpoint and reaches nothing else.
    """
    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(f'a checkpoint asks for {name!r} of {owner!r}')
    return getattr(owner, name)


def register_safe_globals() -> None:
    """Let torch load mmengine's checkpoints with ``weights_only=True``."""
    torch.serialization.add_safe_globals(
        [*CONTAINERS, *NUMBERS, *BUILDERS, (statistic, 'builtins.getattr')]
    )
    # onedl-mmengine allows a list of its own, with the real getattr on it,
    # for each load, and forbids it afterwards: with it what is allowed here.
    if hasattr(checkpoint, 'get_torch_safe_globals'):
        checkpoint.get_torch_safe_globals = list
