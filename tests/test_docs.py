"""Pages: their commands are valid, their links exist, their code runs."""

import ast
import inspect
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from commands import ROOT, blocks, commands, files, parse, resolve
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.fileio.backends import LocalBackend
from mmseg.visualization import SegLocalVisualizer
from render import api as reference
from render import performance

import pvt_mm
from pvt_mm import cli
from pvt_mm.checkpoints.formats import FORMATS

DOCS = ROOT / 'docs'
PAGES = sorted([*ROOT.glob('*.md'), *DOCS.glob('*.md')])
WRITTEN_LATER = {performance.PAGE}
NETWORKS = ('pvt_v2_b0', 'pvt_v2_b2')
each_page = pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)


@each_page
def test_commands_are_understood_by_their_own_parsers(page, monkeypatch):
    for words in commands(page):
        found = resolve(words, page)
        if found:
            parse(*found, monkeypatch)


@pytest.mark.parametrize(
    'line',
    [
        'python -m pvt_mm trian a.py',
        'python tools/train.py a.py --no-such-option',
        'pvt_mm convert a.pth b.pth --to caffe',
        'tools/nothing.py a',
        'make nothing',
        "pip install 'pvt_mm[nothing]'",
        'unknown a b',
    ],
)
def test_a_wrong_command_would_be_found(line, tmp_path, monkeypatch):
    page = tmp_path / 'page.md'
    page.write_text(f'```bash\n{line}\n```\n')
    with pytest.raises(AssertionError):
        for words in commands(page):
            parse(*resolve(words, page), monkeypatch)


@each_page
def test_links_and_configs_are_there(page):
    text = page.read_text()
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'https?:|mailto:', link):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        later = target.relative_to(ROOT) in WRITTEN_LATER
        assert target.exists() or later, link
        if anchor:
            assert anchor in headings(target.read_text()), link
    ours = r'(?<!\w/)(?:\bconfigs/|pvt_mm::)(\w+)'  # no other project's
    for name in re.findall(ours + r'\b(?!/)', text):
        if name.islower() and not name.startswith('_base_'):
            assert Path(pvt_mm.config_path(name)).is_file()


@each_page
def test_files_that_a_page_names_are_there(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.S)
    folders = 'pvt_mm|tests|tools|configs|docs|results'
    for path in re.findall(rf'`((?:{folders})/[\w./*-]+)[^`]*`', text):
        if re.search(r'[A-Z]{3}', path.replace('README', '')):
            continue  # NAME stands for something
        if Path(path) not in WRITTEN_LATER:
            assert list(ROOT.glob(path.rstrip('/.'))), path


