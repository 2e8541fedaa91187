"""Build mmcv with its operators against the torch of this Python.

python tools/build_mmcv.py FOLDER   ->  FOLDER/mmcv-*.whl
python tools/build_mmcv.py --key    ->  prints what such a wheel fits

PVT_MM_STACK=onedl builds onedl-mmcv, the maintained fork, instead.
Needs torch, ninja, wheel and setuptools < 81 beside it, a C++ compiler and
Python's headers. Standard library only until torch is asked for.

    PVT_MM_CUDA=1             operators for CUDA although there is no GPU here
    PVT_MM_CUDA_ARCHS=LIST    for GPUs of these architectures, '8.6 9.0' say
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from cuda_toolkit import archs, cuda_environment, uses_cuda

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / '.cache'
# Distribution that is imported as mmcv: name and version.
STACKS = {'upstream': ('mmcv', '2.1.0'), 'onedl': ('onedl-mmcv', '2.3.6')}
STACK = os.environ.get('PVT_MM_STACK') or 'upstream'
NAME, VERSION = STACKS.get(STACK, ('', ''))
FILE = f'{NAME.replace("-", "_")}-{VERSION}'  # of wheels and sources
INCLUDE = sysconfig.get_path('include')

# setuptools takes CFLAGS instead of the flags Python was built with: no
# debug information, which triples the size of the objects.
CFLAGS = '-O2 -g0 -DNDEBUG -fwrapv -fPIC'
# What torch and mmcv add to the command line of each C++ source: the compiler
# uses a precompiled header only where these are the same.
DEFINES = '-DTORCH_API_INCLUDE_EXTENSION_H -DTORCH_EXTENSION_NAME=_ext'
STANDARD = '-std=c++17'

# Prints the CUDA version of the operators in a library, or 'not available'.
IMPORT = """
import sys, torch
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location('mmcv._ext', sys.argv[1])
ext = module_from_spec(spec)
spec.loader.exec_module(ext)
print(ext.get_compiling_cuda_version())
"""


class Stop(SystemExit):
    """End the program with one sentence for the user."""


if STACK not in STACKS:
    raise Stop(
        f'STACK={STACK} is none of {", ".join(STACKS)}: name one of them, for '
        'example make test STACK=onedl.'
    )


def compiler() -> str:
    """Name of the C++ compiler: CXX, or the first that is installed."""
    names = (os.environ.get('CXX'), 'c++', 'g++', 'clang++')
    return next((name for name in names if name and shutil.which(name)), '')


def compiles(source: str) -> bool:
    """Whether the compiler accepts a C++ source."""
    command = [compiler(), STANDARD, f'-I{INCLUDE}', '-fsyntax-only']
    command += ['-x', 'c++', '-']
    return not subprocess.run(
        command, input=source, text=True, capture_output=True
    ).returncode


def check_tools() -> None:
    """Stop if no C++ extension of Python can be compiled here."""
    python = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    if not compiler() or not compiles('#include <filesystem>\n'):
        raise Stop(
            'mmcv must be compiled and there is no C++17 compiler: install '
            'one (Debian, Ubuntu: apt-get install g++) or name it with CXX=.'
        )
    if not compiles('#include <Python.h>\n'):
        raise Stop(
            f'mmcv must be compiled and Python.h is not in {INCLUDE}: '
            f'install it (Debian, Ubuntu: apt-get install {python}-dev).'
        )


def key() -> str:
    """Name of the Python, torch, devices and platform that a wheel is for."""
    import torch

    devices = 'cuda' + '_'.join(archs()) if uses_cuda() else 'cpu'
    platform = sysconfig.get_platform().replace('-', '_')
    python = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    stack = '' if STACK == 'upstream' else f'-{STACK}'
    return f'{python}-torch{torch.__version__}-{devices}-{platform}{stack}'


def fetch_sources(folder: Path) -> Path:
    """Download mmcv's source distribution once -> its folder, unpacked."""
    sources = folder / FILE
    if sources.is_dir():
        return sources
    with tempfile.TemporaryDirectory(dir=folder) as new:
        command = [sys.executable, '-m', 'pip', 'download', '-qq']
        command += ['--no-deps', '--no-build-isolation', '--no-binary', NAME]
        # pip unpacks the sources to ask for their version, which fails on
        # Python 3.13, and keeps what it has unpacked
        command += ['--no-clean', '--dest', new, f'{NAME}=={VERSION}']
        done = subprocess.run(
            command,
            env={**os.environ, 'TMPDIR': new},
            stderr=subprocess.PIPE,
            text=True,
        )
        setup = next(Path(new).glob('pip-*/*/setup.py'), None)
        if setup is None:
            raise Stop(
                f'The sources of {NAME} {VERSION} could not be downloaded; '
                f'pip says: {done.stderr.strip()}'
            )
        write_version(setup)
        os.replace(setup.parent, sources)
    return sources


def write_version(setup: Path) -> None:
    """Write mmcv's version into its setup.py.

    mmcv 2.1.0 reads it with exec() into locals(), which Python 3.13 ignores
    (PEP 667): KeyError: '__version__'.
    """
    text = setup.read_text(encoding='utf-8')
    text = text.replace("locals()['__version__']", repr(VERSION))
    setup.write_text(text, encoding='utf-8')


