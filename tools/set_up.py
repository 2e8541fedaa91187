"""Set up .venv with pinned versions; a complete one is left as it is.

Called by make with any Python of a supported version; standard library only.

    PVT_MM_STACK=onedl        the onedl fork instead, in .venv-onedl
    PVT_MM_VENV=FOLDER        another folder than .venv
    PVT_MM_WHEELS=FOLDER      where a built wheel of mmcv is searched first
    PVT_MM_TORCH_INDEX=URL    a package index with another build of torch than
                              the one for this machine
    PVT_MM_CUDA=1             a torch and operators for CUDA without a GPU here
    PVT_MM_TORCH=keep         use the torch installed for this Python
"""

import ctypes
import fcntl
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urljoin
from urllib.request import Request, urlopen

from build_mmcv import (
    CACHE,
    FILE,
    NAME,
    ROOT,
    STACK,
    VERSION,
    Stop,
    check_tools,
)

VENV = ROOT / (
    os.environ.get('PVT_MM_VENV')
    or ('.venv' if STACK == 'upstream' else f'.venv-{STACK}')
)
PYTHON = VENV / 'bin/python'
# Made with the environment; holds digest() once the environment is complete.
MARK = VENV / 'made_by_pvt_mm'
# A .pth file with the site-packages of the Python whose torch is used.
KEPT = 'kept_torch.pth'
PINS = [ROOT / 'constraints.txt']
if STACK != 'upstream':
    PINS += [ROOT / f'constraints-{STACK}.txt']
SOURCES = (*PINS, ROOT / 'setup.py', Path(__file__))
# numpy and scipy of constraints.txt ask for 3.11; torch 2.13 and mmcv were
# tried up to 3.13.
OLDEST, NEWEST = (3, 11), (3, 13)

# PyTorch's own indices. PyPI has the build for CUDA 13; that for CUDA 12.6
# runs with every driver for CUDA 12.
CPU_INDEX = 'https://download.pytorch.org/whl/cpu'
CUDA_12_INDEX = 'https://download.pytorch.org/whl/cu126'
PATIENCE = 3.0  # seconds that an index has to answer


