"""Backbones: equal to the official code, and used as MM libraries do."""

from importlib import import_module

import golden
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from pvt_mm.errors import CheckpointError
from pvt_mm.families import FAMILIES
from pvt_mm.models.backbones import Pyramid

SMALL = ['pvt_tiny', 'pvt_v2_b0', 'mpvit_tiny']
# Heavier ones only differ in depth and width.
LIGHT = [*SMALL, 'pvt_v2_b2_li']
CASES = [
    (variant, case)
    for variant, cases in golden.GOLDEN.items()
    for case in (cases if variant in SMALL else ['1x3x64x64'])
]


def registered():
    """The backbones of this package in mmengine's root registry."""
    return [
        kind
        for kind in MODELS.module_dict.values()
        if isinstance(kind, type)
        and issubclass(kind, Pyramid)
        and kind.__module__.startswith('pvt_mm.')
    ]


def test_table_of_families_names_every_class_and_arch():
    for name, family in FAMILIES.items():
        module = import_module(f'pvt_mm.models.backbones.{name}')
        assert family.archs == tuple(module.ARCHS)
        assert vars(module)[family.backbone] is MODELS.get(family.backbone)
    classes = {family.backbone for family in FAMILIES.values()}
    assert classes == {kind.__name__ for kind in registered()}
    names = [f'{name}_{a}' for name, f in FAMILIES.items() for a in f.archs]
    assert sorted(names) == sorted(golden.DENSE)


@pytest.mark.parametrize('variant, case', CASES)
def test_maps_equal_the_official_ones(variant, case):
    model = golden.fill(golden.build(variant)).double().eval()
    shape = tuple(int(n) for n in case.split('x'))
    with torch.no_grad():
        maps = model(golden.image(shape).double())
    for x, wanted in zip(maps, golden.GOLDEN[variant][case], strict=True):
        assert list(x.shape) == wanted['shape']
        values = x.numpy().reshape(-1)
        error = np.abs(values[wanted['index']] - wanted['values']).max()
        assert error / wanted['absmax'] < 1e-9
        assert abs(values.mean() - wanted['mean']) / wanted['std'] < 1e-9
        assert abs(values.std() - wanted['std']) / wanted['std'] < 1e-9


@pytest.mark.parametrize('variant', golden.OFFICIAL)
def test_parameters_are_counted_as_officially(variant):
    with torch.device('meta'):
        model = golden.build(variant)
    count = sum(p.numel() for p in model.parameters())
    assert count == int(golden.OFFICIAL[variant]['parameters'])


def cells(size: int, up: bool) -> list[int]:
    """Cells along one side of the four maps."""
    sides = []
    for stride in (4, 2, 2, 2):
        size = -(-size // stride) if up else size // stride
        sides.append(size)
    return sides


@pytest.mark.parametrize('variant', LIGHT)
@pytest.mark.parametrize(
    'batch, height, width', [(1, 448, 448), (2, 97, 131), (2, 64, 64)]
)
def test_shapes(variant, batch, height, width):
    model = golden.build(variant).eval()
    with torch.no_grad():
        maps = model(torch.randn(batch, 3, height, width))
    up = not variant.startswith('pvt_t')
    sides = zip(cells(height, up), cells(width, up), strict=True)
    for x, dim, side in zip(maps, model.out_channels, sides, strict=True):
        assert x.shape == (batch, dim, *side)
        assert x.is_contiguous()
        assert x.isfinite().all()
    assert model.strides == (4, 8, 16, 32)


class Conv(nn.Conv2d):
    """A stage of one convolution."""

    def smallest_side(self, cells):
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        return (cells - 1) * stride + kernel - 2 * self.padding[0]


@pytest.mark.parametrize('stem', [None, Conv(3, 3, 5, 3)])
@pytest.mark.parametrize('strides', [(2, 3, 1), (8, 1, 2), (1, 1, 1)])
@pytest.mark.parametrize('out_indices', [(0, 1, 2), (1,)])
def test_strides_are_those_of_the_stages(stem, strides, out_indices):
    stages = [Conv(3, 3, s + 2, s, padding=1) for s in strides]
    model = Pyramid(stages, 3, [3] * 3, out_indices, stem=stem)
    first = 3 if stem else 1
    every = [first * s for s in np.cumprod(strides)]
    assert model.strides == tuple(every[i] for i in out_indices)
    # an image that is a stride larger gives one cell more
    last = model.strides[-1]
    sides = [
        model(torch.zeros(1, 3, side, side))[-1].shape[-1]
        for side in (600, 600 + last)
    ]
    assert sides[1] == sides[0] + 1
    side = model.smallest
    assert model(torch.zeros(1, 3, side, side))[-1].shape[-1] == 1


def test_torch_2_6_is_enough_for_positions(monkeypatch):
    """It has no is_exporting."""
    monkeypatch.delattr(torch.compiler, 'is_exporting', raising=False)
    golden.build('pvt_tiny').eval()(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize('variant', golden.DENSE)
def test_shapes_of_every_variant_without_computing(variant):
    with torch.device('meta'):
        model = golden.build(variant).eval()
        maps = model(torch.empty(1, 3, 800, 1333))
    up = not variant.removeprefix('pvt_').startswith(
        ('tiny', 'small', 'medium', 'large')
    )
    sides = zip(cells(800, up), cells(1333, up), strict=True)
    assert [x.shape[1] for x in maps] == list(model.out_channels)
    assert [tuple(x.shape[2:]) for x in maps] == list(sides)


@pytest.mark.parametrize('variant', LIGHT)
@pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), (1, 2)])
def test_every_parameter_is_used(variant, out_indices):
    model = golden.build(variant, out_indices=out_indices)
    maps = model(torch.randn(2, 3, 64, 64))
    assert len(maps) == len(out_indices)
    sum(x.square().mean() for x in maps).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('variant', SMALL)
