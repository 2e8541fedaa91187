"""Exported files give the results of the model, at any size and batch."""

import io
import json
import re
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path

import golden
import onnx
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.torch_version import TorchVersion

from pvt_mm.checkpoints import atomic
from pvt_mm.config.loading import load_config
from pvt_mm.errors import CheckpointError, UsageError
from pvt_mm.export import check, cli
from pvt_mm.export.program import to_onnx, to_pt2, trace
from pvt_mm.export.replacements import AnySize
from pvt_mm.export.target import IMAGENET, Parts, Target, load_target
from pvt_mm.models.layers import cpu

# Two stages: strided keys and all keys; the row of PVT's class token.
ARCH = dict(dims=(16, 32), depths=(1, 1), mlp_ratios=(2, 2))
REDUCED = dict(ARCH, heads=(1, 2), sr_ratios=(4, 1))
MODEL = {
    'PVT': REDUCED,
    'PVTv2': dict(REDUCED, linear=True),
    'MPViT': dict(ARCH, paths=(2, 1)),
}
SIZES = [(1, 64, 64), (2, 65, 77), (1, 224, 224), (2, 101, 135), (1, 75, 203)]
SLIM = dict(
    dims=(16, 32, 40, 64), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2)
)
BACKBONE = f"backbone=dict(_delete_=True, type='PVTv2', arch={SLIM}),"
CONFIG = f"""
_base_ = 'pvt_mm::semantic_fpn_pvt_v2_b0_shapes.py'
model = dict(
    {BACKBONE}
    neck=dict(in_channels=[16, 32, 40, 64], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=8),
)
"""
# With golden.DENSE, what make test-slow exports: each method and family.
SEGMENTORS = (
    'semantic_fpn_pvt_tiny_ade20k',
    'semantic_fpn_pvt_v2_b0_ade20k',
    'semantic_fpn_mpvit_tiny_ade20k',
    'upernet_pvt_tiny_ade20k',
    'upernet_pvt_v2_b2_li_ade20k',
    'upernet_mpvit_tiny_ade20k',
    'concat_fusion_pvt_v2_b1_cityscapes',
)
OTHERS = (
    'classifier_pvt_tiny_imagenet',
    'retinanet_pvt_v2_b0_coco',
    'sparse_rcnn_pvt_v2_b2_coco',
    'detr_pvt_small_coco',
)


def build(family):
    """A small backbone with batch norms that change something."""
    torch.manual_seed(0)
    model = MODELS.build(
        {'type': family, 'arch': MODEL[family], 'out_indices': (0, 1)}
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope='module', params=MODEL)
def pair(request):
    """A backbone and its program, with every fast path of eager mode on."""
    model = build(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, 'BAND', 1)
        with cpu.as_on('amd_avx512'):
            program = trace(model, 3, None)
    return model, program


def assert_equal(model, run):
    """The same at all sizes, batches of one and two."""
    for batch, *size in SIZES:
        assert check.difference(model, run, (batch, 3, *size)) < 1e-4


def test_no_fast_path_is_in_a_program(pair):
    model, program = pair
    calls = [n for n in program.graph.nodes if n.op == 'call_function']
    kinds = [str(node.target) for node in calls]
    assert {k.split('.')[0] for k in kinds if '<' not in k} == {'aten'}
    assert not any('adaptive' in kind for kind in kinds)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert kinds.count('aten.conv2d.default') == len(convs)  # no bands


def test_pt2_is_the_model_at_any_size(pair):
    model, program = pair
    data = to_pt2(program, {'model': 'x'})
    assert_equal(model, check.runner(data, '.pt2'))


def test_onnx_is_the_model_at_any_size(pair):
    model, program = pair
    data = to_onnx(program, {}, ['low', 'high'])
    assert_equal(model, check.runner(data, '.onnx'))
    graph = onnx.load_from_string(data).graph
    dims = graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param for d in dims] == ['batch', '', 'height', 'width']
    assert [output.name for output in graph.output] == ['low', 'high']


def test_class_tokens_come_for_each_image():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(type='PVT', arch=REDUCED, class_token=True, out_indices=(1,))
    )
    program = trace(model.eval(), 3, None)
    assert_equal(model, check.runner(to_pt2(program, {}), '.pt2'))


