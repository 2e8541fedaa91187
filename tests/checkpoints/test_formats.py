"""Checkpoint formats: from other code bases' names to ours and back."""

import golden
import libraries
import pytest
import safetensors.torch
import torch

from pvt_mm.checkpoints import convert, read_weights
from pvt_mm.checkpoints.formats import from_ours, to_ours
from pvt_mm.errors import CheckpointError

# transformers has eps 1e-6 in these norms too.
EPS_V2 = (r'patch_embedding\.layer_norm', r'attention\.layer_norm')
EPS_PVT = (
    r'patch_embeddings\.\d\.layer_norm',
    r'attention\.self\.layer_norm',
)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def numbered(model):
    """A state dict in which no two numbers are equal, of the same shapes."""
    state, start = {}, 0
    for key, value in model.state_dict().items():
        end = start + value.numel()
        state[key] = torch.arange(start, end, dtype=torch.int32)
        state[key] = state[key].view(value.shape)
        start = end
    return state


# Official files


@pytest.mark.parametrize('variant', golden.OFFICIAL)
def test_official_names_there_and_back(variant):
    with torch.device('meta'):
        model = golden.build(variant)
    ours = numbered(model)
    official = from_ours(ours, 'official').state
    row = golden.OFFICIAL[variant]
    assert len(official) == int(row['entries'])
    assert golden.digest(official) == row['sha256']
    converted = to_ours(official)
    family, _ = golden.split_name(variant.removeprefix('cls_'))
    kind = golden.FAMILIES[family].backbone
    assert str(converted.format) == f'official {kind}'
    assert libraries.equal(converted.state, ours)
    again = from_ours(converted.state, 'official').state
    assert libraries.equal(again, official)


@pytest.mark.parametrize('variant', ['pvt_tiny', 'pvt_v2_b0', 'mpvit_tiny'])
def test_bits_of_floats_survive(variant):
    torch.manual_seed(0)
    model = golden.build(f'cls_{variant}')
    ours = golden.random_state(model)
    key = next(k for k in ours if k.endswith('attn.proj.bias'))
    ours[key][:3] = torch.tensor([torch.nan, -0.0, torch.inf])
    official = from_ours(ours, 'official').state
    back = to_ours(official).state
    model.load_state_dict(back, strict=True)
    for key, value in ours.items():
        bits = torch.uint8
        assert back[key].dtype == value.dtype
        assert torch.equal(
            back[key].reshape(-1).view(bits), value.reshape(-1).view(bits)
        )


# timm and transformers


def check_round_trip(theirs, name):
    """Their state dict becomes ours and comes back bit-equal; ours."""
    state = theirs.state_dict()
    ours = to_ours(state)
    assert ours.format.name == name
    assert libraries.equal(from_ours(ours.state, name).state, state)
    return ours.state


def classifier(variant, state):
    """Our classifier with these weights, all of them."""
    model = golden.build(f'cls_{variant}').eval()
    model.load_state_dict(state, strict=True)
    return model


def maps_of(variant, state, image):
    """Maps of our backbone with the weights of a classifier."""
    model = golden.build(variant).eval()
    names = {k.removeprefix('backbone.'): v for k, v in state.items()}
    left = model.load_state_dict(names, strict=False)
    assert not left.missing_keys
    assert set(left.unexpected_keys) == {'head.weight', 'head.bias'}
    return model(image)


@pytest.mark.parametrize('arch', ['b0', 'b2', 'b2_li'])
def test_timm(arch):
    theirs = libraries.timm_classifier(arch)
    ours = check_round_trip(theirs, 'timm')
    image = golden.image((1, 3, 64, 96))
    maps = maps_of(f'pvt_v2_{arch}', ours, image)
    assert libraries.distance(maps, libraries.timm_maps(theirs, image)) < 1e-5
    logits = classifier(f'pvt_v2_{arch}', ours)(image)
    assert libraries.distance([logits], [theirs(image)]) < 1e-5


@pytest.mark.parametrize('arch', ['b0', 'b2', 'b2_li'])
def test_transformers_pvt_v2(arch):
    theirs = libraries.transformers_pvt_v2(arch)
    ours = check_round_trip(theirs, 'transformers')
    check_round_trip(theirs.pvt_v2, 'transformers')
    libraries.official_eps(theirs, *EPS_V2)
    image = golden.image((1, 3, 64, 96))
    maps = maps_of(f'pvt_v2_{arch}', ours, image)
    assert (
        libraries.distance(maps, libraries.transformers_maps(theirs, image))
        < 1e-5
    )
    logits = classifier(f'pvt_v2_{arch}', ours)(image)
    assert libraries.distance([logits], [theirs(image).logits]) < 1e-5


