"""Layers: shapes, arithmetic, memory, and what an import computes."""

import subprocess
import sys

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from pvt_mm.errors import UsageError
from pvt_mm.models.layers import (
    ConvMlp,
    DropPath,
    PatchEmbed,
    PooledReduction,
    ReducedAttention,
    cpu,
    drop_path_rates,
    strided_reduction,
    to_map,
    to_tokens,
)


def test_importing_the_package_computes_nothing():
    code = """
import mmengine.model, mmengine.runner, torch
def events(profile):
    return sorted(event.key for event in profile.key_averages())
with torch.profiler.profile(profile_memory=True) as package:
    import pvt_mm
with torch.profiler.profile(profile_memory=True) as tensor:
    torch.empty(1)
assert events(tensor) == ['[memory]', 'aten::empty'], events(tensor)
assert events(package) == [], events(package)
"""
    subprocess.run([sys.executable, '-c', code], check=True)


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


@pytest.mark.parametrize('cells', [2, 7])
def test_smallest_side_is_the_smallest(cells):
    for embed in (PatchEmbed(3, 8, 4, 4), PatchEmbed(3, 8, 7, 4, 3)):
        side = embed.smallest_side(cells)
        assert embed(torch.randn(1, 3, side, side))[1] == (cells, cells)
        side -= 1
        assert embed(torch.randn(1, 3, side, side))[1] == (cells - 1,) * 2
    assert [strided_reduction(4, ratio).smallest for ratio in (1, 8)] == [1, 8]


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


@pytest.fixture(params=['rows', 'images'])
def bands(request, monkeypatch):
    """In mlp_case three rows at a time, or one image, on every processor."""
    size = 3 * 9 * 16 * 8 if request.param == 'rows' else 10 * 9 * 16 * 8
    monkeypatch.setattr(cpu, 'BAND', size)
    with cpu.as_on('amd'):
        yield request.param


def mlp_case():
    """A feed-forward network, 2 x 10 x 9 tokens, and their size."""
    torch.manual_seed(0)
    layer = ConvMlp(4, 16, torch.nn.ReLU()).double()
    return layer, torch.randn(2, 90, 4, dtype=torch.float64), (10, 9)


