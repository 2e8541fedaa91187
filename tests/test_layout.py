"""Imports between rooms go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / 'pvt_mm'

# Room: what its files may import besides the standard library and itself.
ALLOWED = {
    'layers': {'torch'},
    'backbones': {
        'torch',
        'mmengine',
        'pvt_mm.layers',
        'pvt_mm.checkpoints',  # init_cfg goes through the gate
    },
    'checkpoints': {'torch', 'mmengine', 'safetensors', 'rich'},
}
FILES = [
    (room, path)
    for room in ALLOWED
    for path in sorted((ROOT / room).glob('**/*.py'))
]


def imported(path: Path) -> set[str]:
    """Modules that a file imports, relative ones by their full name."""
    package = ['pvt_mm', *path.parent.relative_to(ROOT).parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) + 1 - node.level] if node.level else []
            base = '.'.join([*up, *filter(None, [node.module])])
            names.add(base)
    return names


@pytest.mark.parametrize(
    'room, path', FILES, ids=[f'{r}/{p.name}' for r, p in FILES]
)
def test_rooms_import_only_what_they_may(room, path):
    for name in imported(path):
        top = name.split('.')[0]
        if top == 'pvt_mm':
            other = '.'.join(name.split('.')[:2])
            assert other in {f'pvt_mm.{room}', *ALLOWED[room]}, name
        else:
            assert top in sys.stdlib_module_names | ALLOWED[room], name


def test_backbones_need_no_compiled_mmcv():
    code = (
        'import sys; sys.modules["mmcv"] = sys.modules["mmdet"] = '
        'sys.modules["mmseg"] = None\n'
        'import pvt_mm; print(pvt_mm.PVTv2("b0").out_channels)'
    )
    out = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    assert out.stdout.split('\n')[0] == '(32, 64, 160, 256)'