def test_checkpointing_changes_memory_not_gradients(variant):
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = golden.build(variant, with_cp=with_cp, drop_path_rate=0.5)
        torch.manual_seed(1)
        x = torch.randn(2, 3, 64, 64, requires_grad=True)
        sum(y.square().mean() for y in model(x)).backward()
        grads.append([x.grad, *(p.grad for p in model.parameters())])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize('variant', SMALL)
@pytest.mark.parametrize('frozen', [0, 2, 4])
def test_frozen_stages_do_not_train(variant, frozen):
    model = golden.build(variant, frozen_stages=frozen, drop_path_rate=0.9)
    model.train()
    frozen_names = ('stem.', *(f'stages.{i}.' for i in range(frozen)))
    for name, module in model.named_modules():
        expected = not (name + '.').startswith(frozen_names)
        if name:
            assert module.training is (expected or name == 'stages'), name
    for name, p in model.named_parameters():
        assert p.requires_grad is not name.startswith(frozen_names), name


def test_norm_eval_keeps_statistics():
    model = golden.build('mpvit_tiny', norm_eval=True).train()
    before = {k: v.clone() for k, v in model.named_buffers()}
    model(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in model.named_buffers())
    assert model.stages[0].training


def test_norm_cfg():
    model = golden.build('mpvit_tiny', norm_cfg={'type': 'SyncBN'})
    kinds = {type(m) for m in model.modules() if 'BatchNorm' in str(type(m))}
    assert kinds == {nn.SyncBatchNorm}
    with pytest.raises(ValueError, match="'GN'} must be .*SyncBN"):
        golden.build('mpvit_tiny', norm_cfg={'type': 'GN'})


@pytest.mark.parametrize('variant', SMALL)
def test_other_channels_and_no_stage_too_many(variant):
    model = golden.build(variant, in_channels=5, out_indices=(0, 1))
    assert len(model.stages) == 2
    assert len(model(torch.randn(1, 5, 64, 64))) == 2


@pytest.mark.parametrize('arch', ['b0', 'b3'])
def test_linear_attention_for_every_arch(arch):
    with torch.device('meta'):
        model = MODELS.build({'type': 'PVTv2', 'arch': arch, 'linear': True})
        plain = MODELS.build({'type': 'PVTv2', 'arch': arch})
    pooled = [
        m for m in model.modules() if isinstance(m, nn.AdaptiveAvgPool2d)
    ]
    assert len(pooled) == sum(len(s.blocks) for s in plain.stages)


def test_custom_arch():
    arch = {
        'dims': (8, 16),
        'depths': (1, 2),
        'mlp_ratios': (2, 2),
        'heads': (1, 2),
        'sr_ratios': (2, 1),
    }
    cfg = {'type': 'PVTv2', 'arch': arch, 'out_indices': (0, 1)}
    model = MODELS.build(cfg)
    assert [len(s.blocks) for s in model.stages] == [1, 2]
    assert model(torch.randn(1, 3, 32, 32))[1].shape == (1, 16, 4, 4)