def grads(layer, x, size, uses=1):
    """Result and gradients of input and parameters."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = x
    for _ in range(uses):
        y = layer(y, size)
    y.square().sum().backward()
    return [y, x.grad, *(p.grad.clone() for p in layer.parameters())]


def heights(layer):
    """A list that grows by the rows of each band that is computed."""
    calls, band = [], layer.band

    def counted(x, *args):
        calls.append(x.shape[1])
        return band(x, *args)

    layer.band = counted
    return calls


@pytest.mark.parametrize('uses', [1, 2])
def test_bands_equal_the_whole(bands, uses):
    layer, x, size = mlp_case()
    calls = heights(layer)
    banded = grads(layer, x, size, uses)
    some = [4, 5, 5, 2] if bands == 'rows' else [10]  # with one of halo
    assert calls[: 2 * len(some)] == 2 * some
    calls.clear()
    with cpu.as_on('plain'):
        whole = grads(layer, x, size, uses)
    assert calls == uses * [10]
    for a, b in zip(banded, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_bands_pass_gradcheck(bands):
    layer, x, size = mlp_case()
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: layer(x, size), x, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        lambda x: layer(x, size), x, fast_mode=True
    )


def test_bands_keep_only_their_input(bands):
    layer, x, size = mlp_case()
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks
    with hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        layer(x.requires_grad_(), size)
    assert not any(16 in shape[-1:] for shape in kept)


def test_bands_in_a_checkpoint_and_under_autocast(bands):
    layer, x, size = mlp_case()
    plain = grads(layer, x, size)

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = layer

        def forward(self, x, size):
            return checkpoint(self.inner, x, size, use_reentrant=False)

    for a, b in zip(grads(Outer(), x, size), plain, strict=True):
        torch.testing.assert_close(a, b)
    layer.float()
    with torch.autocast('cpu', torch.bfloat16):
        low = grads(layer, x.float(), size)
    for a, b in zip(low, plain, strict=True):
        error = (a.double() - b).norm() / b.norm()
        assert error < 0.03


def test_bands_under_torch_func(bands):
    layer, x, size = mlp_case()
    expected = grads(layer, x, size)[1]

    def loss(x):
        return layer(x, size).square().sum()

    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    single = torch.func.vmap(torch.func.grad(loss))(x[:, None])
    torch.testing.assert_close(single[:, 0], expected)


def test_product_of_a_single_token():
    layer = cpu.Linear(3, 2)
    x = torch.randn(300, 3)
    with cpu.as_on('amd_avx512'):
        together = layer(x)
    for token, y in zip(x, together, strict=True):
        torch.testing.assert_close(layer(token), y)


def test_nothing_is_computed_three_times(bands):
    """In a block that is checkpointed, and where with_cp is False."""
    layer, x, size = mlp_case()
    x.requires_grad_()
    calls = heights(layer)
    layer(x, size).sum().backward()
    number = 8 if bands == 'rows' else 2
    assert len(calls) == 2 * number  # again in the backward pass
    layer.recompute = False  # as with_cp sets it
    calls.clear()
    checkpoint(layer, x, size, use_reentrant=False).sum().backward()
    assert calls == [10, 10]


def test_nothing_is_recomputed_where_it_is_slower(bands):
    layer, x, size = mlp_case()
    calls = heights(layer)
    with cpu.as_on('other'):
        grads(layer, x, size)
        assert calls == [10]
        with torch.no_grad():
            layer(x, size)
    assert len(calls) > 2  # bands in inference


@pytest.mark.parametrize(('n', 'k', 'm'), [(256, 3, 2), (300, 2, 3)])
def test_gradients_of_onednn_products(n, k, m):
    torch.manual_seed(0)
    layer, x = cpu.Linear(k, m), torch.randn(n, k, requires_grad=True)

    def slopes():
        loss = layer(x).square().sum()
        return torch.autograd.grad(loss, [x, *layer.parameters()])

    with cpu.as_on('amd_avx512'):
        assert cpu.use_onednn(x, layer.weight)
        fast = slopes()
        curved = torch.autograd.grad(
            layer(x).pow(3).sum(), x, create_graph=True
        )[0]
        second = torch.autograd.grad(curved.square().sum(), layer.weight)
    with cpu.as_on('plain'):
        assert not cpu.use_onednn(x, layer.weight)
        torch.testing.assert_close(fast, slopes())
        curved = torch.autograd.grad(
            layer(x).pow(3).sum(), x, create_graph=True
        )[0]
        torch.testing.assert_close(
            second, torch.autograd.grad(curved.square().sum(), layer.weight)
        )


@pytest.mark.parametrize(
    ('text', 'wide', 'kind'),
    [
        ('vendor_id : AuthenticAMD', True, 'amd_avx512'),
        ('vendor_id : AuthenticAMD', False, 'amd'),
        ('vendor_id : AuthenticAMD\ncpu family\t: 23', False, 'other'),
        ('vendor_id : GenuineIntel', True, 'other'),
        ('CPU implementer : 0x41', False, 'other'),
    ],
)
def test_the_processor_chooses(text, wide, kind, monkeypatch):
    monkeypatch.delenv('PVT_MM_CPU', raising=False)
    monkeypatch.setattr(cpu.Path, 'read_text', lambda path: text)
    monkeypatch.setattr(
        torch.backends.cpu,
        'get_cpu_capability',
        lambda: 'AVX512' if wide else 'AVX2',
    )
    assert cpu.processor_kind.__wrapped__() == kind


def test_the_user_chooses(monkeypatch):
    monkeypatch.setenv('PVT_MM_CPU', 'plain')
    assert cpu.processor_kind.__wrapped__() == 'plain'
    monkeypatch.setenv('PVT_MM_CPU', 'fast')
    with pytest.raises(UsageError, match='PVT_MM_CPU=fast: must be one of'):
        cpu.processor_kind.__wrapped__()
