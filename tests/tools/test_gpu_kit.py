"""The folder for a machine without network: what is in it, and its size."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    'download': ('mmdet-3.3.0-py3', 'numpy-2-cp312', 'opencv_python-5-cp37'),
    'wheel': ('pvt_mm-0.2.0-py3',),
}


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The module gpu_kit, with a pip that writes FILES of a MiB each."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    for name in ('KIT_HAS', 'KIT_MMCV', 'KIT_PYTHON'):
        monkeypatch.delenv(name, raising=False)
    import gpu_kit

    def pip(*command):
        kind = command[3]
        option = '--dest' if kind == 'download' else '--wheel-dir'
        folder = Path(command[command.index(option) + 1])
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES[kind]:
            (folder / f'{name}-none-any.whl').write_bytes(bytes(2**20))
        return 0

    monkeypatch.setattr(gpu_kit, 'KIT', tmp_path / 'gpu-kit')
    monkeypatch.setattr(gpu_kit, 'run', pip)
    return gpu_kit


def test_what_the_machine_has_stays_out(tool, monkeypatch, tmp_path, capsys):
    wheel = tmp_path / 'mmcv-2.1.0-cp312.whl'
    wheel.touch()
    monkeypatch.setenv('KIT_MMCV', str(wheel))
    tool.main()
    names = {file.name.split('-')[0] for file in tool.KIT.glob('wheels/*')}
    assert names == {'mmdet', 'mmcv', 'pvt_mm'}
    assert 'gpu-kit: 2 MiB for Python 3.12' in capsys.readouterr().out
    monkeypatch.setenv('KIT_HAS', '')
    tool.main()
    names = {file.name.split('-')[0] for file in tool.KIT.glob('wheels/*')}
    assert names == {'mmdet', 'mmcv', 'pvt_mm', 'numpy'}


def test_a_kit_that_is_too_large_is_one_sentence(tool, monkeypatch):
    monkeypatch.setattr(tool, 'LIMIT', 2**20)
    with pytest.raises(tool.Stop, match=r'MiB, more than 64.*KIT_HAS'):
        tool.main()


def test_the_script_is_one(tool):
    checked = subprocess.run(['sh', '-n'], input=tool.INSTALL, text=True)
    assert checked.returncode == 0