def headings(text):
    """The anchors of a page, as its reader makes them."""
    titles = re.findall(r'^#+ (.*)$', text, re.M)
    return [
        re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')
        for title in titles
    ]


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A folder with random weights under published names."""
    folder = tmp_path_factory.mktemp('weights')
    for name in NETWORKS:
        state = pvt_mm.build_backbone(name).state_dict()
        torch.save(state, folder / f'{name}.pth')
    return folder


@each_page
def test_code_compiles_and_what_is_marked_runs(
    page, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PVT_MM_WEIGHTS', str(weights))
    for marked, code in blocks(page, 'python'):
        program = compile(ast.parse(code), page.name, 'exec')
        if marked:
            exec(program, {})


def test_page_of_weights_has_each_format():
    text = (DOCS / 'weights.md').read_text()
    table = re.findall(r'^\| (?:format \||`\w+` \|).*', text, re.M)
    (_, *families, _), *rows = (
        [cell.strip() for cell in line.strip(' |').split('|')]
        for line in table
    )
    said = {
        (name.strip('`'), family)
        for name, *cells, _ in rows
        for family, cell in zip(families, cells, strict=True)
        if cell == 'yes'
    }
    assert said == {(f.name, f.family) for f in FORMATS}


STEPS = {
    'garden_objects': 'check-dataset browse-dataset train analyze-log test '
    'infer export',
    'garden_labels': 'check-dataset train test export',
    'photo_objects': 'train',
    'photo_labels': 'train',
}
SCORE = {
    'objects': r'coco/bbox_mAP|results of the whole dataset is empty',
    'labels': r'mIoU: +[\d.]+',
}
# Options that make a command of the page small, by command and config.
SIZE = '(64,64)'
NO_WORKERS = tuple(
    f'{split}_dataloader.{key}'
    for split in ('train', 'val')
    for key in ('num_workers=0', 'persistent_workers=False')
)
SMALL = {
    ('train', 'garden_objects'): (
        'train_cfg.max_epochs=1',
        f'train_dataloader.dataset.pipeline.2.scale={SIZE}',
        f'val_dataloader.dataset.pipeline.1.scale={SIZE}',
    ),
    ('train', 'photo_objects'): (
        *NO_WORKERS,
        'train_cfg.max_epochs=1',
        f'train_dataloader.dataset.pipeline.2.scale={SIZE}',
        f'val_dataloader.dataset.pipeline.1.scale={SIZE}',
    ),
    ('train', 'garden_labels'): (
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2',
    ),
    ('train', 'photo_labels'): (
        *NO_WORKERS,
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
    ),
    ('test', 'garden_objects'): (
        f'test_dataloader.dataset.pipeline.1.scale={SIZE}',
    ),
    ('infer', 'garden_objects'): (
        f'test_dataloader.dataset.pipeline.1.scale={SIZE}',
    ),
}


@pytest.fixture(scope='module')
def garden(tmp_path_factory):
    """A folder with the files of docs/own_data.md and fewer drawn images."""
    root = tmp_path_factory.mktemp('garden')
    for name, code in files(DOCS / 'own_data.md').items():
        fewer = code.replace(
            "'train': 240, 'val': 24", "'train': 32, 'val': 8"
        )
        assert (fewer != code) == (name == 'draw_garden.py')
        (root / name).write_text(fewer)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        exec((root / 'draw_garden.py').read_text(), {})
    return root


@pytest.mark.parametrize('name', STEPS)
def test_own_data_goes_from_drawing_to_a_score(
    name, garden, weights, monkeypatch, capsys
):
    """Every line of docs/own_data.md, with fewer and smaller steps."""
    monkeypatch.chdir(garden)
    monkeypatch.setenv('PVT_MM_WEIGHTS', str(weights))
    lines = [
        line
        for _, code in blocks(DOCS / 'own_data.md', 'bash')
        for line in code.splitlines()
        if name in line
    ]
    for line in [line for line in lines if line.startswith('sed ')]:
        subprocess.run(line, shell=True, check=True)
        lines.remove(line)
    resolved = [resolve(line.split(), DOCS / 'own_data.md') for line in lines]
    assert [command for command, _ in resolved] == STEPS[name].split()
    for command, words in resolved:
        line = ' '.join(words)
        line = line.replace('epoch_10', 'epoch_1').replace('900', '2')
        line = line.replace('--check', '--fixed --size 64 64')
        run(command, line.split(), name, monkeypatch)
    said = ''.join(capsys.readouterr())
    kind = name.partition('_')[2]
    assert re.search(SCORE[kind], said)
    if name == 'garden_objects':
        assert '40 images read; 0 errors' in said
        assert len(list((garden / 'browsed').rglob('*.*g'))) == 8
        assert (garden / 'curves.png').is_file()
        assert len(list((garden / 'found').rglob('*.jpg'))) == 8
        assert (garden / 'garden.onnx').is_file()
    if name == 'garden_labels':
        assert len(list((garden / 'labels_found').glob('*.png'))) == 8
        assert (garden / 'labels.onnx').is_file()
    if name.startswith('garden'):
        (shown,) = re.findall(r'--show-dir (\S+)', ' '.join(lines))
        (pictures,) = garden.rglob(shown)
        assert len(list(pictures.rglob('*.*g'))) == 8


def run(command, words, name, monkeypatch):
    """A command of the page, in this process and in tiny form."""
    options = list(SMALL.get((command, name), ()))
    if options and '--cfg-options' not in words:
        words.append('--cfg-options')
    monkeypatch.setattr(sys, 'argv', [command, *words, *options])
    # what a process of its own would not have: mmengine's one visualizer
    for visualizer in (DetLocalVisualizer, SegLocalVisualizer):
        visualizer._instance_dict.clear()
    assert cli.start(command) == 0, words


def test_reference_is_that_of_the_docstrings():
    page = ROOT / reference.PAGE
    assert page.read_text() == reference.render(), (
        'run tools/render_pages.py api'
    )


def test_reference_shows_signatures_and_sections():
    def area(width: float, *, height: float = 1.0) -> float:
        """Width times height.

        Args:
            width: in pixels, see :func:`other`;
                not negative.

        Returns:
            square pixels.
        """

    assert reference.describe('area', area) == (
        '### area\n\n'
        '```text\narea(width: float, *, height: float = 1.0) -> float\n```'
        '\n\nWidth times height.\n\n'
        '**Args**\n\n- `width`: in pixels, see `other`;\n  not negative.\n\n'
        '**Returns**\n\nsquare pixels.\n'
    )
    assert reference.describe('SIDES', (1, 2)) == (
        '### SIDES\n\n```text\nSIDES = (1, 2)\n```\n'
    )


def source(name):
    """A file of an installed library; timm's cannot be imported whole."""
    package, _, path = name.partition('/')
    return (Path(find_spec(package).origin).parent / path).read_text()


