"""The official numbers with what each processor uses, and at its extremes.

In float64 that is bands only, in float32 products by oneDNN too.
"""

import golden
import numpy as np
import pytest
import torch

from pvt_mm.models.backbones.fuse_conv_bn import fuse_for_inference
from pvt_mm.models.layers import cpu

VARIANTS = ('pvt_tiny', 'pvt_v2_b0', 'pvt_v2_b2_li', 'mpvit_tiny')
CASE, SHAPE = '1x3x64x64', (1, 3, 64, 64)
BANDS = {'one row': 1, 'whole': 2**40}


@pytest.fixture(params=BANDS)
def bands(request, monkeypatch):
    """Bytes of hidden features at a time; oneDNN for any tokens."""
    monkeypatch.setattr(cpu, 'TOKENS', 1)
    monkeypatch.setattr(cpu, 'BAND', BANDS[request.param])


def error(maps, variant):
    """The largest error of sampled values, relative to their map."""
    return max(
        np.abs(x.numpy().reshape(-1)[want['index']] - want['values']).max()
        / want['absmax']
        for x, want in zip(maps, golden.GOLDEN[variant][CASE], strict=True)
    )


@pytest.fixture(params=cpu.CHOICES)
def processor(request):
    """Each kind of processor."""
    with cpu.as_on(request.param):
        yield request.param


@pytest.mark.parametrize('fuse', [False, True])
@pytest.mark.parametrize('variant', VARIANTS)
def test_float64(variant, fuse, bands, processor):
    model = golden.fill(golden.build(variant)).double().eval()
    model = fuse_for_inference(model) if fuse else model
    with torch.no_grad():
        maps = model(golden.image(SHAPE).double())
    assert error(maps, variant) < 1e-9
    with_gradient = model(golden.image(SHAPE).double().requires_grad_())
    for a, b in zip(maps, with_gradient, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('variant', VARIANTS)
def test_float32(variant, bands, processor):
    model = golden.fill(golden.build(variant)).eval()
    x = torch.ones(2, 2)
    with torch.no_grad():
        used = cpu.use_onednn(x, x)
        maps = model(golden.image(SHAPE))
    assert used is (processor == 'amd_avx512')
    assert error(maps, variant) < 1e-4