def precompile(folder: Path) -> str:
    """Precompile torch's headers -> the flag that makes sources use them.

    Every source of mmcv includes torch/types.h, and compiling that header is
    four fifths of the time. A compiler that cannot use the result reads the
    header as text.
    """
    import logging

    # It warns of a toolkit without a GPU.
    logging.getLogger('torch.utils.cpp_extension').setLevel(logging.ERROR)
    from torch.utils.cpp_extension import include_paths

    device = 'cuda' if uses_cuda() else 'cpu'
    header = folder / 'prefix.h'
    result = folder / ('prefix.h.pch' if is_clang() else 'prefix.h.gch')
    part = folder / 'part'
    paths = [*include_paths(device), INCLUDE]
    includes = ' '.join(f'-I{path}' for path in paths)
    flags = f'{CFLAGS} {includes} {DEFINES} {STANDARD} -w'.split()
    command = [compiler(), *flags, '-x', 'c++-header', header, '-o', part]
    if result.exists():  # a newer one would make ninja compile all again
        return f'-include {header}'
    say('precompiling the headers of torch')
    header.write_text('#include <torch/types.h>\n')
    if subprocess.run(command, capture_output=True).returncode:
        say('the compiler cannot: building without')
    else:
        os.replace(part, result)
    return f'-include {header}'


def is_clang() -> bool:
    """Whether the compiler is clang, which names the result otherwise."""
    out = subprocess.run([compiler(), '--version'], capture_output=True)
    return b'clang' in out.stdout


def jobs() -> int:
    """Number of compilers at a time: one per core and 2 GiB of memory."""
    pages, size = os.sysconf('SC_PHYS_PAGES'), os.sysconf('SC_PAGE_SIZE')
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, pages * size // 2**31))


def environment(folder: Path) -> dict:
    """Variables for pip, with the flags of the compiler."""
    if uses_cuda():
        os.environ.update(cuda_environment(folder))
    flags = f'{CFLAGS} -w {precompile(folder)}'
    env = {'MAX_JOBS': str(jobs()), **os.environ}
    # ninja is installed beside this Python, which need not be on the PATH.
    path = os.path.dirname(sys.executable) + os.pathsep + env.get('PATH', '')
    env.update(CFLAGS=flags, CXX=compiler(), MMCV_WITH_OPS='1', PATH=path)
    return env


def count_sources(sources: Path) -> int:
    """Number of files that will be compiled."""
    ops = sources / 'mmcv/ops/csrc/pytorch'
    patterns = ['*.cpp', 'cpu/*.cpp']
    if uses_cuda():
        patterns += ['cuda/*.cpp', 'cuda/*.cu']
    return sum(len(list(ops.glob(pattern))) for pattern in patterns)


def say(text: str, end: str = '\n') -> None:
    """Print a line of progress."""
    print(f'  mmcv: {text}', end=end, flush=True)


def show_progress(process: subprocess.Popen, sources: Path) -> None:
    """Print objects compiled, time passed and time left until the end."""
    total, screen = count_sources(sources), sys.stdout.isatty()
    start, first = time.time(), None
    while process.poll() is None:
        done = len(list(sources.glob('build/temp*/**/*.o')))
        first = done if first is None else first
        passed = time.time() - start
        text = f'{done} of {total} objects, {clock(passed)} passed'
        if done > first:
            left = passed / (done - first) * (total - done)
            text += f', about {clock(left)} left'
        say(text + ' ' * 8, end='\r' if screen else '\n')
        with suppress(subprocess.TimeoutExpired):
            process.wait(1 if screen else 20)
    say(f'{total} objects, {clock(time.time() - start)}' + ' ' * 40)


def clock(seconds: float) -> str:
    """65 -> '1:05'"""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def build(target: Path) -> None:
    """Build the wheel into `target`; a second call uses compiled objects."""
    folder = CACHE / 'build' / key()
    folder.mkdir(parents=True, exist_ok=True)
    sources = fetch_sources(folder)
    # ninja repeats an object file that was interrupted, but no library.
    for library in sources.glob('build/lib*'):
        shutil.rmtree(library)
    command = [sys.executable, '-m', 'pip', 'wheel', '--verbose', '--no-deps']
    command += ['--no-build-isolation', '--wheel-dir', folder, sources]
    log = folder / 'build.log'
    env = environment(folder)
    with log.open('w') as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file)
        show_progress(process, sources)
    if process.returncode:
        raise Stop(f'mmcv could not be built: {why(log)} (all of it: {log})')
    verify(next(sources.glob('build/lib*/**/_ext*.so')))
    target.mkdir(parents=True, exist_ok=True)
    wheel = next(folder.glob('*.whl'))
    part = shutil.copy(wheel, target / f'{wheel.name}.part')
    os.replace(part, target / wheel.name)
    shutil.rmtree(folder)


def verify(library: Path) -> None:
    """Import the operators, in a process of its own.

    Raises:
        Stop: they cannot be imported, or are not for CUDA and should be.
    """
    done = subprocess.run(
        [sys.executable, '-c', IMPORT, library], capture_output=True, text=True
    )
    said = (done.stdout + done.stderr).strip().splitlines()[-1:]
    if done.returncode or (uses_cuda() and said == ['not available']):
        raise Stop(
            'mmcv was built, but its operators cannot be imported, or are '
            f'not for CUDA: {"".join(said)}'
        )


def why(log: Path) -> str:
    """The first line of the log that names an error."""
    lines = log.read_text(errors='replace').splitlines()
    found = (line.strip() for line in lines if re.search(r'rror: ', line))
    return next(found, 'no error is named')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        raise Stop(__doc__)
    if sys.argv[1] == '--key':
        print(key())
    else:
        check_tools()
        build(Path(sys.argv[1]).absolute())
