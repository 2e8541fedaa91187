"""Building mmcv for CUDA: which GPUs, which toolkit, which libraries."""

import os
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
LIBRARY = f'_ext{sysconfig.get_config_var("EXT_SUFFIX")}'


@pytest.fixture
def tool(monkeypatch):
    """The module cuda_toolkit, as on a machine with torch for CUDA 13.0."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    for name in ('CUDA_HOME', 'PVT_MM_CUDA', 'PVT_MM_CUDA_ARCHS'):
        monkeypatch.delenv(name, raising=False)
    import cuda_toolkit

    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(cuda_toolkit, 'USUAL', '/no/toolkit')
    monkeypatch.setattr(cuda_toolkit.shutil, 'which', lambda name: None)
    return cuda_toolkit


@pytest.fixture
def builder(tool):
    """The module build_mmcv."""
    import build_mmcv

    return build_mmcv


def gpus(monkeypatch, *capabilities):
    """Let torch find GPUs of these architectures."""
    cuda = torch.cuda
    monkeypatch.setattr(cuda, 'is_available', lambda: bool(capabilities))
    monkeypatch.setattr(cuda, 'device_count', lambda: len(capabilities))
    monkeypatch.setattr(
        cuda, 'get_device_capability', lambda i: capabilities[i]
    )


def make_toolkit(folder, version='13.0'):
    """A CUDA toolkit whose compiler tells its version."""
    nvcc = folder / 'bin/nvcc'
    for file in (nvcc, folder / 'include/cuda_runtime.h'):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    nvcc.write_text(f'#!/bin/sh\necho "tools, release {version}, V{version}"')
    nvcc.chmod(0o755)
    return folder


def test_cuda_where_a_gpu_is_or_where_it_is_wanted(tool, monkeypatch):
    gpus(monkeypatch)
    assert not tool.uses_cuda()
    monkeypatch.setenv('PVT_MM_CUDA', '1')
    assert tool.uses_cuda()
    monkeypatch.setattr(torch.version, 'cuda', None)
    with pytest.raises(SystemExit, match='PVT_MM_CUDA=1, but torch'):
        tool.uses_cuda()
    monkeypatch.delenv('PVT_MM_CUDA')
    assert not tool.uses_cuda()


def test_architectures_are_chosen_found_or_the_common_ones(
    tool, builder, monkeypatch
):
    gpus(monkeypatch)
    assert tool.archs() == ['8.0', '8.6', '8.9', '9.0', '10.0', '12.0']
    monkeypatch.setattr(torch.version, 'cuda', '12.6')
    assert tool.archs() == ['8.0', '8.6', '8.9', '9.0']
    gpus(monkeypatch, (9, 0), (8, 6), (9, 0))
    assert tool.archs() == ['8.6', '9.0']
    assert 'cuda8.6_9.0' in builder.key()  # another wheel for other GPUs
    monkeypatch.setenv('PVT_MM_CUDA_ARCHS', '10.0 9.0')
    assert tool.archs() == ['9.0', '10.0']


def test_toolkit_of_torch_s_version_is_used(tool, monkeypatch, tmp_path):
    other = make_toolkit(tmp_path / 'other', '12.8')
    right = make_toolkit(tmp_path / 'right')
    monkeypatch.setenv('CUDA_HOME', str(other))
    monkeypatch.setattr(tool, 'USUAL', str(right))
    assert tool.find_toolkit() == right
    # torch takes any nvcc of CUDA 12 if it is for CUDA 12 itself
    monkeypatch.setattr(torch.version, 'cuda', '12.6')
    assert tool.find_toolkit() == other
    (other / 'include/cuda_runtime.h').unlink()
    with pytest.raises(SystemExit, match=r'no nvcc of CUDA 12\.6'):
        tool.find_toolkit()


def test_compiler_of_pypi_is_installed_beside_torch(
    tool, monkeypatch, tmp_path
):
    """Also if torch and the headers it brings are in another folder."""
    cuda, kept = tmp_path / 'nvidia/cu13', tmp_path / 'kept'
    made = make_toolkit(tmp_path / 'made')
    (made / 'include/cuda_runtime.h').unlink()
    header = kept / 'nvidia/cu13/include/cuda_runtime.h'
    header.parent.mkdir(parents=True)
    header.touch()
    cuda.parent.mkdir()
    pip = tmp_path / 'pip'
    pip.write_text(f'#!/bin/sh\necho "$@" >{pip}.log; cp -r {made} {cuda}')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(pip))
    paths = [*sys.path, str(tmp_path), str(kept)]
    monkeypatch.setattr(sys, 'path', paths)
    assert tool.find_toolkit() == cuda
    asked = Path(f'{pip}.log').read_text().split()
    assert {
        *('nvidia-cuda-nvcc==13.0.*', 'nvidia-cuda-crt==13.0.*'),
        *('nvidia-nvvm==13.0.*', 'nvidia-cuda-cccl==13.0.*'),
    } < set(asked)


def test_no_toolkit_is_one_sentence(tool, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'executable', 'false')
    with pytest.raises(SystemExit, match=r'no nvcc of CUDA 13\.0.*CUDA_HOME='):
        tool.find_toolkit()


def test_build_finds_the_headers_and_libraries_of_torch(
    tool, monkeypatch, tmp_path
):
    gpus(monkeypatch, (8, 9))
    cuda = make_toolkit(tmp_path / 'nvidia/cu13')
    library = cuda / 'lib/libcudart.so.13'
    library.parent.mkdir()
    library.write_text('cudart')
    # torch itself may have brought such folders
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    for _ in range(2):  # a build that goes on
        found = tool.cuda_environment(tmp_path)
    assert found['CUDA_HOME'] == str(cuda)
    assert found['TORCH_CUDA_ARCH_LIST'] == '8.9+PTX'
    headers = found['CPATH'].split(os.pathsep)
    assert headers[:2] == [f'{cuda}/include', f'{cuda}/include/cccl']
    linked = Path(found['LIBRARY_PATH'], 'libcudart.so')
    assert linked.read_text() == 'cudart'


def test_operators_that_cannot_be_imported_are_no_success(
    builder, monkeypatch, tmp_path
):
    gpus(monkeypatch)
    (tmp_path / LIBRARY).write_text('no library')
    with pytest.raises(
        builder.Stop, match=r'cannot be imported.*(too short|ELF)'
    ):
        builder.verify(tmp_path / LIBRARY)


def test_operators_of_the_cpu_are_no_success_of_cuda(builder, monkeypatch):
    import mmcv._ext

    gpus(monkeypatch)
    library = Path(mmcv._ext.__file__)
    builder.verify(library)
    if mmcv._ext.get_compiling_cuda_version() == 'not available':
        monkeypatch.setenv('PVT_MM_CUDA', '1')
        with pytest.raises(builder.Stop, match='not for CUDA: not available'):
            builder.verify(library)
