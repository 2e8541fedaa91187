"""Find or install a CUDA toolkit that mmcv's operators are compiled with.

Standard library only until torch is asked for.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

# The compiler of CUDA 13 and later as NVIDIA publishes it on PyPI. It is
# installed beside the headers and libraries of CUDA that torch brings.
COMPILER = ('nvidia-cuda-nvcc', 'nvidia-cuda-crt', 'nvidia-nvvm')
COMPILER += ('nvidia-cuda-cccl',)
# Where no GPU can be asked: A100, RTX 30, RTX 40, H100; from CUDA 12.8 on
# B200 and RTX 50 too.
ARCHS, NEW_ARCHS = ['8.0', '8.6', '8.9', '9.0'], ['10.0', '12.0']
USUAL = '/usr/local/cuda'  # where a toolkit is if nothing names it


def uses_cuda() -> bool:
    """Whether the operators are built for CUDA too.

    They are where torch sees a GPU, and elsewhere with PVT_MM_CUDA=1.
    """
    import torch

    wanted = os.environ.get('PVT_MM_CUDA') == '1'
    if wanted and not torch.version.cuda:
        raise SystemExit(
            f'PVT_MM_CUDA=1, but torch {torch.__version__} was built without '
            'CUDA: rm -r .venv and run the same command again.'
        )
    return bool(torch.version.cuda) and (wanted or torch.cuda.is_available())


def archs() -> list[str]:
    """Architectures of GPUs to compile for, ascending: ['8.6', '9.0']."""
    import torch

    found = os.environ.get('PVT_MM_CUDA_ARCHS', '').split() or {
        '{}.{}'.format(*torch.cuda.get_device_capability(i))
        for i in range(torch.cuda.device_count())
    }
    new = cuda_version() >= (12, 8)
    return sorted(found, key=float) or ARCHS + NEW_ARCHS * new


def cuda_version() -> tuple[int, int]:
    """CUDA's version that torch was built with."""
    import torch

    major, minor = torch.version.cuda.split('.')[:2]
    return int(major), int(minor)


def find_toolkit() -> Path:
    """Folder of a CUDA toolkit that fits torch; one of PyPI if none is there.

    Raises:
        SystemExit: there is none, and PyPI has none of this version.
    """
    found = next(filter(fits, toolkits()), None)
    if found or cuda_version()[0] < 13:
        return found or stop_without_toolkit()
    version = '.'.join(map(str, cuda_version()))
    print(
        f'  mmcv: installing the compiler of CUDA {version} beside torch',
        flush=True,
    )
    command = [sys.executable, '-m', 'pip', 'install', '-qq', '--no-deps']
    subprocess.run([*command, *(f'{x}=={version}.*' for x in COMPILER)])
    return next(filter(fits, toolkits()), None) or stop_without_toolkit()


def stop_without_toolkit():
    """Say which toolkit is needed."""
    version = '.'.join(map(str, cuda_version()))
    raise SystemExit(
        f'There is no nvcc of CUDA {version}, which torch was built with: '
        'install that toolkit and name its folder with CUDA_HOME=, or build '
        'for the CPU only with CUDA_VISIBLE_DEVICES= before the command.'
    )


def toolkits() -> list[Path]:
    """Folders where a CUDA toolkit may be."""
    on_path = shutil.which('nvcc')
    beside = on_path and os.path.dirname(os.path.dirname(on_path))
    named = [os.environ.get('CUDA_HOME'), beside, USUAL]
    return [*(Path(x) for x in named if x), *cuda_of_torch()]


def cuda_of_torch() -> list[Path]:
    """Folders of the parts of CUDA 13 that torch's requirements bring."""
    name = f'nvidia/cu{cuda_version()[0]}'
    folders = (Path(folder, name) for folder in sys.path)
    return [folder for folder in folders if folder.is_dir()]


def fits(toolkit: Path) -> bool:
    """Whether a toolkit is of torch's CUDA version and its headers are there.

    Of CUDA 12, which PyPI has no compiler of, any version will do, as for
    torch.
    """
    major, minor = cuda_version()
    version = f'{major}.{minor},' if major > 12 else f'{major}.'
    folders = (toolkit, *cuda_of_torch())
    if not any((x / 'include/cuda_runtime.h').is_file() for x in folders):
        return False
    with suppress(OSError):
        said = subprocess.run(
            [toolkit / 'bin/nvcc', '--version'], capture_output=True, text=True
        ).stdout
        return f'release {version}' in said
    return False


def cuda_environment(folder: Path) -> dict:
    """Variables that let torch's build compile for CUDA and link to it."""
    toolkit, includes, libraries = find_toolkit(), [], folder / 'lib'
    libraries.mkdir(exist_ok=True)
    for cuda in cuda_of_torch():
        includes += [str(cuda / 'include'), str(cuda / 'include/cccl')]
        for library in (cuda / 'lib').glob('libcudart.so.*'):
            with suppress(FileExistsError):  # without its version for -lcudart
                (libraries / 'libcudart.so').symlink_to(library)
    return {
        'CUDA_HOME': str(toolkit),
        'FORCE_CUDA': '1',
        # PTX lets later GPUs compile the code themselves.
        'TORCH_CUDA_ARCH_LIST': ';'.join(archs()) + '+PTX',
        # gcc searches these after the folders that torch names.
        'CPATH': os.pathsep.join(includes),
        'LIBRARY_PATH': str(libraries),
    }
