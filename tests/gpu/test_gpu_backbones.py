"""Every backbone: a GPU gives the CPU's maps and gradients in float32."""

from copy import deepcopy

import golden
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.export.passes import move_to_device_pass

from pvt_mm.benchmark.measure import peak_bytes, run, saved_bytes
from pvt_mm.engine.gpu import prepare_model
from pvt_mm.engine.hooks.compile_hook import compile_backbone
from pvt_mm.export import cli

pytestmark = pytest.mark.gpu

# Two stages, which torch compiles in seconds.
STAGES = dict(dims=(16, 32), depths=(1, 1), mlp_ratios=(2, 2))
SLIM = {
    'PVT': dict(STAGES, heads=(1, 2), sr_ratios=(4, 1)),
    'PVTv2': dict(STAGES, heads=(1, 2), sr_ratios=(4, 1)),
    'MPViT': dict(STAGES, paths=(2, 1)),
}
FAMILIES = ('pvt_tiny', 'pvt_v2_b0', 'pvt_v2_b2_li', 'mpvit_tiny')


def image(batch=1, height=96, width=128):
    return torch.randn(
        batch, 3, height, width, generator=torch.Generator().manual_seed(0)
    )


def maps_and_gradients(model, images, device):
    """Maps (B, C, H, W) and the gradient of each parameter, on the CPU.

    The loss weights each value by chance: the squares of what a layer norm
    returns have a constant mean, and gradients of rounding errors only.
    """
    model, images = model.to(device), images.to(device)
    model.zero_grad()
    maps = model(images)
    chance = torch.Generator().manual_seed(1)
    weights = [torch.randn(m.shape, generator=chance) for m in maps]
    sum(
        (m * w.to(device)).mean() for m, w in zip(maps, weights, strict=True)
    ).backward()
    grads = {
        name: p.grad.cpu()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    return [m.detach().cpu() for m in maps], grads


def off(value, expected):
    """The largest difference, relative to the largest value."""
    gap = (value - expected).abs().max() / expected.abs().max().clamp(1e-6)
    return float(gap)


def check(found, expected, limit=1e-3):
    for a, b in zip(found[0], expected[0], strict=True):
        assert off(a, b) < limit / 10
    assert found[1].keys() == expected[1].keys()
    gaps = {k: off(found[1][k], g) for k, g in expected[1].items()}
    assert max(gaps.values()) < limit, max(gaps, key=gaps.get)


@pytest.mark.parametrize('variant', golden.DENSE)
def test_a_gpu_gives_what_the_cpu_gives(variant, device):
    model = golden.fill(golden.build(variant)).float().eval()
    expected = maps_and_gradients(model, image(), 'cpu')
    check(maps_and_gradients(model, image(), device), expected)


def prepared(model):
    """A backbone as in a run on a GPU."""
    holder = nn.Module()
    holder.backbone = deepcopy(model)
    prepare_model(holder)
    return holder.backbone


@pytest.mark.parametrize('variant', FAMILIES)
def test_channels_last_weights_change_nothing(variant, device):
    model = golden.fill(golden.build(variant)).float().eval()
    expected = maps_and_gradients(model, image(), 'cpu')
    other = prepared(model)
    check(maps_and_gradients(other, image(), device), expected)
    for weight in other.parameters():
        assert weight.grad is None or weight.grad.stride() == weight.stride()
    if device == 'cuda':
        maps = other(image().cuda())
        last = torch.channels_last
        assert all(m.is_contiguous(memory_format=last) for m in maps)


@pytest.mark.parametrize('family', SLIM)
def test_compiled_for_all_sizes(family, device):
    torch.compiler.reset()  # families share code, whose variants are limited
    torch.manual_seed(0)
    cfg = dict(type=family, arch=SLIM[family], out_indices=(0, 1))
    model = MODELS.build(cfg).eval()
    compiled = deepcopy(model).to(device)
    compile_backbone(compiled)
    for height, width in ((96, 96), (96, 64), (128, 160)):
        images = image(2, height, width)
        expected = maps_and_gradients(model, images, 'cpu')
        check(maps_and_gradients(compiled, images, device), expected)


@pytest.mark.parametrize('variant', FAMILIES)
def test_checkpointing_saves_memory(variant, device):
    images = image(2, 256, 256).to(device)
    models = [
        golden.build(variant, with_cp=with_cp).to(device)
        for with_cp in (False, True)
    ]
    kept = [saved_bytes(model, images) for model in models]
    assert kept[1] < 0.6 * kept[0]
    if device == 'cuda':
        for model in models:  # gradients are there before
            run(model, images, 'training')
        peaks = [
            peak_bytes(lambda m=model: run(m, images, 'training'), True)
            for model in models
        ]
        assert peaks[1] < 0.8 * peaks[0]


@pytest.mark.parametrize('variant', ['pvt_tiny', 'pvt_v2_b0', 'mpvit_tiny'])
def test_exported_program_on_a_gpu(tmp_path, variant, device):
    model = golden.fill(golden.build(variant)).float().eval()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    file = tmp_path / 'file.pt2'
    weights = str(tmp_path / 'weights.pth')
    cli.main([variant, weights, '--out', str(file), '--check'])
    program = torch.export.load(file)
    moved = move_to_device_pass(program, device).module()
    with torch.no_grad():
        expected = model(image())
        found = moved(image().to(device))
    for a, b in zip(found, expected, strict=True):
        assert off(a.cpu(), b) < 1e-4
