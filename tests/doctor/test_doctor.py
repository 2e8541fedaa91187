"""The doctor: each known conflict is provoked and must be named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pvt_mm.doctor import examine
from pvt_mm.doctor.checks import CHECKS

ROOT = Path(__file__).parents[2]
ONEDL = bool(examine.installed(['onedl-mmcv']))  # make test STACK=onedl
EXT_FAILS = 'raise ImportError(__file__ + ": undefined symbol: _ZN3c10")'
EXT_CRASHES = 'import os; os.kill(os.getpid(), 11)'
NO_SAFE = 'import torch; torch.serialization.add_safe_globals = print'
CUDA_FAILS = """
def nms(*args):
    raise RuntimeError('nms_impl: implementation for device cuda:0 not found.')
roi_align = nms
"""
WRONG_NMS = """
import torch
def nms(boxes, scores, threshold):
    return boxes, torch.arange(len(boxes))
roi_align = nms
"""


def mmcv_with(ops, **more):
    """Files of a package mmcv with these operators, and a torch to go by."""
    files = {'mmcv/__init__.py': '', 'mmcv/ops/__init__.py': ops}
    return {**files, 'torch.py': '', **more}


def absent(name):
    text = f'raise ModuleNotFoundError("No module named {name!r}")'
    return {f'{name}.py': text}


# fmt: off
CONFLICTS = [
    # check, modules in its way, what is wrong, the fix
    ('operators', mmcv_with('import mmcv._ext'),
     'mmcv was installed without its compiled', 'MMCV_WITH_OPS=1'),
    ('operators', mmcv_with('import mmcv._ext', **{'mmcv/_ext.py': EXT_FAILS}),
     'compiled for another torch', '--no-build-isolation'),
    ('operators',
     mmcv_with('import mmcv._ext', **{'mmcv/_ext.py': EXT_CRASHES}),
     'operators crash', '--no-build-isolation'),
    ('operators', {**mmcv_with(CUDA_FAILS), 'torch.py': None},
     'compiled without this GPU', 'FORCE_CUDA=1'),
    ('operators', {**mmcv_with(WRONG_NMS), 'torch.py': None},
     'nms on cpu keeps [0, 1, 2]', 'no conflict we know of'),
    ('mmcv', absent('mmcv'),
     'mmcv is not installed', '--no-binary mmcv mmcv==2.1.0'),
    ('mmdet', absent('mmdet'), 'mmdet is not installed', 'mmdet==3.3.0'),
    ('mmseg', absent('mmseg'), 'mmsegmentation is not installed', 'ftfy'),
    ('opencv', absent('cv2'), 'OpenCV is not installed', 'opencv-python'),
    ('torch', absent('torch'), 'torch is not installed', 'pip install torch'),
    ('setuptools', absent('pkg_resources'),
     'setuptools 82 dropped pkg_resources', "'setuptools<81'"),
    ('opencv', {'cv2.py': 'raise ImportError("libGL.so.1: cannot open shared '
                          'object file: No such file or directory")'},
     'OpenCV needs libGL.so.1', 'opencv-python-headless'),
    ('numpy', {'torch.py': 'def from_numpy(array):\n'
                           '    raise RuntimeError("Numpy is not available")'},
     'built for another numpy', "'numpy<2'"),
    ('mmengine', {'mmengine/__init__.py': '', 'mmengine/runner.py':
                  'raise KeyError("Adafactor is already registered in '
                  'optimizer at torch.optim")'},
     'registers Adafactor a second time', 'mmengine==0.10.7'),
]
if not ONEDL:  # which accepts any mmcv and allows its own classes
    CONFLICTS += [
        *((library, {'mmcv.py': '__version__ = "2.2.0"'},
           'refuse mmcv 2.2.0', 'mmcv==2.1.0')
          for library in ('mmdet', 'mmseg')),
        ('checkpoint', {'sitecustomize.py': NO_SAFE},
         'torch 2.6 and later refuse', 'pvt_mm'),
    ]
# fmt: on


def write(folder, files):
    for name, text in files.items():
        if text is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def doctor(folder, *checks):
    """Run the doctor where `folder` hides what is really installed."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, '-m', 'pvt_mm.doctor', *checks],
        env={**os.environ, 'PYTHONPATH': path},
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(('check', 'files', 'wrong', 'fix'), CONFLICTS)
def test_names_each_conflict(check, files, wrong, fix, tmp_path):
    write(tmp_path, files)
    done = doctor(tmp_path, check)
    first, second = done.stdout.split('BROKEN')[1].splitlines()[:2]
    assert done.returncode == 1 and done.stderr == ''
    assert first.startswith(f'  {check}: ') and wrong in first
    fix = examine.for_installed(fix)
    assert second.startswith('        fix: ') and fix in second