@pytest.mark.parametrize('cells', [1, 2, 3, 6, 7, (2, 5)])
def test_grid_pools_are_pytorchs(cells):
    torch.manual_seed(0)
    for height in (1, 2, 6, 7, 8, 13, 49, 50):
        for width in (1, 5, 7, 14, 15, 100):
            x = torch.randn(2, 3, height, width)
            mean = nn.AdaptiveAvgPool2d(cells)
            most = nn.AdaptiveMaxPool2d(cells)
            with AnySize():
                ours = mean(x), most(x)
            assert (ours[0] - mean(x)).abs().max() < 1e-6
            assert torch.equal(ours[1], most(x))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The config of a small Semantic FPN, its model, and its weights."""
    folder = tmp_path_factory.mktemp('trained')
    config, weights = folder / 'small_fpn.py', folder / 'small.pth'
    config.write_text(CONFIG)
    torch.manual_seed(0)
    init_default_scope('mmseg')
    model = MODELS.build(load_config(str(config)).model).eval()
    torch.save({'state_dict': model.state_dict()}, weights)
    return str(config), model, str(weights)


@pytest.fixture(scope='module')
def written(trained, tmp_path_factory):
    """That model as ONNX, by the command line, and what was printed."""
    config, _, weights = trained
    out = tmp_path_factory.mktemp('written') / 'fpn.onnx'
    text = io.StringIO()
    with redirect_stdout(text):
        words = [config, weights, '--out', str(out), '--check']
        cli.main([*words, '--size', '64', '96'])
    return out, text.getvalue()


def test_segmentor_gives_mmsegs_logits(trained, written):
    _, model, _ = trained
    run = check.runner(written[0].read_bytes(), '.onnx')
    for batch, *size in SIZES:
        image = torch.randn(batch, 3, *size)
        with torch.no_grad():
            meta = [dict(img_shape=size)]
            want = model.encode_decode(image, meta)
        (logits,) = run(image)
        assert logits.shape == (batch, 6, *size)
        assert (logits - want).abs().max() < 1e-4 * want.abs().max()


def test_label_maps_from_pixels_by_rounded_weights(trained, written, tmp_path):
    config, model, weights = trained
    out = tmp_path / 'labels.onnx'
    options = ['--argmax', '--with-preprocessing', '--half']
    cli.main([config, weights, '--out', str(out), *options])
    assert out.stat().st_size < 0.8 * written[0].stat().st_size
    made = onnx.load(out)
    about = {prop.key: prop.value for prop in made.metadata_props}
    assert about['channels'] == 'BGR' and json.loads(about['mean']) == [0] * 3
    assert [x.name for x in made.graph.output] == ['label_map']
    model = deepcopy(model)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(tensor.data.half())
    image = torch.randint(256, (2, 3, 65, 77), dtype=torch.uint8)
    mean, std = (
        torch.tensor(x)[:, None, None]
        for x in (IMAGENET['mean'], IMAGENET['std'])
    )
    with torch.no_grad():
        logits = model.encode_decode(
            (image.flip(1) - mean) / std, [dict(img_shape=(65, 77))]
        )
    (labels,) = check.runner(out.read_bytes(), '.onnx')(image)
    assert labels.dtype == torch.uint8 and labels.shape == (2, 65, 77)
    assert (labels != logits.argmax(1)).float().mean() < 1e-3


def test_file_says_how_to_use_it(written):
    out, text = written
    made = onnx.load(out)
    about = {prop.key: prop.value for prop in made.metadata_props}
    assert json.loads(about['mean']) == [123.675, 116.28, 103.53]
    assert json.loads(about['std']) == [58.395, 57.12, 57.375]
    assert json.loads(about['classes'])[:2] == ['ground', 'disc']
    assert json.loads(about['smallest']) == [64, 64]
    assert about['model'] == 'small_fpn' and about['weights'] == 'small.pth'
    assert about['input'].startswith('image (B, 3, H, W), float32')
    assert str(out.parent.parent).encode() not in out.read_bytes()
    assert 'random' not in text
    assert re.search(r'equal within \S+ of the largest value \(10 b', text)
    assert re.search(r'64x96: \d+ ms, in PyTorch \d+ ms \(median of 5', text)
    assert [path.name for path in out.parent.iterdir()] == ['fpn.onnx']


@pytest.mark.parametrize('shape', [(1, 3, 63, 80), (0, 3, 64, 80)])
def test_images_that_a_segmentor_refuses(written, shape):
    run = check.runner(written[0].read_bytes(), '.onnx')
    with pytest.raises(Exception, match='of no batch or below 64 x 64 pixels'):
        run(torch.zeros(shape))


def test_fixed_pt2_by_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, 'load_target', lambda *_, **__: small_target())
    out = tmp_path / 'pvt.pt2'
    words = ['pvt_tiny', '--out', str(out), '--check', '--fixed']
    cli.main([*words, '--size', '40', '56'])
    assert '(1 batches)' in capsys.readouterr().out
    files = {'about.json': ''}
    program = torch.export.load(out, extra_files=files)
    about = json.loads(files['about.json'])
    assert about['input'].startswith('image (1, 3, 40, 56)')
    image = torch.randn(1, 3, 40, 56)
    maps = program.module()(image)
    with pytest.raises(Exception, match=r'size\(\)\[2\] == 40'):
        program.module()(image[:, :, 1:])
    for ours, theirs in zip(maps, build('PVT')(image), strict=True):
        torch.testing.assert_close(ours, theirs)


def small_target(model=None):
    """A small PVT as the command line would find it."""
    model = model or build('PVT')
    return Target(model, model, ['map_4', 'map_8'], {}, [])


def detector(folder, recipe):
    """RetinaNet of a recipe on a small backbone."""
    config = folder / 'detector.py'
    config.write_text(
        f"_base_ = 'pvt_mm::{recipe}.py'\n"
        f'model = dict({BACKBONE} neck=dict(in_channels=[16, 32, 40, 64]))'
    )
    return load_target(str(config), None)


def test_a_detector_of_another_head_gives_maps(tmp_path):
    config = tmp_path / 'fcos.py'
    config.write_text(f"""