def folder(name):
    """Names of the files in a folder of an installed library."""
    package, _, path = name.partition('/')
    place = Path(find_spec(package).origin).parent / path
    return sorted(file.name for file in place.iterdir())


def test_what_is_said_of_others_is_in_their_sources():
    """docs/compare.md."""
    mmdet = source('mmdet/models/backbones/pvt.py')
    assert 'self.attn(query=x_q, key=x_kv, value=x_kv)[0]' in mmdet
    assert 'strict=False' in mmdet
    assert 'with_cp' not in mmdet and 'AdaptiveAvgPool' not in mmdet
    configs = [n for n in folder('mmdet/.mim/configs/pvt') if '.py' in n]
    assert len(configs) == 10
    assert all(name.startswith('retinanet_pvt') for name in configs)
    assert '--auto-scale-lr' in source('mmdet/.mim/tools/train.py')
    assert 'auto-scale' not in source('mmseg/.mim/tools/train.py')
    for library in ('mmdet', 'mmseg'):
        assert 'mpvit.py' not in folder(f'{library}/models/backbones')
    assert 'pvt.py' not in folder('mmseg/models/backbones')
    written = inspect.getsource(LocalBackend.put)
    assert "open(filepath, 'wb')" in written  # in place
    assert 'onnx' not in ''.join(folder('mmdet/.mim/tools'))
    taken = Config({'train_cfg': {'max_epochs': 12}})
    taken.merge_from_dict({'tran_cfg.max_epochs': 1})  # mmengine's, misspelt
    assert taken.tran_cfg.max_epochs == 1
    assert 'merge_from_dict(args.cfg_options)' in source(
        'mmseg/.mim/tools/train.py'
    )


def test_what_is_said_of_timm_and_transformers_is_in_their_sources():
    """docs/compare.md; both are installed for the tests."""
    timm = source('timm/models/pvt_v2.py')
    assert len(re.findall(r"^    'pvt_v2_\w+\.in1k'", timm, re.M)) == 7
    assert 'scaled_dot_product_attention' in timm
    assert 'torch.onnx.export' in source('timm/utils/onnx.py')
    assert 'set_grad_checkpointing' in timm and 'linear: bool' in timm
    assert 'strict: bool = True' in source('timm/models/_builder.py')
    assert not {'pvt.py', 'mpvit.py'} & set(folder('timm/models'))
    assert not [n for n in folder('transformers/models') if 'mpvit' in n]
    first = source('transformers/models/pvt/modeling_pvt.py')
    second = source('transformers/models/pvt_v2/modeling_pvt_v2.py')
    for text in (first, second):
        assert 'functional.softmax(attention_scores' in text
    assert 'Backbone' not in first and 'class PvtV2Backbone' in second
    assert 'gradient_checkpointing' not in first
    assert 'supports_gradient_checkpointing = True' in second
    assert 'config.linear_attention' in second
