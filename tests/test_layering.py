"""Imports run one way: a part of the package imports only parts below it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / 'pvt_mm'

# Every folder and top-level file, from the bottom up.
ORDER = (
    'families',
    'errors',
    'compat',
    'config',
    'checkpoints',
    'models',
    'datasets',
    'evaluation',
    'engine',
    'reproduction',
    'visualization',
    'inference',
    'benchmark',
    'export',
    'demo',
    'doctor',
    'cli',
    '__init__',
    '__main__',
)
# Parts that import none of the others.
ALONE = ('families', 'errors', 'compat', 'doctor')
# What a part may import besides the standard library and this package.
NETWORKS = {'torch', 'mmengine'}
LIBRARIES = {
    'families': set(),
    'errors': set(),
    'doctor': set(),
    'cli': {'mmengine'},
    'config': {*NETWORKS, 'msgspec'},
    'checkpoints': {
        *('torch', 'mmengine', 'numpy', 'safetensors', 'rich'),
        'cv2',  # imported by the function that writes images
    },
    'models/layers': {'torch'},
    'models/backbones': NETWORKS,
    'models/classifiers': NETWORKS,
}
FILES = sorted(ROOT.rglob('*.py'))


def part_of(path: Path) -> str:
    """The folder or top-level file that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix('.py')


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
            names |= {f'{base}.{alias.name}' for alias in node.names}
    return names


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_order_has_every_folder_and_file():
    assert sorted({part_of(path) for path in FILES}) == sorted(ORDER)


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_imports_run_one_way(path):
    part = part_of(path)
    below = set() if part in ALONE else set(ORDER[: ORDER.index(part)])
    for name in imported(path):
        top, *rest = name.split('.')
        if top == 'pvt_mm':
            assert rest, f'{name_of(path)}: import pvt_mm'
            assert rest[0] in below | {part}, f'{name_of(path)}: {name}'


@pytest.mark.parametrize('part', LIBRARIES)
def test_libraries_that_a_part_may_import(part):
    allowed = sys.stdlib_module_names | LIBRARIES[part] | {'pvt_mm'}
    paths = [
        p for p in FILES if name_of(p).startswith((f'{part}/', f'{part}.'))
    ]
    assert paths
    for path in paths:
        tops = {name.split('.')[0] for name in imported(path)}
        assert tops <= allowed, f'{name_of(path)}: {tops - allowed}'


def loaded_by(code: str) -> set[str]:
    """Modules that are loaded after some code in a new process."""
    done = subprocess.run(
        [sys.executable, '-c', f'{code}\nimport sys; print(*sys.modules)'],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_the_models_and_no_more():
    loaded = loaded_by('import pvt_mm')
    parts = {name.split('.')[1] for name in loaded if 'pvt_mm.' in name}
    assert parts == {
        'models',
        'checkpoints',
        'config',
        'families',
        'errors',
        'compat',
    }
    assert not {'mmcv', 'mmdet', 'mmseg'} & loaded
    assert 'pvt_mm.models.decode_heads' not in loaded


def test_importing_the_package_changes_nothing_of_mmengine():
    code = """
import mmengine.hub, mmengine.runner
from mmengine.config import Config
def public():
    return {
        (owner.__name__, name): value
        for owner in (mmengine.hub, mmengine.runner.checkpoint, Config)
        for name, value in vars(owner).items()
        if name != '__annotations__'
    }
before = public()
import pvt_mm
assert public() == before
"""
    loaded_by(code)


def test_backbones_need_no_compiled_mmcv():
    code = (
        'import sys; sys.modules["mmcv"] = sys.modules["mmdet"] = '
        'sys.modules["mmseg"] = None\n'
        'import pvt_mm; assert pvt_mm.PVTv2("b0").out_channels == '
        '(32, 64, 160, 256)'
    )
    loaded_by(code)


# What begins with one too: methods of the standard library's named tuples,
# keys of mmengine's configs, ends of names.
PUBLIC = {
    *('_asdict', '_field_defaults', '_fields', '_replace'),
    *('_base_', '_delete_', '_scope_'),
    *('_dataloader', '_evaluator', '_precision', '_li', '_cuda'),
}
TOOLS = sorted((ROOT.parent / 'tools').rglob('*.py'))
# Files that are not part of the package -> private names that they need.
ALLOWED = {
    'tools/baselines/shares.py': {  # torch's profiler reports them by name
        *('_slow_conv', '_softmax'),
        '_scaled_dot_product',
        '_scaled_dot_product_flash_attention_for_cpu',
    },
}
OWN = ('self', 'super()')  # see private_methods


def private_names(path: Path) -> set[str]:
    """Names with an underscore, in code and strings, that are not OWN."""
    found = set()
    nodes = list(ast.walk(ast.parse(path.read_text())))
    texts = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    ends = {part for text in texts for part in text.values}  # of f-strings
    for node in nodes:
        if isinstance(node, ast.Attribute):
            parts = [] if ast.unparse(node.value) in OWN else [node.attr]
        elif isinstance(node, ast.Constant) and node not in ends:
            parts = re.findall(r'^_[a-z]\w+$', str(node.value))
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            parts = [*(node.module or '').split('.'), *names]
        elif isinstance(node, ast.Import):
            parts = [p for a in node.names for p in a.name.split('.')]
        else:
            continue
        found |= {p for p in parts if p.startswith('_')}
    return {p for p in found if not p.startswith('__')} - PUBLIC


def private_methods(path: Path) -> set[tuple[str, str]]:
    """(class, name) of underscored methods and attributes of ``self``."""
    found = set()
    for kind in ast.walk(ast.parse(path.read_text())):
        if not isinstance(kind, ast.ClassDef):
            continue
        for node in ast.walk(kind):
            name = ''
            if isinstance(node, ast.FunctionDef):
                name = node.name
            elif isinstance(node, ast.Attribute):
                name = node.attr if ast.unparse(node.value) in OWN else ''
            if name.startswith('_') and not name.startswith('__'):
                found.add((kind.name, name))
    return found


def test_private_names_of_libraries_are_in_one_file():
    from pvt_mm.compat import OVERRIDES

    found = set()
    for path in FILES:
        if path.name == 'compat.py':
            continue
        found |= private_methods(path)
        names = private_names(path)
        assert not names, f'{name_of(path)}: {names}'
    assert found == set(OVERRIDES)


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.name)
def test_private_names_in_tools_are_listed(path):
    name = str(path.relative_to(ROOT.parent))
    found = private_names(path) | {n for _, n in private_methods(path)}
    assert found == ALLOWED.get(name, set())


def test_private_names_are_seen_where_they_are_used(tmp_path):
    file = tmp_path / 'x.py'
    file.write_text("""
from a._b import c
class D:
    def _e(self):
        super()._e(self._f, c._e, getattr(c, '_get'), {'_base_': f'{c}_i'})
""")
    assert private_names(file) == {'_b', '_e', '_get'}
    assert private_methods(file) == {('D', '_e'), ('D', '_f')}


def test_every_folder_is_a_package():
    """A folder without __init__.py would be missing in the wheel."""
    folders = {path.parent for path in FILES}
    assert not [f for f in folders if not (f / '__init__.py').is_file()]
