"""Gather what a GPU machine without network needs for tests and benchmark.

Called by make gpu-kit; then, there, in a checkout beside the folder gpu-kit:

    sh gpu-kit/install.sh
    make test-gpu KIT=gpu-kit
    make benchmark-gpu KIT=gpu-kit

The machine has torch, make and, for mmcv's sources, a C++ compiler and nvcc.

    KIT_PYTHON=3.12           its Python
    KIT_HAS='NAME ...'        packages that it has as well, of which no wheel
                              goes along; see HAS
    KIT_MMCV=FILE.whl         mmcv for its Python and torch; else its sources
                              go along, and install.sh compiles them
"""

import os
import shutil
import sys
from pathlib import Path

from build_mmcv import NAME, ROOT, STACK, VERSION, Stop
from set_up import PINS, run

KIT = ROOT / 'gpu-kit'
PYTHON = os.environ.get('KIT_PYTHON') or '3.12'
# Large, and on most machines that have torch.
HAS = 'numpy scipy opencv-python-headless matplotlib pillow'
# mmengine asks for OpenCV's build with windows; the headless one will do.
LEFT_OUT = ('torch', 'opencv-python')
LIMIT = 64 * 2**20  # bytes
NEEDED = {
    'upstream': ('mmengine', 'mmdet', 'mmsegmentation', 'ftfy', 'regex'),
    'onedl': (
        *('onedl-mmengine', 'onedl-mmdetection', 'onedl-mmsegmentation'),
        *('ftfy', 'regex'),
    ),
}
TOOLS = ('msgspec', 'safetensors', 'rich', 'pytest')
BUILD = ('ninja', 'setuptools', 'wheel')
ALONE = ('timm', 'opencv-python-headless')  # timm asks for torchvision
GLIBC = ('_2_28', '_2_27', '_2_24', '_2_17', '2014', '1')

INSTALL = f"""\
#!/bin/sh
# Install the kit for one Python, beside what it has: sh install.sh [PYTHON]
set -e
kit=$(cd "$(dirname "$0")" && pwd)
python=${{1:-python3}}
install="$python -m pip install -q --no-index --no-deps --upgrade --target"
$install "$kit/site" "$kit"/wheels/*.whl
export PYTHONPATH="$kit/site"
if [ -d "$kit/sources" ] && [ ! -d "$kit/built" ]; then
    PIP_NO_INDEX=1 PIP_FIND_LINKS="$kit/sources" PVT_MM_STACK={STACK} \\
        "$python" "$kit/../tools/build_mmcv.py" "$kit/built"
    $install "$kit/site" "$kit"/built/*.whl
fi
"$python" -c 'import mmcv.ops, mmdet.models, mmseg.models, cv2, scipy'
echo 'installed: make test-gpu KIT=gpu-kit'
"""


def main() -> None:
    """Fill the folder, and say how large it is."""
    shutil.rmtree(KIT, ignore_errors=True)
    wheels = KIT / 'wheels'
    download(wheels, *NEEDED[STACK], *TOOLS, *BUILD)
    download(wheels, '--no-deps', *ALONE)
    has = os.environ.get('KIT_HAS', HAS).split()
    for file in wheels.iterdir():
        if name_of(file) in {*map(normal, has), *LEFT_OUT}:
            file.unlink()
    own = ['wheel', '-qq', '--no-deps', '--no-build-isolation']
    pip(*own, '--wheel-dir', wheels, ROOT)
    add_mmcv(wheels)
    (KIT / 'install.sh').write_text(INSTALL)
    size = sum(f.stat().st_size for f in KIT.rglob('*') if f.is_file())
    if size > LIMIT:
        largest = sorted(wheels.iterdir(), key=lambda f: -f.stat().st_size)
        raise Stop(
            f'gpu-kit has {size / 2**20:.0f} MiB, more than 64: the largest '
            f'are {", ".join(map(name_of, largest[:3]))}; name those that the '
            'machine has in KIT_HAS.'
        )
    print(
        f'gpu-kit: {size / 2**20:.0f} MiB for Python {PYTHON}, without '
        f'{", ".join(["torch", *has])}, which the machine has. There:\n'
        '  sh gpu-kit/install.sh && make test-gpu KIT=gpu-kit'
    )


def download(folder: Path, *names: str) -> None:
    """Download wheels for the machine's Python, in the pinned versions."""
    pins = [('--constraint', file) for file in PINS]
    tags = [('--platform', f'manylinux{x}_x86_64') for x in GLIBC]
    where = ('--only-binary=:all:', '--implementation', 'cp')
    version = ('--python-version', PYTHON, '--dest', folder)
    pip('download', '-qq', *where, *version, *sum(pins + tags, ()), *names)


def add_mmcv(wheels: Path) -> None:
    """Add mmcv's wheel for the machine, or its source distribution."""
    given = os.environ.get('KIT_MMCV')
    if given:
        shutil.copy(given, wheels)
        return
    options = ('--no-deps', '--no-build-isolation', '--no-binary', NAME)
    pip(
        *('download', '-qq', *options, '--dest', KIT / 'sources'),
        f'{NAME}=={VERSION}',
    )


def pip(*args: object) -> None:
    """Run pip.

    Raises:
        Stop: it fails.
    """
    if run(sys.executable, '-m', 'pip', *map(str, args)):
        raise Stop(f'gpu-kit: pip {args[0]} failed: see above why.')


def name_of(file: Path) -> str:
    """The distribution of a wheel."""
    return normal(file.name.split('-')[0])


def normal(name: str) -> str:
    """A distribution's name as PyPI writes it."""
    return name.lower().replace('_', '-')


if __name__ == '__main__':
    main()
