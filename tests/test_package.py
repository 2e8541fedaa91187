"""The package as others meet it: commands, names, inheritance, the wheel."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import mmengine
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

import pvt_mm
from pvt_mm import cli
from pvt_mm.checkpoints import read_weights
from pvt_mm.config import loading
from pvt_mm.config import paths as home
from pvt_mm.config.loading import load_config
from pvt_mm.errors import CheckpointError, UsageError

ROOT = Path(__file__).parent.parent
NAME = 'retinanet_pvt_v2_b0_coco'
# What a wheel is made of.
SOURCES = (
    'pvt_mm',
    'configs',
    'results',
    'tools',
    'setup.py',
    'pyproject.toml',
    'model-index.yml',
)


def python(*command, cwd, path=ROOT):
    """A Python of its own in another folder, which finds modules in path."""
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *command],
        env={**os.environ, 'PYTHONPATH': str(path)},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def without(*modules):
    """Source code that hides modules from what is imported after it."""
    return f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {modules}:
            raise ModuleNotFoundError(f'No module named {{name!r}}')
sys.meta_path.insert(0, Absent())
"""


def say(monkeypatch, capsys, *words):
    """Status and output of ``python -m pvt_mm WORDS``."""
    monkeypatch.setattr(sys, 'argv', ['pvt_mm', *words])
    status = cli.main()
    return status, ''.join(capsys.readouterr())


def test_each_command_is_a_function_and_two_are_tools():
    for target, about in cli.COMMANDS.values():
        module, name = target.split(':')
        assert callable(getattr(import_module(f'pvt_mm.{module}'), name))
        assert about
    started = {
        path.name: path.read_text().split("start('")[1].split("'")[0]
        for path in (ROOT / 'tools').glob('*.py')
        if "start('" in path.read_text()
    }
    assert started == {'train.py': 'train', 'test.py': 'test'}


def test_no_command_prints_them_all_and_a_wrong_one_the_nearest(
    monkeypatch, capsys
):
    status, text = say(monkeypatch, capsys)
    assert status == 0
    assert all(f'  {name} ' in text for name in cli.COMMANDS)
    status, text = say(monkeypatch, capsys, 'trian')
    assert status == 2
    assert text.startswith('error: no command trian; nearest: train')


def test_a_command_gets_its_options(monkeypatch, capsys):
    status, text = say(monkeypatch, capsys, 'flops', 'nothing.py')
    assert status == 1
    assert 'there is no config file nothing.py' in text
    with pytest.raises(SystemExit):
        say(monkeypatch, capsys, 'flops', '--help')
    assert 'usage: pvt_mm flops' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('command', 'words'),
    [
        (
            'train',
            'pvt_mm cannot be imported: no torch. Run "python -m pvt_mm',
        ),
        ('doctor', 'torch       '),
    ],
)
def test_broken_libraries_are_one_sentence_and_stop_no_doctor(
    tmp_path, command, words
):
    (tmp_path / 'torch.py').write_text('raise ImportError("no torch")')
    path = f'{tmp_path}{os.pathsep}{ROOT}'
    checks = ['torch'] if command == 'doctor' else []
    done = python('-m', 'pvt_mm', command, *checks, cwd=tmp_path, path=path)
    assert done.returncode == 1
    assert words in done.stdout + done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    ('name', 'channels', 'strides'),
    [
        ('pvt_v2_b0', (64, 256), (8, 32)),
        ('pvt_tiny', (128, 512), (8, 32)),
        ('mpvit_tiny', (176, 216), (8, 32)),
    ],
)
def test_backbone_by_name(name, channels, strides):
    model = pvt_mm.build_backbone(name, out_indices=(1, 3)).eval()
    assert (model.out_channels, model.strides) == (channels, strides)
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (1, c, 64 // s, 96 // s)
        for c, s in zip(channels, strides, strict=True)
    ]


def test_backbone_with_weights_of_a_name_or_file(tmp_path, monkeypatch):
    model = pvt_mm.build_backbone('pvt_v2_b0')
    file = tmp_path / 'pvt_v2_b0.pth'
    torch.save(model.state_dict(), file)
    monkeypatch.setenv('PVT_MM_WEIGHTS', str(tmp_path))
    first = next(model.parameters())
    for pretrained in (True, 'pvt_v2_b0', 'pvt://pvt_v2_b0', str(file)):
        other = pvt_mm.build_backbone('pvt_v2_b0', pretrained)
        assert torch.equal(next(other.parameters()), first)
    with pytest.raises(CheckpointError, match='does not fit this backbone'):
        pvt_mm.build_backbone('pvt_v2_b1', str(file))


@pytest.mark.parametrize(
    ('name', 'text'),
    [('swin_tiny', 'begin with pvt_, pvt_v2_, mpvit_'), ('pvt_v2_b9', 'b5')],
)
def test_backbone_that_is_not_ours(name, text):
    with pytest.raises(ValueError, match=text):
        pvt_mm.build_backbone(name)