def test_finds_this_environment_sound(tmp_path):
    done = doctor(tmp_path, 'opencv', 'setuptools', 'operators', 'focal_loss')
    assert done.stdout.count('\nok ') == 4, done.stdout
    assert done.returncode == 0


def test_says_the_same_only_once(tmp_path):
    write(tmp_path, absent('torch'))
    done = doctor(tmp_path, 'torch', 'numpy')
    assert done.stdout.count('fix: pip install torch') == 1
    assert 'fix: as torch' in done.stdout
    assert '2 broken' in done.stdout


def test_finds_forks_that_overwrite_each_other(tmp_path):
    other = 'mmcv' if ONEDL else 'onedl-mmcv'
    text = f'Metadata-Version: 2.1\nName: {other}\nVersion: 9.0\n'
    folder = f'{other.replace("-", "_")}-9.0.dist-info'
    write(tmp_path, {f'{folder}/METADATA': text})
    done = doctor(tmp_path, 'setuptools')
    assert 'mmcv and onedl-mmcv overwrite each other' in done.stdout
    assert 'neither is whole' in done.stdout
    assert 'not with 9.0\n' in done.stdout
    assert done.returncode == 1


def test_finds_mixed_families(monkeypatch):
    there = {'mmengine', 'onedl-mmcv'}
    monkeypatch.setattr(
        examine, 'installed', lambda names: dict.fromkeys(there & {*names})
    )
    (finding,) = examine.mixtures()
    assert 'are mixed: mmengine, onedl-mmcv' in finding


@pytest.mark.parametrize(
    ('family', 'fix'),
    [
        ('mmcv', '--no-binary mmcv mmcv==2.1.0'),
        ('onedl-mmcv', '--no-binary onedl-mmcv onedl-mmcv==2.3.6'),
    ],
)
def test_fixes_name_the_installed_distributions(family, fix, monkeypatch):
    monkeypatch.setattr(
        examine, 'installed', lambda names: dict.fromkeys({family} & {*names})
    )
    _, found = examine.diagnose("No module named 'mmcv._ext'")
    assert fix in found
    assert ('onedl' in found) == family.startswith('onedl')


def test_one_of_the_two_libraries_is_enough(monkeypatch):
    there = {'mmdet'}
    monkeypatch.setattr(
        examine.importlib.util, 'find_spec', lambda x: x in there or None
    )
    assert [n for n in CHECKS if examine.is_absent(n)] == ['mmseg']
    there.clear()
    assert not any(examine.is_absent(name) for name in CHECKS)


def test_a_module_that_no_library_needs_is_no_known_conflict():
    assert examine.known_conflict("No module named 'my_package'") is None
    assert examine.known_conflict("No module named 'torch'") == (
        'torch is not installed; fix: pip install torch'
    )


def test_unknown_check_is_one_sentence(tmp_path):
    done = doctor(tmp_path, 'optorch')
    assert done.returncode == 2
    assert "no check is called 'optorch'" in done.stderr
    assert 'Traceback' not in done.stderr
