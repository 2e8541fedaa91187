"""Files of whole models: other formats, several sets, what is missing."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from small_runs import RETINANET, TINY, WIDTHS, load

from pvt_mm.checkpoints import (
    CheckpointError,
    check_fit,
    convert,
    load_model,
    read_weights,
    write_weights,
)
from pvt_mm.checkpoints.formats import detect_format, from_ours
from pvt_mm.checkpoints.whole_models import name_to_load
from pvt_mm.models.backbones import build_backbone


@pytest.fixture(scope='module')
def model():
    """A detector of tiny PVTv2."""
    cfg = load(RETINANET)
    cfg.model.backbone.update(arch=TINY, init_cfg=None)
    cfg.model.neck.in_channels = WIDTHS
    init_default_scope('mmdet')
    return MODELS.build(cfg.model)


def copies(state, factor=1.0):
    return {key: value * factor for key, value in state.items()}


@pytest.fixture
def said(monkeypatch):
    """What is logged."""
    lines = []
    for module in ('io', 'whole_models'):
        monkeypatch.setattr(
            f'pvt_mm.checkpoints.{module}.print_log',
            lambda text, *_: lines.append(text),
        )
    return lines


@pytest.mark.parametrize('name', ['mmdet', 'official', 'timm', 'pvt_mm'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_detector_in_any_names_is_loaded(
    model, tmp_path, said, name, prefix
):
    state = copies(model.state_dict(), 0.5)
    theirs = state if name == 'pvt_mm' else from_ours(state, name).state
    path = str(tmp_path / 'theirs.pth')
    torch.save({prefix + k: v for k, v in theirs.items()}, path)
    found = check_fit(model, path)
    assert all(torch.equal(found[key], state[key]) for key in state)
    converted = name != 'pvt_mm'
    assert said == [f'{path}: names of {name} PVTv2 are converted'] * converted
    # what mmengine's Runner loads
    loaded = CheckpointLoader.load_checkpoint(name_to_load(model, path))
    loaded = loaded.get('state_dict', loaded)
    names = {key.removeprefix('module.') for key in loaded}
    assert names == {*state}


def test_safetensors_and_files_that_need_no_conversion(model, tmp_path):
    state = copies(model.state_dict())
    path = tmp_path / 'ours.safetensors'
    write_weights(path, state)
    loaded = CheckpointLoader.load_checkpoint(name_to_load(model, str(path)))
    assert {*loaded['state_dict']} == {*state}
    torch.save({'state_dict': state, 'meta': {}}, tmp_path / 'ours.pth')
    ours = str(tmp_path / 'ours.pth')
    assert name_to_load(model, ours) == ours


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        ('state_dict', 'state_dict_ema'),
        ('state_dict', 'ema_state_dict'),
        ('model', 'model_ema'),
    ],
)
def test_a_file_with_two_sets_says_which_is_loaded(
    model, tmp_path, said, first, second
):
    state = copies(model.state_dict())
    path = tmp_path / 'two.pth'
    both = {second: copies(state, 0.5), first: state, 'optimizer': {}}
    torch.save({**both, 'scaler': {'scale': torch.ones(1)}}, path)
    key = 'backbone.stages.0.patch_embed.proj.weight'
    assert torch.equal(read_weights(path)[key], state[key])
    (line,) = said
    assert f'several sets of weights: {first} is loaded' in line
    assert line.endswith(f'pvt_mm convert {path} NEW.pth --set {second}')
    convert(str(path), str(tmp_path / 'new.pth'), name=second)
    assert torch.equal(
        read_weights(tmp_path / 'new.pth')[key], 0.5 * state[key]
    )
    with pytest.raises(CheckpointError, match='no set of weights other; it'):
        read_weights(path, 'other')


def test_a_file_with_one_set_of_another_name_is_read(tmp_path, said):
    torch.save({'model_ema': {'a': torch.ones(2)}}, tmp_path / 'one.pth')
    assert list(read_weights(tmp_path / 'one.pth')) == ['a']
    assert said == []


def test_of_teacher_and_student_the_teacher_is_loaded(model, tmp_path, said):
    state = model.state_dict()
    both = {f'student.{k}': v for k, v in copies(state, 2.0).items()}
    both |= {f'teacher.{k}': v for k, v in copies(state, 3.0).items()}
    path = str(tmp_path / 'semi.pth')
    torch.save({'state_dict': both}, path)
    found = check_fit(model, path)
    key = 'bbox_head.retina_cls.weight'
    assert torch.equal(found[key], 3 * state[key])
    assert 'the teacher is loaded' in said[0]
    convert(path, str(tmp_path / 'new.pth'), name='student')
    found = read_weights(tmp_path / 'new.pth')
    assert torch.equal(found[key], 2 * state[key])


def test_a_whole_model_is_loaded_once(model, tmp_path):
    state = copies(model.state_dict(), 0.25)
    torch.save(from_ours(state, 'mmdet').state, tmp_path / 'a.pth')
    load_model(model, str(tmp_path / 'a.pth'))
    assert torch.equal(
        model.neck.fpn_convs[0].conv.weight,
        state['neck.fpn_convs.0.conv.weight'],
    )


@pytest.mark.parametrize(
    ('arch', 'name', 'missing'),
    [
        ('pvt_v2_b0', 'official', 'block1.0.mlp.dwconv.dwconv.weight'),
        ('pvt_v2_b0', 'mmdet', 'layers.0.1.0.ffn.layers.4.weight'),
        ('pvt_v2_b0', 'pvt_mm', 'stages.0.patch_embed.proj.weight'),
        ('pvt_tiny', 'official', 'pos_embed1'),
        ('mpvit_tiny', 'official', 'mhca_stages.0.aggregate.conv.weight'),
    ],
)
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_file_without_one_parameter_names_it(arch, name, missing, prefix):
    state = dict(build_backbone(arch).state_dict())
    state = state if name == 'pvt_mm' else from_ours(state, name).state
    state = {prefix + key: value for key, value in state.items()}
    source, _ = detect_format(state)
    del state[prefix + missing]
    state = dict(state, **{'bbox_head.conv.weight': torch.ones(1)})
    with pytest.raises(CheckpointError) as error:
        detect_format(state)
    said = f'nearly the checkpoint format {source}, but {prefix}{missing} is'
    assert str(error.value).startswith(said)


def test_a_file_of_another_network_is_nearly_nothing():
    state = {
        f'backbone.layer{i}.{j}.{part}.weight': torch.ones(1)
        for i in range(1, 5)
        for j in range(3)
        for part in ('conv1', 'bn1', 'conv2', 'bn2')
    }
    with pytest.raises(CheckpointError, match='no known checkpoint format'):
        detect_format(state)


def test_a_backbone_alone_is_named(model, tmp_path):
    path = str(tmp_path / 'backbone.pth')
    torch.save(model.backbone.state_dict(), path)
    with pytest.raises(CheckpointError, match='it has a backbone alone: give'):
        check_fit(model, path)
