"""Folding batch norms for inference."""

import golden
import pytest
import torch
from torch import nn

from pvt_mm.models.backbones.fuse_conv_bn import fuse_for_inference

VARIANTS = ('pvt_tiny', 'pvt_v2_b0', 'mpvit_tiny')


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('variant', VARIANTS)
def test_fused_gives_the_same(variant, dtype):
    model = golden.fill(golden.build(variant)).eval().to(dtype)
    fused = fuse_for_inference(model)
    image = golden.image((1, 3, 64, 96)).to(dtype)
    with torch.no_grad():
        pairs = list(zip(model(image), fused(image), strict=True))
    limit = 1e-5 if dtype == torch.float32 else 1e-13
    for plain, quick in pairs:
        assert (plain - quick).abs().max() <= limit * plain.abs().max()


def test_no_batch_norm_is_left_and_the_model_is_as_it_was():
    model = golden.fill(golden.build('mpvit_tiny')).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = fuse_for_inference(model)
    # the stem's two, and per stage an aggregation, three of the local path
    # and one per embedding, of which there are 2, 3, 3 and 3
    assert len(norms(model)) == 2 + 4 * (1 + 3) + 11
    assert norms(fused) == []
    assert model.training and not fused.training
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_inside_another_model_and_twice():
    backbone = golden.fill(golden.build('mpvit_tiny'))
    whole = nn.Sequential(backbone).eval().double()
    image = golden.image((1, 3, 64, 64)).double()
    fused = fuse_for_inference(fuse_for_inference(whole))
    with torch.no_grad():
        for plain, quick in zip(whole(image), fused(image), strict=True):
            torch.testing.assert_close(plain, quick)
