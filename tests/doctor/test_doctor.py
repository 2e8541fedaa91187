"""The doctor: each known conflict is provoked and must be named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pvt_mm.doctor import examine
from pvt_mm.doctor.checks import CHECKS
from pvt_mm.doctor.conflicts import BUILD, CUDA_BUILD
from pvt_mm.doctor.cuda import Found, findings, look

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
NO_IMAGE = """
def nms(*args):
    raise RuntimeError('CUDA error: no kernel image is available')
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
     'mmcv was installed without its compiled', BUILD),
    ('operators', mmcv_with('import mmcv._ext', **{'mmcv/_ext.py': EXT_FAILS}),
     'compiled for another torch', BUILD),
    ('operators',
     mmcv_with('import mmcv._ext', **{'mmcv/_ext.py': EXT_CRASHES}),
     'operators crash', BUILD),
    ('operators', {**mmcv_with(CUDA_FAILS), 'torch.py': None},
     "torch is for CUDA, mmcv's operators for the CPU", 'FORCE_CUDA=1'),
    ('operators', {**mmcv_with(NO_IMAGE), 'torch.py': None},
     'no code for the architecture of this GPU', 'FORCE_CUDA=1'),
    ('operators', {**mmcv_with(WRONG_NMS), 'torch.py': None},
     'nms on cpu keeps [0, 1, 2]', 'no conflict we know of'),
    ('mmcv', absent('mmcv'),
     'mmcv is not installed', BUILD),
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
           'refuse mmcv 2.2.0', BUILD)
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


def test_operators_of_the_cpu_where_cuda_is_wanted(tmp_path, monkeypatch):
    """Set-up with PVT_MM_CUDA=1 must not take a wheel for the CPU."""
    cpu = 'nms = roi_align = get_compiling_cuda_version = lambda: "not '
    write(tmp_path, mmcv_with(f'{cpu}available"'))
    monkeypatch.setenv('PVT_MM_CUDA', '1')
    done = doctor(tmp_path, 'operators')
    assert done.returncode == 1
    assert "mmcv's operators for the CPU only" in done.stdout


H100, GTX = ('NVIDIA H100', '9.0'), ('NVIDIA GTX 1080', '6.1')
CU130 = Found(torch=(13, 0), driver=(13, 0), archs=['75', '86', '90a'])


@pytest.mark.parametrize(
    ('found', 'name', 'wrong', 'fix'),
    [
        (
            CU130._replace(driver=(12, 4), gpus=[H100], archs=[]),
            'driver',
            'knows CUDA up to 12.4, torch was built with 13.0',
            'update the driver, or install a build for CUDA 12 (rm -r .venv',
        ),
        (
            CU130._replace(gpus=[H100, GTX]),
            'torch',
            'no code for NVIDIA GTX 1080 of architecture 6.1, only for 75, 86',
            'another build of torch',
        ),
        (
            CU130._replace(nvcc=(12, 8)),
            'nvcc',
            'it is of CUDA 12.8, torch of 13.0',
            'CUDA_HOME=',
        ),
    ],
)
def test_driver_gpu_and_nvcc_that_do_not_fit(found, name, wrong, fix):
    ((said, cause, command),) = findings(found)
    assert said == name and wrong in cause and fix in command


@pytest.mark.parametrize(
    'found',
    [
        Found(),
        Found(driver=(12, 4), gpus=[H100], nvcc=(12, 4)),  # torch for the CPU
        CU130._replace(driver=(0, 0)),
        CU130._replace(
            driver=(13, 2), gpus=[H100, ('NVIDIA L40S', '8.9')], nvcc=(13, 1)
        ),
    ],
)
def test_what_fits(found):
    assert not list(findings(found))


def test_what_is_found_of_cuda(tmp_path, monkeypatch):
    for name, text in (
        ('nvidia-smi', 'NVIDIA A10, 8.6\nNVIDIA H100 80GB, 9.0'),
        ('nvcc', 'Cuda compilation tools, release 12.8, V12.8.93'),
    ):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{text}"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    found = look()
    assert found.nvcc == (12, 8)
    assert found.gpus == [('NVIDIA A10', '8.6'), ('NVIDIA H100 80GB', '9.0')]
    cuda = torch.version.cuda
    assert found.torch == (
        tuple(map(int, cuda.split('.'))) if cuda else (0, 0)
    )


def test_python_that_is_too_new():
    note = next(examine.untested((3, 14)))
    assert note == 'note    python: tested with 3.11 to 3.13, not with 3.14'
    for fix in (BUILD, CUDA_BUILD):
        assert '--no-binary' in examine.for_installed(fix, (3, 12))
        fix = examine.for_installed(fix, (3, 13))
        assert '--no-binary' not in fix and 'tools/build_mmcv.py dist' in fix


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
        ('mmcv', 'dist/mmcv-2.1.0-*.whl'),
        ('onedl-mmcv', 'dist/onedl_mmcv-2.3.6-*.whl'),
    ]
    if sys.version_info >= (3, 13)
    else [
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