_base_ = 'pvt_mm::retinanet_pvt_v2_b0_shapes.py'
model = dict(
    type='FCOS', {BACKBONE} neck=dict(in_channels=[16, 32, 40, 64]),
    bbox_head=dict(_delete_=True, type='FCOSHead', num_classes=5,
                   in_channels=64, strides=[8, 16, 32]))
""")
    found = load_target(str(config), None)
    assert found.remarks == [
        'fcos has a head that is not exported: the file ends with the maps '
        'of its neck',
        'the weights are random: none were given',
    ]
    maps = check.outputs(found.model, torch.zeros(1, 3, 64, 96))
    assert found.outputs == ['map_0', 'map_1', 'map_2'] and len(maps) == 3
    assert not any('head' in n for n, _ in found.model.named_parameters())


def test_maps_beyond_the_backbone_need_larger_images(tmp_path):
    found = detector(tmp_path, 'retinanet_pvt_v2_b0_coco')
    assert found.smallest == 256
    maps = Parts(found.whole, None)
    program = trace(maps, 3, None, found.smallest)
    run = check.runner(to_pt2(program, {}), '.pt2')
    for shape in check.shapes(3, None, found.smallest)[:4]:
        assert check.difference(maps, run, shape) < 1e-4
    assert load_target('pvt_v2_b0', None).smallest == 64


@pytest.mark.slow
def test_several_necks(tmp_path):
    """BFP pools to the size of another map."""
    config = tmp_path / 'necks.py'
    config.write_text(f"""
_base_ = 'pvt_mm::retinanet_pvt_v2_b0_shapes.py'
model = dict({BACKBONE})
model['neck'] = [
    dict(type='FPN', in_channels=[16, 32, 40, 64], out_channels=16,
         start_level=1, num_outs=3),
    dict(type='BFP', in_channels=16, num_levels=3, refine_level=1)]
