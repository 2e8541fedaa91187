"""Measure seconds, bytes saved for the backward pass, and peak memory."""

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

MIB = 2**20
PRECISIONS = ('float32', 'tf32', 'fp16', 'bf16')
HALVES = {'fp16': torch.float16, 'bf16': torch.bfloat16}


@contextmanager
def precision(name: str, device: str) -> Iterator[None]:
    """Run operations in one of PRECISIONS; torch's flags are restored."""
    libraries = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [library.allow_tf32 for library in libraries]
    for library in libraries:
        library.allow_tf32 = name == 'tf32'
    low = name in HALVES
    try:
        with torch.autocast(device, HALVES[name]) if low else nullcontext():
            yield
    finally:
        for library, allowed in zip(libraries, before, strict=True):
            library.allow_tf32 = allowed


@torch.no_grad()
def finish(call: Callable[[], object], device: str) -> None:
    """Call without gradients, and wait for the GPU."""
    call()
    if device == 'cuda':
        torch.cuda.synchronize()


def run(model: nn.Module, image: Tensor, task: str) -> None:
    """One forward pass, in training a backward pass too, waited for."""
    model.train(task == 'training')
    if task == 'training':
        model.zero_grad(set_to_none=True)
        sum(m.mean() for m in model(image)).backward()
    else:
        with torch.no_grad():
            model(image)
    if image.is_cuda:
        torch.cuda.synchronize()


def interleave(
    calls: Mapping[str, Callable[[], None]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each call, interleaved, after one round to warm up.

    Args:
        calls: name -> function.
        rounds: how often each is measured.

    Returns:
        name -> seconds of each round.
    """
    seconds = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def saved_bytes(model: nn.Module, image: Tensor) -> int:
    """Bytes that the forward pass saves for the backward pass.

    Each storage counts once, parameters and buffers do not.
    """
    weights = {
        t.untyped_storage().data_ptr()
        for t in (*model.parameters(), *model.buffers())
    }
    storages = {}

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        # held with the graph, so that no address is used twice; detached,
        # because a result that is saved itself would hold its graph for ever
        return t.detach()

    with saved_tensors_hooks(keep, lambda t: t):
        maps = model.train()(image)
    del maps
    return sum(storages.values())


def peak_bytes(call: Callable[[], None], cuda: bool) -> int | None:
    """Peak memory during a call beyond that before it; None if unknown."""
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    reset = Path('/proc/self/clear_refs')
    if not sys.platform.startswith('linux') or not reset.exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system
    reset.write_text('5')  # the peak starts from here
    before = resident('VmRSS')
    call()
    return resident('VmHWM') - before


def resident(field: str) -> int:
    """Resident memory of this process in bytes, now or at its peak."""
    lines = Path('/proc/self/status').read_text().splitlines()
    line = next(text for text in lines if text.startswith(field))
    return int(line.split()[1]) * 1024  # the kernel writes kB


def stage_seconds(model: nn.Module, image: Tensor, rounds: int) -> list[float]:
    """Median seconds of each stage of our backbone in a forward pass."""
    times: list[list[float]] = []

    def mark(*_: object) -> None:
        if image.is_cuda:
            torch.cuda.synchronize()
        times[-1].append(time.perf_counter())

    handles = [model.stages[0].register_forward_pre_hook(mark)]
    handles += [stage.register_forward_hook(mark) for stage in model.stages]
    try:
        for _ in range(rounds + 1):
            times.append([])
            run(model, image, 'inference')
    finally:
        for handle in handles:
            handle.remove()
    return [
        median(b - a for a, b in zip(starts, ends, strict=True))
        for starts, ends in pairwise(zip(*times[1:], strict=True))
    ]