def test_no_mmcv_is_needed_for_backbones_conversion_and_measurement(tmp_path):
    code = f"""
{without('mmcv', 'mmdet', 'mmseg')}
import torch, pvt_mm
from pvt_mm.cli import start
model = pvt_mm.build_backbone('pvt_v2_b0')
torch.save(model.state_dict(), 'ours.pth')
for words in (
    'convert ours.pth official.pth --to official',
    'benchmark pvt_v2_b0 --size 32 32 --rounds 1 --device cpu --threads 1',
):
    sys.argv = words.split()
    assert start(sys.argv[0]) == 0, words
assert not [m for m in sys.modules if m.split('.')[0] == 'mmcv']
print('converted', len(torch.load('official.pth')))
"""
    done = python('-c', code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '| pvt_v2_b0 | 1 x 32 x 32 |' in done.stdout
    assert done.stdout.splitlines()[-1] == 'converted 176'


def test_detectors_without_operators_end_in_one_sentence(tmp_path):
    code = f"""
{without('mmcv._ext')}
from pvt_mm.datasets.synthetic import draw_coco
from pvt_mm.cli import main
draw_coco('data/shapes/coco', 4, 4)
sys.argv = ['pvt_mm', 'train', 'retinanet_pvt_v2_b0_shapes']
sys.exit(main())
"""
    done = python('-c', code, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: mmcv was installed without its compiled')
    assert 'fix: pip uninstall' in line


def test_configs_by_name():
    names = pvt_mm.list_configs()
    assert len(names) > 100 and names == sorted(names)
    assert pvt_mm.list_configs('gfl_*_b2_coco') == ['gfl_pvt_v2_b2_coco']
    path = str(ROOT / f'configs/{NAME}.py')
    for name in (NAME, f'{NAME}.py', f'configs/{NAME}.py', f'pvt_mm::{NAME}'):
        assert pvt_mm.config_path(name) == path
    with pytest.raises(UsageError, match='nearest: configs/retinanet_pvt'):
        pvt_mm.config_path('retinanet_pvt_v2_b_coco')


def test_inheritance_by_name(tmp_path):
    change = '\nmodel = dict(bbox_head=dict(num_classes=3))\n'
    for file, base in (
        ('path.py', repr(pvt_mm.config_path(NAME))),
        ('name.py', f'"pvt_mm::{NAME}.py"'),
        ('recipe.py', '"pvt_mm::_base_/retinanet_1x_coco.py"'),
        ('stock.py', f'__import__("pvt_mm").config_path("{NAME}")'),
    ):
        (tmp_path / file).write_text(f'_base_ = {base}{change}')
    by_path, by_name, recipe = (
        load_config(tmp_path / f'{file}.py')
        for file in ('path', 'name', 'recipe')
    )
    assert by_name.to_dict() == by_path.to_dict()
    assert by_name.model.backbone.arch == 'b0'
    assert by_name.model.bbox_head.num_classes == 3
    assert recipe.optim_wrapper.optimizer.type == 'AdamW'
    # a program that knows nothing of us; and ours without pkg_resources
    for code in (
        'from mmengine.config import Config\n'
        'print(Config.fromfile("stock.py").model.backbone)',
        f'{without("pkg_resources")}\n'
        'from pvt_mm.config.loading import load_config\n'
        'print(load_config("name.py").model.backbone)',
    ):
        done = python('-c', code, cwd=tmp_path)
        assert done.stdout.strip() == str(by_path.model.backbone), done.stderr
    with pytest.raises(UsageError, match='there is no config file pvt_mm::x'):
        loading.find_config('pvt_mm::x', '', None)


def test_other_packages_are_found_where_mmengine_finds_them():
    name = 'mmdet::_base_/models/retinanet_r50_fpn.py'
    theirs = Config._get_cfg_path
    found = loading.find_config(name, '', theirs)
    assert found == theirs(name, '')
    path, scope = loading.find_config(
        'mmseg::_base_/default_runtime.py', '', theirs
    )
    assert Path(path).is_file() and scope == 'mmseg'
    # what is in no package is mmengine's to refuse
    with pytest.raises(FileNotFoundError):
        loading.find_config('mmdet::_base_/nothing.py', '', theirs)


def test_hub_gives_configs_and_models(tmp_path, monkeypatch):
    cfg = pvt_mm.get_config(f'pvt_mm::{NAME}.py')
    assert cfg.model.type == 'RetinaNet'
    name = 'classifier_pvt_v2_b0_imagenet'
    model = pvt_mm.get_model(f'pvt_mm::{name}.py')
    torch.save(model.state_dict(), tmp_path / f'{name}.pth')
    monkeypatch.setenv('PVT_MM_WEIGHTS', str(tmp_path))
    again = pvt_mm.get_model(f'pvt_mm::{name}.py', pretrained=True)
    assert torch.equal(again.head.weight, model.head.weight)
    cfg = pvt_mm.get_config(f'pvt_mm::{name}.py', pretrained=True)
    assert cfg.model_path == str(tmp_path / f'{name}.pth')
    torch.save({'head.weight': torch.ones(1)}, tmp_path / f'{name}.pth')
    with pytest.raises(ValueError, match=f'{name}.pth'):
        pvt_mm.get_model(f'pvt_mm::{name}.py', pretrained=True)


def test_hub_says_why_weights_are_not_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv('PVT_MM_WEIGHTS', str(tmp_path))
    with pytest.raises(CheckpointError, match=f'put the file as {NAME}.pth'):
        pvt_mm.get_model(f'pvt_mm::{NAME}', pretrained=True)
    name = 'semantic_fpn_pvt_v2_b0_ade20k'
    with pytest.raises(CheckpointError, match=f'{name}: no weights were'):
        pvt_mm.get_config(f'pvt_mm::{name}', pretrained=True)


def test_what_mmengine_loads_stays_loadable(tmp_path):
    """onedl-mmengine used to forbid its own classes after each load."""
    file, losses = str(tmp_path / 'epoch_1.pth'), HistoryBuffer()
    losses.update(0.5)
    state = {'stages.0.norm.weight': torch.ones(2)}
    torch.save({'state_dict': state, 'message_hub': {'loss': losses}}, file)
    for _ in range(2):
        loaded = CheckpointLoader.load_checkpoint(file, 'cpu')
        assert loaded['message_hub']['loss'].current() == 0.5
        assert list(read_weights(file)) == list(state)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A wheel of a copy of the sources, unpacked."""
    folder = tmp_path_factory.mktemp('wheel')
    for name in SOURCES:
        source, target = ROOT / name, folder / 'source' / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '-qq', '--no-build-isolation']
        + ['--no-deps', '--wheel-dir', folder, folder / 'source'],
        check=True,
        capture_output=True,
    )
    (file,) = folder.glob('pvt_mm-*.whl')
    with ZipFile(file) as archive:
        archive.extractall(folder / 'site')
    return folder / 'site'


def test_wheel_carries_all_that_is_needed_and_no_more(wheel):
    carried = wheel / 'pvt_mm/.mim'
    for folder in ('configs', 'results'):
        paths = [p for p in (ROOT / folder).rglob('*.*') if p.is_file()]
        paths = [p for p in paths if p.suffix in ('.py', '.csv', '.yml')]
        assert paths
        for path in paths:
            there = carried / path.relative_to(ROOT)
            assert there.read_bytes() == path.read_bytes()
    tools = {path.name for path in (carried / 'tools').iterdir()}
    assert {'train.py', 'test.py', 'dist_train.sh'} <= tools
    own = {'set_up.py', 'build_mmcv.py', 'gather_wheels.py', 'demo.py'}
    own |= {'cuda_toolkit.py', 'gpu_kit.py'}
    assert not own & tools
    index = mmengine.load(carried / 'model-index.yml')
    for file in index['Import']:
        for model in mmengine.load(carried / file)['Models']:
            assert (carried / model['Config']).is_file()
    assert not [p for p in wheel.rglob('*') if p.is_symlink()]
    assert not list(wheel.rglob('__pycache__'))
    (scripts,) = wheel.glob('*.dist-info/entry_points.txt')
    assert 'pvt_mm = pvt_mm.cli:main' in scripts.read_text()


def test_wheel_works_elsewhere(wheel, tmp_path):
    code = """
import sys, pvt_mm
from pvt_mm.config.loading import load_config
from pvt_mm.cli import start
print(pvt_mm.__file__)
print(len(pvt_mm.list_configs()))
print(load_config('configs/retinanet_pvt_v2_b0_shapes.py').filename)
sys.argv = ['reproduce', '--dry-run', 'retinanet_pvt_v2_b0_coco']
assert start('reproduce') == 0
sys.argv = ['flops', 'retinanet_pvt_v2_b0_shapes']
assert start('flops') == 0
"""
    done = python('-c', code, cwd=tmp_path, path=wheel)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(wheel / 'pvt_mm/__init__.py')
    assert lines[1] == str(len(pvt_mm.list_configs()))
    assert lines[2].startswith(str(wheel / 'pvt_mm/.mim/configs'))
    assert lines[3].startswith('retinanet_pvt_v2_b0_coco: not checkable')
    assert 'parameters' in lines[-1]
    assert not list(tmp_path.iterdir())


def test_a_wheel_is_no_checkout(monkeypatch):
    assert home.checkout('a tool') == ROOT
    monkeypatch.setattr(home, 'HOME', Path('/site/pvt_mm/.mim'))
    with pytest.raises(UsageError, match='a tool needs .* in /site/pvt_mm'):
        home.checkout('a tool')
