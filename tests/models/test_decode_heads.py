"""ConcatFusionHead: shapes, arithmetic against the description, cost."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn import functional as F

from pvt_mm.models.decode_heads import ConcatFusionHead

WIDTHS = [8, 16, 24, 32]


@pytest.fixture(autouse=True)
def scope():
    """Names mean mmseg's, whatever test ran before."""
    init_default_scope('mmseg')


def head(**options):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='ConcatFusionHead',
            in_channels=WIDTHS,
            channels=20,
            num_classes=5,
            norm_cfg=dict(type='BN'),
            loss_decode=dict(type='CrossEntropyLoss'),
            **options,
        )
    )


def pyramid(height=64, width=96, batch=2):
    torch.manual_seed(1)
    return tuple(
        torch.randn(batch, c, height // s, width // s)
        for c, s in zip(WIDTHS, (4, 8, 16, 32), strict=True)
    )


def up(x, like):
    return F.interpolate(
        x, like.shape[2:], mode='bilinear', align_corners=True
    )


def described(built, maps):
    """The scores at stride 4, step by step as the head is described."""
    x1, x2, x3, x4 = maps
    pooled = [
        up(conv(F.adaptive_max_pool2d(x4, cells)), x4)
        for cells, (_, conv) in zip(
            (1, 2, 3, 6), built.pool.pools, strict=True
        )
    ]
    y4 = built.pool.fuse(torch.cat([x4, *pooled], 1))
    l1, l2, l3 = built.laterals
    f1, f2, f3 = built.fusions
    y3 = f3(torch.cat([up(y4, x3), l3(x3)], 1))
    y2 = f2(torch.cat([up(y3, x2), l2(x2)], 1))
    y1 = f1(torch.cat([up(y2, x1), l1(x1)], 1))
    y = torch.cat([y1, up(y2, x1), up(y3, x1), up(y4, x1)], 1)
    return built.fuse(y)


def test_is_registered_for_mmseg():
    assert MODELS.get('ConcatFusionHead') is ConcatFusionHead


@pytest.mark.parametrize(('first', 'stride'), [(True, 4), (False, 1)])
def test_scores_have_stride_4_or_that_of_the_image(first, stride):
    scores = head(classify_first=first)(pyramid())
    assert scores.shape == (2, 5, 64 // stride, 96 // stride)


def test_scores_follow_the_description():
    built, maps = head(classify_first=False).eval(), pyramid()
    fused = described(built, maps)
    enlarged = F.interpolate(
        fused, scale_factor=4, mode='bilinear', align_corners=True
    )
    expected = built.conv_seg(enlarged)
    assert torch.allclose(built(maps), expected, atol=1e-6)
    assert built.conv_seg.kernel_size == (3, 3)
    built.classify_first = True
    assert torch.allclose(built(maps), built.conv_seg(fused), atol=1e-6)


def test_widths_are_those_of_the_description():
    built = head()
    assert [conv.out_channels for _, conv in built.pool.pools] == [8] * 4
    assert [m.conv.in_channels for m in built.laterals] == WIDTHS[:3]
    assert [m.conv.out_channels for m in built.laterals] == WIDTHS[:3]
    assert [m.conv.in_channels for m in built.fusions] == [24, 40, 56]
    assert [m.conv.out_channels for m in built.fusions] == WIDTHS[:3]
    assert (built.fuse.conv.in_channels, built.fuse.conv.out_channels) == (
        sum(WIDTHS),
        20,
    )
    fused = [built.pool.fuse, *built.laterals, *built.fusions, built.fuse]
    assert all(m.conv.kernel_size == (1, 1) for m in fused)
    assert all(
        isinstance(m.bn, nn.BatchNorm2d) and m.with_activation for m in fused
    )


def test_odd_maps_and_small_ones_fit():
    """A stride 32 map smaller than the finest pool; sizes that round up."""
    maps = tuple(
        torch.randn(2, c, -(-97 // s), -(-131 // s))
        for c, s in zip(WIDTHS, (4, 8, 16, 32), strict=True)
    )
    assert head()(maps).shape == (2, 5, 25, 33)


def test_every_parameter_learns():
    built = head()
    labels = PixelData(data=torch.randint(0, 5, (1, 64, 96)))
    samples = [SegDataSample(gt_sem_seg=labels) for _ in range(2)]
    losses = built.loss(pyramid(), samples, {})
    losses['loss_ce'].backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def kept_bytes(built, maps):
    """Bytes that autograd keeps for the backward pass."""
    sizes = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        scores = built(maps)
    assert scores.requires_grad
    return sum(sizes.values())


def test_classifying_first_saves_memory():
    first, last = (
        kept_bytes(head(classify_first=choice), pyramid())
        for choice in (True, False)
    )
    assert first < last / 2


def test_last_width_must_divide_by_four():
    with pytest.raises(ValueError, match='30 is not a multiple of 4'):
        ConcatFusionHead([8, 16, 24, 30], num_classes=5)