def main() -> None:
    """Set up the environment unless it is complete."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        side = 'old' if sys.version_info < OLDEST else 'new'
        raise Stop(
            f'Python {sys.version.split()[0]} is too {side}: install Python '
            '3.11, 3.12 or 3.13, or name one: PYTHON=/path/to/python3.11.'
        )
    CACHE.mkdir(exist_ok=True)
    with (CACHE / 'set_up.lock').open('w') as lock:
        wait_for(lock)
        if not ready():
            set_up()


def wait_for(lock) -> None:
    """Lock the set-up; its child processes keep the lock if it is killed."""
    os.set_inheritable(lock.fileno(), True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say('another set-up is running here: waiting for it')
        fcntl.flock(lock, fcntl.LOCK_EX)


def ready() -> bool:
    """Whether the environment is complete and SOURCES are unchanged since."""
    return PYTHON.exists() and MARK.exists() and MARK.read_text() == digest()


def digest() -> str:
    """SHA-256 of the files that the environment is made from."""
    return hashlib.sha256(
        b''.join(f.read_bytes() for f in SOURCES)
    ).hexdigest()


def set_up() -> None:
    """Make the environment and install everything into it."""
    keep = keeps_torch()
    if not keep and not wheels(''):
        check_tools()  # before anything is downloaded
    make_venv()
    say('1 of 4: pip, setuptools, ninja, numpy')
    # torch warns where it finds no numpy.
    pip('pip', 'setuptools', 'wheel', 'ninja', 'numpy')
    own_torch() if keep else pip_torch()
    say(f'3 of 4: {NAME} {VERSION} with operators')
    install_mmcv()
    say('4 of 4: mmengine, mmdet, mmsegmentation, test tools, pvt_mm')
    pip('--no-build-isolation', '--editable', f'{ROOT}[{STACK},export,test]')
    # It asks for torchvision, which would bring another torch.
    pip('--no-deps', 'timm')
    if check(quiet=True) and check():
        raise Stop('Set-up ended, but the doctor found problems: see above.')
    MARK.write_text(digest())
    say('ready: the doctor (make doctor) finds nothing broken')


def keeps_torch() -> bool:
    """Whether a torch that was installed before is used."""
    kept = any(VENV.glob(f'lib/python*/site-packages/{KEPT}'))
    return kept or os.environ.get('PVT_MM_TORCH') == 'keep'


def make_venv() -> None:
    """Make a new environment; one that was complete is kept and updated."""
    if VENV.exists() and not MARK.exists():
        raise Stop(
            f'{VENV} was not made by this set-up: move it away '
            f'(mv {VENV.name} {VENV.name}.old), then run the same command '
            'again.'
        )
    if PYTHON.exists() and MARK.read_text() and not run(PYTHON, '-c', ''):
        return
    VENV.mkdir(exist_ok=True)
    MARK.write_text('')
    empty(VENV)
    if run(sys.executable, '-m', 'venv', VENV, quiet=True):
        version = f'{sys.version_info[0]}.{sys.version_info[1]}'
        raise Stop(
            f'{sys.executable} has no working venv module: install it '
            f'(Debian, Ubuntu: apt-get install python{version}-venv).'
        )


def empty(venv: Path) -> None:
    """Remove all files of an environment except MARK."""
    for path in venv.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != MARK:
            path.unlink()


def run(*command, quiet=False) -> int:
    """Run a command without variables of other environments -> status."""
    hidden = ('PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET')
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    out = subprocess.DEVNULL if quiet else None
    return subprocess.run(
        command, env=env, cwd=ROOT, close_fds=False, stdout=out, stderr=out
    ).returncode


def pip(*args) -> None:
    """Install `args` in the pinned versions or stop."""
    if try_pip(*args):
        raise Stop(
            f'Set-up stopped, because pip could not install {args[-1]}: see '
            'above why, fix it (the network?) and run the same command again.'
        )


def try_pip(*args) -> int:
    """Install `args` in the pinned versions -> exit status of pip."""
    command = [PYTHON, '-m', 'pip', 'install', '-qq']  # errors only
    files = [('--constraint', path) for path in pins()]
    return run(*command, *sum(files, ()), *args)


def pins() -> list[Path]:
    """The files of pins, or a copy without torch if it is kept."""
    if not keeps_torch():
        return PINS
    lines = [x for path in PINS for x in path.read_text().splitlines()]
    own = CACHE / PINS[-1].name
    own.write_text('\n'.join(x for x in lines if not x.startswith('torch==')))
    return [own]


def pip_torch() -> None:
    """Install the build of torch that suits this machine."""
    index, what = choose_torch(driver_version())
    say(f'2 of 4: torch {what}; nothing is shown while pip downloads')
    # A build such as 2.13.0+cpu counts as newer than 2.13.0 elsewhere.
    extra = ('--extra-index-url', index) if index else ()
    pip(*extra, 'torch')


def driver_version() -> int:
    """Latest CUDA version that the NVIDIA driver knows: 12080; 0 without."""
    number = ctypes.c_int()
    with suppress(OSError):
        driver = ctypes.CDLL('libcuda.so.1')
        driver.cuDriverGetVersion(ctypes.byref(number))
    return number.value


def choose_torch(driver: int) -> tuple[str, str]:
    """Index that has the build for this machine ('': PyPI), and its name.

    Args:
        driver: as from :func:`driver_version`.

    Raises:
        Stop: no build fits the driver.
    """
    index = os.environ.get('PVT_MM_TORCH_INDEX')
    cuda = driver >= 13000 or os.environ.get('PVT_MM_CUDA') == '1'
    pypi = 'of PyPI, for CUDA 13 (about 3 GB, 5 GB on the disk)'
    if cuda and not index:
        return '', pypi
    index = index or (CUDA_12_INDEX if driver else CPU_INDEX)
    found, what = ask(index)
    if found:
        return index, f'{what} of {index}'
    if 0 < driver < 13000:
        known = f'{driver // 1000}.{driver % 1000 // 10}'
        raise Stop(
            f'The NVIDIA driver knows CUDA up to {known}, torch of PyPI is '
            f'for CUDA 13, and {index} has no other ({what}): update the '
            'driver to 580 or newer, or name an index: PVT_MM_TORCH_INDEX=.'
        )
    return '', f'{pypi}, because {index} has none ({what})'


def ask(index: str) -> tuple[bool, str]:
    """Whether an index answers in time and has a torch; its name, or why not.

    A name that is looked up cannot be given a time limit, a thread can.
    """
    if not index.startswith('http'):  # a folder, which pip will read
        return True, 'in the pinned version'
    answer = queue.Queue()

    def look() -> None:
        try:
            answer.put(find_torch(index))
        except (OSError, ValueError) as error:
            answer.put((False, str(getattr(error, 'reason', error))))

    threading.Thread(target=look, daemon=True).start()
    with suppress(queue.Empty):
        return answer.get(timeout=PATIENCE)
    return False, f'no answer in {PATIENCE:.0f} s'


def find_torch(index: str) -> tuple[bool, str]:
    """Look for the pinned torch in an index -> as :func:`ask`."""
    version = re.search(r'^torch==(\S+)', PINS[0].read_text(), re.M)[1]
    python = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    machine = sysconfig.get_platform().rpartition('-')[2]
    name = rf'torch-({re.escape(version)}(?:\+\w+)?)-{python}-{python}-\S*'
    with urlopen(f'{index.rstrip("/")}/torch/', timeout=PATIENCE) as page:
        links = re.findall(r'href="([^"#]+)', page.read().decode())
        for link in links:
            if match := re.search(name + machine, unquote(link)):
                head = Request(urljoin(page.url, link), method='HEAD')
                with urlopen(head, timeout=PATIENCE) as file:
                    size = int(file.headers.get('Content-Length', 0))
                return True, f'{match[1]} ({size / 1e6:.0f} MB)'
    return False, f'no torch {version} for {python}'


def own_torch() -> None:
    """Add the packages of the Python that runs this to .venv."""
    say(f'2 of 4: the torch of {sys.executable}')
    site = next(VENV.glob('lib/python*/site-packages'))
    if not (site / KEPT).exists():
        (site / KEPT).write_text(sysconfig.get_path('purelib') + '\n')
    if run(PYTHON, '-c', 'import torch'):
        raise Stop(
            f'PVT_MM_TORCH=keep, but {sys.executable} has no working torch: '
            'name the Python that has it with PYTHON=/path/to/python.'
        )


def wheels(key: str) -> list[Path]:
    """Built wheels of mmcv for the key, those of PVT_MM_WHEELS first."""
    given = os.environ.get('PVT_MM_WHEELS')
    if given and not Path(given).is_dir():
        raise Stop(f'PVT_MM_WHEELS={given} is no folder: correct or unset it.')
    name = f'{FILE}-{key.partition("-")[0]}*.whl'
    found = list(Path(given).glob(name)) if given else []
    return found + list((CACHE / 'wheels').glob(f'{key or "*"}/{name}'))


def install_mmcv() -> None:
    """Install a wheel whose operators work; build one if there is none."""
    if not check('operators', quiet=True):
        return
    key = subprocess.run(
        [PYTHON, ROOT / 'tools/build_mmcv.py', '--key'],
        stdout=subprocess.PIPE,
        text=True,
    )
    if key.returncode:
        raise SystemExit(key.returncode)
    for wheel in wheels(key.stdout.strip()):
        if try_wheel(wheel):
            return
        say(f'{wheel.name} does not work with this torch')
    wheel = build_wheel(key.stdout.strip())
    if not try_wheel(wheel):
        shutil.rmtree(wheel.parent)
        raise SystemExit(check('operators') or 1)


def build_wheel(key: str) -> Path:
    """Build a wheel of mmcv for the key and keep it in the cache."""
    folder = CACHE / 'wheels' / key
    if run(PYTHON, ROOT / 'tools/build_mmcv.py', folder):
        raise SystemExit(1)
    return wheels(key)[-1]


def try_wheel(wheel: Path) -> bool:
    """Install a wheel of mmcv -> whether its operators work."""
    say(f'installing {wheel.name} of {wheel.parent}')
    run(PYTHON, '-m', 'pip', 'uninstall', '-qq', '--yes', NAME)
    if try_pip(wheel):
        return False
    # OpenCV needs libGL, which a machine without a screen may not have; its
    # headless build brings the same module and needs nothing.
    if check('opencv', quiet=True):
        pip('--force-reinstall', '--no-deps', 'opencv-python-headless')
    return not check('operators', quiet=True)


def check(*names: str, quiet=False) -> int:
    """Run checks of the doctor, or all, in the environment -> status."""
    return run(PYTHON, '-m', 'pvt_mm.doctor', *names, quiet=quiet)


def say(text: str) -> None:
    """Print a line of progress."""
    print(f'set-up: {text}', flush=True)


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        raise Stop('\nInterrupted; the same command continues.') from None