@pytest.mark.parametrize(
    'cfg, words',
    [
        ({'arch': 'b6'}, "no arch 'b6'; nearest: b"),
        ({'arch': {'dims': (8,), 'depth': (1,)}}, r"unknown \['depth'\]"),
        (
            {'arch': {'dims': (8,), 'depths': (1, 1), 'mlp_ratios': (2,)}},
            "'depths': 2",
        ),
        ({'arch': 'b0', 'out_indices': (3, 4)}, 'must rise within 0..3'),
        ({'arch': 'b0', 'out_indices': (2, 1)}, 'must rise within 0..3'),
        ({'arch': 'b0', 'frozen_stages': 5}, r'not in -1..4'),
    ],
)
def test_bad_arguments_are_named(cfg, words):
    with pytest.raises(ValueError, match=words):
        MODELS.get('PVTv2')(**cfg)


def test_positions_resize_where_the_official_code_fails():
    model = golden.build('pvt_tiny', out_indices=(0,)).eval()
    stage = model.stages[0]
    assert torch.equal(stage.positions((56, 56)), stage.pos_embed)
    # 8 x 392 has as many cells as 56 x 56, but not the same layout.
    resized = stage.positions((8, 392))
    assert resized.shape == stage.pos_embed.shape
    assert not torch.allclose(resized, stage.pos_embed)


def test_initial_weights_are_the_official_ones():
    torch.manual_seed(0)
    v2 = golden.build('pvt_v2_b1')
    linear = v2.stages[3].blocks[0].attn.kv
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert linear.bias.abs().max() == 0
    conv = v2.stages[1].patch_embed.proj  # fan_out 3 * 3 * 128
    assert conv.weight.std().item() == pytest.approx(
        (2 / 1152) ** 0.5, rel=0.03
    )
    depthwise = v2.stages[3].blocks[0].mlp.dwconv  # 3 * 3 * 2048 / 2048
    assert depthwise.weight.std().item() == pytest.approx(
        (2 / 9) ** 0.5, rel=0.03
    )
    v1 = golden.build('pvt_tiny')
    bound = (2 * 2 * 128) ** -0.5  # PyTorch's default, uniform
    conv = v1.stages[2].patch_embed.proj
    assert conv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    mpvit = golden.build('mpvit_base')
    embed = mpvit.stages[3].embeds[0].dwconv  # groups not divided: 3 * 3 * 480
    assert embed.weight.std().item() == pytest.approx(
        (2 / 4320) ** 0.5, rel=0.05
    )
    local = mpvit.stages[3].local.conv2.conv
    assert local.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)


def test_norm_eps():
    for variant in golden.DENSE:
        with torch.device('meta'):
            model = golden.build(variant)
        for name, module in model.named_modules():
            if isinstance(module, nn.LayerNorm):
                coarse = '.patch_embed.' in name or '.reduction.' in name
                assert module.eps == (1e-5 if coarse else 1e-6), name


def test_encodings_of_an_encoder_are_shared():
    model = golden.build('mpvit_small')
    names = [n for n, _ in model.named_parameters() if 'crpe' in n]
    # 11 encoders with three windows, weight and bias each.
    assert len(names) == 11 * 3 * 2


def test_init_cfg_without_file_is_an_error(tmp_path):
    missing = str(tmp_path / 'none.pth')
    cfg = {'type': 'Pretrained', 'checkpoint': missing}
    model = golden.build('pvt_v2_b0', init_cfg=cfg)
    with pytest.raises(CheckpointError, match='none.pth are not there'):
        model.init_weights()


@pytest.mark.parametrize('variant', ['cls_pvt_tiny', 'cls_pvt_v2_b0'])
def test_classifier(variant):
    model = golden.build(variant)
    x = torch.randn(2, 3, 64, 64)
    assert model(x).shape == (2, 1000)
    loss = model(x, torch.tensor([1, 2]), mode='loss')['loss']
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('variant', SMALL)
def test_half_precision(variant, dtype):
    model = golden.build(variant).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        full = model(x)
        with torch.autocast('cpu', dtype):
            half = model(x)
    for a, b in zip(full, half, strict=True):
        assert (a - b.float()).abs().max() < 0.1 * a.abs().max()