def test_transformers_pvt():
    theirs = libraries.transformers_pvt()
    ours = check_round_trip(theirs, 'transformers')
    check_round_trip(theirs.pvt, 'transformers')
    libraries.official_eps(theirs, *EPS_PVT)
    image = golden.image((1, 3, 224, 224))  # transformers knows no other
    model = classifier('pvt_tiny', ours)
    assert libraries.distance([model(image)], [theirs(image).logits]) < 1e-5
    # two blocks per stage: every second state is a stage's, the last normed
    tokens = theirs.pvt(image, output_hidden_states=True).hidden_states
    theirs_maps = [t.transpose(1, 2) for t in tokens[1:6:2]]
    model.backbone.out_indices = (0, 1, 2)
    ours_maps = [m.flatten(2) for m in model.backbone(image)]
    assert libraries.distance(ours_maps, theirs_maps) < 1e-5


@pytest.mark.parametrize('ending', ['.safetensors', '.pth'])
def test_files_of_transformers(ending, tmp_path):
    theirs = libraries.transformers_pvt_v2('b0')
    theirs.save_pretrained(tmp_path)
    source = tmp_path / 'model.safetensors'
    ours, back = tmp_path / f'ours{ending}', tmp_path / 'back.safetensors'
    lines = convert(str(source), str(ours))
    assert 'transformers PVTv2, 194 tensors' in lines[0]
    assert any('merged' in line for line in lines)
    classifier('pvt_v2_b0', read_weights(ours))
    convert(str(ours), str(back), 'transformers')
    again = safetensors.torch.load_file(back)
    assert libraries.equal(again, theirs.state_dict())
    theirs.load_state_dict(again, strict=True)


# State dicts that are refused


def official(variant):
    """A state dict in official names."""
    state = golden.random_state(golden.build(variant))
    return from_ours(state, 'official').state


def refusal(state):
    """The error message for a state dict that is refused, one line."""
    with pytest.raises(CheckpointError) as error:
        to_ours(state)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('layer', ['cpe.proj', 'factoratt_crpe.crpe'])
def test_shared_encodings_with_two_values(layer):
    state = official('mpvit_tiny')
    names = [k for k in state if f'2.mhca_blks.1.MHCA_layers.1.{layer}' in k]
    state[names[-1]] = state[names[-1]] + 1
    text = refusal(state)
    assert 'should share stages.2.paths.1.c' in text
    assert 'has several values for it' in text


def test_unknown_format_lists_the_nearest():
    state = official('pvt_v2_b0')
    state = {f'encoder_{k}': v for k, v in state.items()}
    text = refusal(state)
    assert 'no known checkpoint format among 176 keys such as enc' in text
    assert 'keys such as encoder_patch_emb' in text
    assert 'nearest: official PVT' in text
    resnet = {'conv1.weight': torch.ones(1), 'layer1.0.bn1.weight': None}
    assert 'nearest: ' in refusal(resnet)


def test_half_of_a_pair():
    state = libraries.transformers_pvt_v2('b0').state_dict()
    name = 'encoder.layers.1.blocks.0.attention.value.bias'
    del state[f'pvt_v2.{name}']
    assert f'incomplete file: no {name}' in refusal(state)


@pytest.mark.parametrize(
    ('name', 'key'),
    [
        ('official', 'block9.lora'),
        ('timm', 'stages.0.lora.down.weight'),
        ('transformers', 'encoder.layers.0.blocks.0.lora.weight'),
        ('mmdet', 'layers.0.1.0.attn.attn.lora'),
    ],
)
def test_a_key_without_a_row(name, key):
    ours = golden.random_state(golden.build('pvt_v2_b0'))
    state = from_ours(ours, name).state
    state[key] = torch.ones(1)
    assert f'1 keys have no row in the table: {key}' in refusal(state)


def test_a_format_without_names_for_a_neck_is_an_error():
    state = golden.random_state(golden.build('pvt_v2_b0'))
    state = {f'backbone.{k}': v for k, v in state.items()}
    state['neck.lateral_convs.0.conv.weight'] = torch.ones(1)
    with pytest.raises(CheckpointError, match="'transformers' has no names"):
        from_ours(state, 'transformers')