""")
    found = load_target(str(config), None)
    maps = Parts(found.whole, None)
    program = trace(maps, 3, None, found.smallest)
    for data, kind in (
        (to_pt2(program, {}), '.pt2'),
        (to_onnx(program, {}, ['map_0', 'map_1', 'map_2']), '.onnx'),
    ):
        run = check.runner(data, kind)
        for shape in check.shapes(3, None, found.smallest)[:4]:
            assert check.difference(maps, run, shape) < 1e-4


def test_another_librarys_backbone_is_refused(tmp_path):
    config = tmp_path / 'other.py'
    config.write_text("""
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
default_scope = 'mmdet'
model = dict(backbone=dict(depth=18), neck=dict(in_channels=[64] * 4))
""")
    with pytest.raises(UsageError, match='other: export takes models on top'):
        load_target(str(config), None)


def test_a_backbone_by_name():
    found = load_target('pvt_v2_b0', None)
    assert found.outputs == ['map_4', 'map_8', 'map_16', 'map_32']
    assert found.about['model'] == 'pvt_v2_b0'
    assert not found.model.training


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    wrong = build('PVT')
    with torch.no_grad():
        next(wrong.parameters()).add_(0.1)
    found = small_target()
    monkeypatch.setattr(cli, 'load_target', lambda *_, **__: found)
    data = to_pt2(trace(wrong, 3, (64, 64)), {})
    monkeypatch.setattr(cli, 'export', lambda *_: data)
    words = ['pvt_tiny', '--out', str(tmp_path / 'x.pt2'), '--check']
    with pytest.raises(UsageError, match='nothing was written: for an imag'):
        cli.main([*words, '--fixed', '--size', '64', '64'])
    assert not any(tmp_path.iterdir())


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, 'load_target', lambda *_, **__: small_target())
    monkeypatch.setattr(cli, 'export', lambda *_: b'new')
    out = tmp_path / 'x.pt2'
    out.write_bytes(b'old')

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(atomic.os, 'fsync', full)
    with pytest.raises(OSError, match=r"No space left on device: '.*x\.pt2"):
        cli.main(['pvt_tiny', '--out', str(out), '--force'])
    assert out.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [out]


WRONG = {
    'pvt_v2_b9 --out x.onnx': "no arch 'b9'; nearest: ",
    'no_such_config --out x.onnx': 'there is no config file no_such_config',
    'pvt_tiny no.pth --out x.onnx': 'no.pth',
    'pvt_tiny --out x.txt': 'must end with .onnx or .pt2',
    'pvt_tiny --out there.pt2': 'is there already: use --force',
    'pvt_tiny --out no/x.pt2': 'is no folder: make it first',
    'pvt_tiny --out x.onnx --argmax': '--argmax is for segmentors, and pvt_t',
    'pvt_tiny --out x.pt2 --half': '--half is for .onnx files',
    'pvt_tiny --out x.pt2 --size 63 64': '--size 63 64: at least 64 64',
    'pvt_tiny --out x.pt2 --fixed --size 31 64': 'at least 32 32',
}


@pytest.mark.parametrize('words', WRONG)
def test_what_cannot_be_used_is_one_sentence(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there.pt2').write_bytes(b'old')
    with pytest.raises((UsageError, CheckpointError)) as error:
        cli.main(words.split())
    assert WRONG[words] in str(error.value)
    assert '\n' not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['there.pt2']


def test_weights_of_another_config_are_refused(trained, tmp_path):
    config, weights = tmp_path / 'other.py', trained[2]
    config.write_text(CONFIG.replace('channels=8', 'channels=16'))
    with pytest.raises(UsageError, match='does not fit this model'):
        cli.main([str(config), weights, '--out', str(tmp_path / 'x.onnx')])


@pytest.mark.parametrize('name', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_library_is_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, 'find_spec', lambda n: None if n == name else 1)
    with pytest.raises(UsageError, match=rf'needs {name}: pip install'):
        cli.main(['pvt_tiny', '--out', str(tmp_path / 'x.onnx'), '--check'])


@pytest.mark.parametrize('suffix', ['onnx', 'pt2'])
def test_an_old_torch_is_one_sentence(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, '__version__', TorchVersion('2.6.0+cpu'))
    with pytest.raises(UsageError, match='2.6.0.* cannot .*torch>=2.7'):
        cli.main(['pvt_tiny', '--out', str(tmp_path / f'x.{suffix}')])


def test_a_folder_that_takes_nothing_is_seen_before_the_export(
    tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(30, 'Read-only file system')

    monkeypatch.setattr(Path, 'write_bytes', refuse)
    monkeypatch.setattr(cli, 'load_target', None)
    with pytest.raises(OSError, match='Read-only file system'):
        cli.main(['pvt_tiny', '--out', str(tmp_path / 'x.onnx')])


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
@pytest.mark.parametrize('name', [*golden.DENSE, *SEGMENTORS, *OTHERS])
def test_every_variant(name, suffix, tmp_path):
    words = [name, '--out', str(tmp_path / f'x{suffix}'), '--check']
    cli.main([*words, '--size', '256', '256'])  # an error if they differ
