"""The room layers/."""

import pytest
import torch

from pvt_mm.layers import (
    DropPath,
    PatchEmbed,
    PooledReduction,
    ReducedAttention,
    drop_path_rates,
    strided_reduction,
    to_map,
    to_tokens,
)


def test_map_and_tokens_share_memory():
    x = torch.randn(2, 3, 5, 8).contiguous(memory_format=torch.channels_last)
    tokens = to_tokens(x)
    assert tokens.is_contiguous()
    assert to_map(tokens, (5, 8)).data_ptr() == x.data_ptr()
    assert torch.equal(to_map(tokens, (5, 8)), x)


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention = ReducedAttention(8, 2, strided_reduction(8, 2)).double()
    x = torch.randn(1, 24, 8, dtype=torch.float64)
    keys = attention.reduction(x, (4, 6))
    assert keys.shape == (1, 6, 8)
    q, kv = attention.q(x)[0], attention.kv(keys)[0]
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        k, v = kv[:, :8][:, part], kv[:, 8:][:, part]
        heads.append((q[:, part] @ k.T / 2).softmax(-1) @ v)
    expected = attention.proj(torch.cat(heads, -1))
    torch.testing.assert_close(attention(x, (4, 6))[0], expected)


def test_heads_divide_dim():
    with pytest.raises(
        ValueError, match='dim 10 is not a multiple of heads 4'
    ):
        ReducedAttention(10, 4, strided_reduction(10, 1))


def test_pooled_reduction_has_49_keys_at_any_size():
    reduction = PooledReduction(4)
    for size in [(1, 1), (7, 7), (9, 30)]:
        x = torch.randn(2, size[0] * size[1], 4)
        assert reduction(x, size).shape == (2, 49, 4)


def test_patches_floor_without_padding_and_ceil_with():
    x = torch.randn(1, 3, 501, 333)
    assert PatchEmbed(3, 8, 4, 4)(x)[1] == (125, 83)
    assert PatchEmbed(3, 8, 7, 4, 3)(x)[1] == (126, 84)


def test_image_smaller_than_a_patch_is_named():
    with pytest.raises(ValueError, match='3x9 is smaller than one patch'):
        PatchEmbed(3, 8, 4, 4)(torch.randn(1, 3, 3, 9))
    with pytest.raises(ValueError, match='7x7 tokens cannot be reduced by 8'):
        strided_reduction(4, 8)(torch.randn(1, 49, 4), (7, 7))


def test_drop_path_rates_rise_from_zero():
    assert drop_path_rates(0.1, (2, 3)) == [
        [0.0, pytest.approx(0.025)],
        [pytest.approx(0.05), pytest.approx(0.075), pytest.approx(0.1)],
    ]


def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    x = torch.ones(20000, 1, 2)
    y = layer(x)
    assert sorted(y.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(y[:, 0, 0], y[:, 0, 1])  # an image drops as a whole
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize('rate', [-0.1, 1.0])
def test_drop_path_rate_is_a_probability(rate):
    with pytest.raises(ValueError, match='not in'):
        DropPath(rate)


@pytest.mark.parametrize('batch', [1, 2])
def test_convolutions_keep_channels_last(batch):
    x = to_map(torch.randn(batch, 40, 16), (5, 8))
    assert x.stride() == (640, 1, 128, 16)
    y = torch.nn.Conv2d(16, 16, 3, padding=1, groups=16)(x)
    assert to_tokens(y).data_ptr() == y.data_ptr()
