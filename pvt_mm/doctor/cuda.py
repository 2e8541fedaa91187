"""Findings about torch's CUDA, the NVIDIA driver, the GPUs and nvcc."""

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

# CUDA version that torch was built with, architectures that it has code for
# (none if it finds no GPU).
TORCH = """
import json, torch
archs = [arch.split('_')[1] for arch in torch.cuda.get_arch_list()]
print(json.dumps([torch.version.cuda, archs]))
"""
INDEX = 'PVT_MM_TORCH_INDEX=https://download.pytorch.org/whl/cu126'
OLDER = f'a build for CUDA 12 (rm -r .venv; {INDEX} make setup)'


class Found(NamedTuple):
    """What is installed; (0, 0), or nothing, for what is absent.

    Args:
        torch: CUDA version that torch was built with.
        archs: architectures that torch has code for: ['75', '90a'].
        driver: latest CUDA version that the NVIDIA driver knows.
        gpus: name and architecture of each GPU: [('NVIDIA H100', '9.0')].
        nvcc: its CUDA version.
    """

    torch: tuple[int, int] = (0, 0)
    archs: list[str] = []
    driver: tuple[int, int] = (0, 0)
    gpus: list[tuple[str, str]] = []
    nvcc: tuple[int, int] = (0, 0)


def look() -> Found:
    """Find it out; torch is imported by a process of its own."""
    torch, archs = json.loads(said(sys.executable, '-c', TORCH) or '["", []]')
    query = ('--query-gpu=name,compute_cap', '--format=csv,noheader')
    gpus = said('nvidia-smi', *query).splitlines()
    return Found(
        version(torch or ''),
        archs,
        driver_version(),
        [tuple(gpu.rsplit(', ', 1)) for gpu in gpus if ', ' in gpu],
        version(said('nvcc', '--version').partition('release')[2]),
    )


def said(*command: str) -> str:
    """Output of a command; '' if it is absent or fails."""
    with suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True)
        return '' if done.returncode else done.stdout
    return ''


def version(text: str) -> tuple[int, int]:
    """The first version in a text; (0, 0) if there is none."""
    match = re.search(r'(\d+)\.(\d+)', text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def driver_version() -> tuple[int, int]:
    """Latest CUDA version that the NVIDIA driver knows."""
    number = ctypes.c_int()
    with suppress(OSError):
        driver = ctypes.CDLL('libcuda.so.1')
        driver.cuDriverGetVersion(ctypes.byref(number))
    return number.value // 1000, number.value % 1000 // 10


def findings(found: Found) -> Iterator[tuple[str, str, str]]:
    """What does not fit together: (name, what is wrong, the fix) each."""
    torch, driver, nvcc = (
        '{}.{}'.format(*x) for x in (found.torch, found.driver, found.nvcc)
    )
    if (0, 0) < found.driver < (found.torch[0], 0):
        yield (
            'driver',
            f'the NVIDIA driver knows CUDA up to {driver}, torch was built '
            f'with {torch}: torch finds no GPU',
            f'update the driver, or install {OLDER}',
        )
    for name, arch in found.gpus:
        if found.archs and not runs(found.archs, arch):
            yield (
                'torch',
                f'it has no code for {name} of architecture {arch}, only for '
                f'{", ".join(found.archs)}',
                f'install another build of torch, for older GPUs {OLDER}',
            )
    if found.torch[0] and found.nvcc[0] not in (0, found.torch[0]):
        yield (
            'nvcc',
            f'it is of CUDA {nvcc}, torch of {torch}: pip cannot build mmcv '
            'for the GPU with it',
            'make setup installs the nvcc that fits CUDA 13; or name the '
            f"folder of CUDA {torch}'s toolkit with CUDA_HOME=",
        )


def runs(archs: list[str], gpu: str) -> bool:
    """Whether a GPU runs code for one of the architectures.

    It does for the same major version with an equal or smaller minor one.
    """
    major, minor = gpu.split('.')
    numbers = [int(re.match(r'\d+', arch)[0]) for arch in archs]
    return any(n // 10 == int(major) and n % 10 <= int(minor) for n in numbers)
