"""Describe the machine and the versions that numbers were measured with."""

import os
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..models.layers import cpu
from .measure import finish, interleave

LIBRARIES = ('torch', 'timm', 'transformers', 'mmdet', 'mmcv', 'mmengine')


def describe(device: str) -> dict[str, str]:
    """Facts about the machine, its limits and the versions: name -> text."""
    facts = {
        'processor': processor(),
        'cores': str(os.cpu_count()),
        'threads': str(torch.get_num_threads()),
        'system': f'{platform.system()}, Python {platform.python_version()}',
    }
    if device == 'cuda':
        facts['GPU'] = torch.cuda.get_device_name()
    else:
        facts['layers'] = cpu.describe()
    facts['product limit'] = f'{product_rate(device):.0f} GFLOP/s'
    facts['memory limit'] = f'{copy_rate(device):.1f} GB/s'
    for name in LIBRARIES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = 'none'
    return facts


def processor() -> str:
    """Name, family and model of the processor, and its vector instructions.

    Virtual machines shorten the name, so it alone may be that of many.
    """
    name = platform.processor() or platform.machine()
    path = Path('/proc/cpuinfo')
    if path.exists():
        pairs = (x.split(':', 1) for x in path.read_text().splitlines() if x)
        found = {key.strip(): value.strip() for key, value in pairs}
        name = found.get('model name', name)
        if 'cpu family' in found:
            name += f' (family {found["cpu family"]}, model {found["model"]})'
    return f'{name}, {torch.backends.cpu.get_cpu_capability()}'


def product_rate(device: str, side: int = 2048) -> float:
    """GFLOP/s of a float32 product of two squares, the best of some."""
    a, b = torch.randn(2, side, side, device=device)
    return 2 * side**3 / 1e9 / best(partial(cpu.linear, a, b, None), device)


def copy_rate(device: str, size: int = 2**26) -> float:
    """GB/s read and written by x + 1 into memory that is there already."""
    x = torch.randn(size, device=device)
    y = torch.empty_like(x)
    moved = 2 * x.numel() * x.element_size()
    return moved / 1e9 / best(partial(torch.add, x, 1, out=y), device)


def best(call: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of five calls."""
    return min(interleave({'': partial(finish, call, device)}, 5)[''])
