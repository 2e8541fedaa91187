"""Private names and patches of mmengine, mmdet, mmcv, mmseg and torch.

Nothing else in this package touches an underscore of theirs. Each function
says why it is needed, for which version, and where it is discussed; it
imports inside, so that the layers need torch alone. A patch is a context
manager, or its docstring says why it cannot be one.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Private methods of base classes that a subclass of ours overrides or calls
# on itself: (class, method) -> why, and the version that it was written for.
OVERRIDES = {
    ('AtomicCheckpointHook', '_save_checkpoint_with_step'): (
        'mmengine 0.10 removes old checkpoints before the new one is whole'
    ),
    ('AtomicCheckpointHook', '_save_best_checkpoint'): (
        'mmengine 0.10 removes the best checkpoint before its successor is '
        'whole'
    ),
    ('WholeNormFSDP', '_init_state_dict_cfg'): (
        'mmengine 0.10 offloads to the CPU what is there, and torch 2.13 '
        'crashes'
    ),
    ('ImageFolder', '_metainfo'): (
        'mmengine 0.10 has no other way to set the classes that were read'
    ),
    ('ConcatFusionHead', '_transform_inputs'): (
        'mmseg 1.2: how each of its decode heads selects its feature maps'
    ),
}


def config_dict(cfg: Any) -> Any:
    """The ConfigDict of a Config, in which a change is a change of it.

    mmengine 0.10: ``Config.to_dict`` gives a copy, iteration gives values
    without their marks of inheritance.
    """
    return cfg._cfg_dict


@contextmanager
def config_finder(find: Callable) -> Iterator[None]:
    """Resolve the names in ``_base_`` by a function, while a config is read.

    mmengine 0.10 knows ``PACKAGE::NAME`` for the packages on a list of its
    own only, by distribution name, and asks pkg_resources, which setuptools
    82 has no more (open-mmlab/mmengine#1410, open-mmlab/mmcv#3325).

    Args:
        find: (name, file that inherits, mmengine's own function) -> path of
            the file, and its scope or None.
    """
    from mmengine.config import Config

    theirs = Config._get_cfg_path
    Config._get_cfg_path = staticmethod(
        lambda name, file: find(name, file, theirs)
    )
    try:
        yield
    finally:
        Config._get_cfg_path = staticmethod(theirs)


def dataset_metainfo(dataset: type, given: Any) -> dict:
    """The metainfo that a dataset class would have; no file is read.

    mmengine 0.10 has it as a private class method of BaseDataset only.
    """
    return dataset._load_metainfo(given)


def is_resuming(runner: Any) -> bool:
    """Whether a run goes on from a checkpoint (mmengine 0.10: no property)."""
    return runner._resume


def seeds_differ_by_rank(runner: Any) -> bool:
    """Whether randomness.diff_rank_seed is set (mmengine 0.10)."""
    return bool(runner._randomness_cfg.get('diff_rank_seed'))


def has_train_loop(runner: Any) -> bool:
    """Whether a run trains; a test run keeps a dict (mmengine 0.10).

    The property ``train_loop`` would build it.
    """
    return not isinstance(runner._train_loop, dict)


def val_interval(loop: Any) -> int:
    """The interval of evaluation at the place where a loop is.

    mmengine 0.10 computes ``dynamic_intervals`` in a private method.
    """
    loop._decide_current_val_interval()
    return loop.val_interval


def rewind_sampler(sampler: Any) -> None:
    """Let an InfiniteSampler begin with its first index again.

    mmengine 0.10 keeps one generator for all iterators, which goes on where
    the last iterator stopped, prefetched or not.
    """
    sampler.indices = sampler._indices_of_rank()


def skipping_iterator(loader: Any, behind: int, epoch: int) -> Any:
    """An iterator for IterBasedTrainLoop that skips batches unread.

    mmengine 0.10's loop asks for as many batches as have been trained on,
    to throw them away, and reads their images; onedl-mmengine's asks to
    skip them.

    Args:
        loader: begins with the first batch that is not behind.
        behind: number of batches that have been trained on.
        epoch: number of passes through the data that are behind.
    """
    from mmengine.runner.loops import _InfiniteDataloaderIterator

    class SkippingIterator(_InfiniteDataloaderIterator):
        def __init__(self) -> None:
            super().__init__(loader)
            self.behind = behind
            self._epoch = epoch

        def __next__(self) -> Any:
            if self.behind:
                self.behind -= 1
                return None
            return super().__next__()

        def skip_iter(self, num_iters: int) -> None:
            self.behind -= num_iters

    return SkippingIterator()


def mark_initialized(model: Any) -> None:
    """Tell mmengine's Runner not to call init_weights (mmengine 0.10)."""
    model._is_init = True


def fsdp_strategy() -> type:
    """mmengine's FSDPStrategy: all its strategies are private (0.10)."""
    from mmengine._strategy import FSDPStrategy

    return FSDPStrategy


def onednn_linear() -> Any:
    """oneDNN's x @ weight.T + bias; None in a torch without it.

    torch 2.4 to 2.13: torch.compile calls this operator, and no public
    function does.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, '_linear_pointwise', None)


def in_functorch_transform() -> bool:
    """Whether a transform of torch.func runs (torch 2.4 to 2.13).

    They know no autograd.Function without a vmap rule and no checkpoint,
    and no public function tells.
    """
    import torch

    return torch._C._functorch.peek_interpreter_stack() is not None


def inductor_backend(graph: Any, inputs: Sequence) -> Callable:
    """torch.compile's own backend, with strides of unknown sizes in order.

    torch 2.13 fails on a channels-last view that the backward pass needs,
    because it compares strides without what it knows of sizes
    (pytorch/pytorch#185510, fixed in this way by #185871).
    """
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    def compile_one(*args: Any, **kwargs: Any) -> Any:
        with ordered_strides():
            return compile_fx_inner(*args, **kwargs)

    return compile_fx(graph, inputs, inner_compile=compile_one)


@contextmanager
def ordered_strides() -> Iterator[None]:
    """Let get_fill_order know the sizes of the graph that is compiled."""
    from torch._inductor import ir
    from torch._inductor.virtualized import V

    theirs = ir.get_fill_order

    def get_fill_order(strides: Sequence, shape_env: Any = None) -> Sequence:
        if shape_env is None:
            sizes = getattr(V.graph, 'sizevars', None)
            shape_env = getattr(sizes, 'shape_env', None)
        return theirs(strides, shape_env)

    ir.get_fill_order = get_fill_order
    try:
        yield
    finally:
        ir.get_fill_order = theirs


def ignore_dead_workers() -> None:
    """The death of a data loader's worker is no error from now on.

    torch's handler of SIGCHLD raises in the middle of whatever the process
    does. For the rest of the process, which is about to end: a handler, and
    not SIG_DFL, because Python reports a signal that came before its
    handler was taken away.
    """
    signal.signal(signal.SIGCHLD, lambda *_: None)


def statistic(owner: type, name: str) -> Callable:
    """One of HistoryBuffer's own methods, which mmengine writes by name.

    It stands for the ``getattr`` in a checkpoint and reaches nothing else.
    """
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(f'a checkpoint asks for {name!r} of {owner!r}')
    return getattr(owner, name)


def checkpoint_globals() -> list:
    """What mmengine 0.10 writes into checkpoints beside tensors.

    Containers of the optimizer's, scheduler's and dataset's state, and
    numbers in the message hub. All of them only store what they are given.
    """
    from collections import Counter, OrderedDict, defaultdict

    import numpy as np
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    try:
        from numpy._core import multiarray  # numpy >= 2
    except ImportError:
        from numpy.core import multiarray
    kinds = ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', bool)
    return [
        *(Counter, OrderedDict, defaultdict, ConfigDict, HistoryBuffer),
        *(np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in kinds)),
        # numpy renamed the module between 1 and 2: a file may hold either
        *(
            (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
            for core in ('core', '_core')
            for name in ('_reconstruct', 'scalar')
        ),
        (statistic, 'builtins.getattr'),
    ]


def add_safe_globals() -> None:
    """Let torch load mmengine's checkpoints with ``weights_only=True``.

    Since torch 2.6 ``torch.load`` refuses every class that it was not told
    about, and mmengine 0.10.7 tells it nothing (open-mmlab/mmengine#1655).
    For the whole process, because the calls are mmengine's. onedl-mmengine
    has a list of its own for each load, and is left alone.
    """
    import torch
    from mmengine.runner import checkpoint

    if not hasattr(checkpoint, 'get_torch_safe_globals'):
        torch.serialization.add_safe_globals(checkpoint_globals())


@contextmanager
def checkpoint_reading(*more: type) -> Iterator[None]:
    """Allow what :func:`add_safe_globals` allows, and more classes, meanwhile.

    torch's own context manager takes away at its end what was allowed
    before as well (torch 2.13).

    Args:
        more: further classes that only store what they are given.
    """
    import torch

    there = torch.serialization.get_safe_globals()
    wanted = [*checkpoint_globals(), *more]
    with torch.serialization.safe_globals(
        [item for item in wanted if item not in there]
    ):
        yield
