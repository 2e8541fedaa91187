"""Put what another environment needs into dist: two wheels and the pins.

Called by make wheels with the Python of the environment that set_up.py made;
prints the line that installs them. PVT_MM_STACK as there.
"""

import shutil

from build_mmcv import ROOT, STACK, Stop, key
from set_up import PINS, PYTHON, build_wheel, run, wheels

DIST = ROOT / 'dist'


def main() -> None:
    """Fill dist and print the command that installs from it."""
    DIST.mkdir(exist_ok=True)
    found = wheels(key())
    files = [found[-1] if found else build_wheel(key()), *PINS]
    for file in files:
        shutil.copy(file, DIST)
    command = [PYTHON, '-m', 'pip', 'wheel', '-qq', '--no-deps']
    command += ['--no-build-isolation', '--wheel-dir', DIST, ROOT]
    if run(*command):
        raise Stop('pip could not build the wheel of pvt_mm: see above why.')
    own = max(DIST.glob('pvt_mm-*.whl'), key=lambda file: file.stat().st_mtime)
    pins = ' '.join(f'-c dist/{file.name}' for file in PINS)
    print(
        'dist: two wheels and their pins. In an environment of this Python:\n'
        f"  pip install {pins} dist/{files[0].name} 'dist/{own.name}[{STACK}]'"
    )


if __name__ == '__main__':
    main()
