"""Training in bfloat16: what runs in float32, and that detectors learn."""

from copy import deepcopy
from statistics import median

import pytest
import small_detectors
import torch
from mmcv.ops import RoIAlign
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from small_runs import run_config
from torch import nn

from pvt_mm.config.loading import load_config
from pvt_mm.engine.amp import (
    FLOAT32,
    Bf16OptimWrapper,
    lives_in,
    set_float32_border,
    set_precision,
)
from pvt_mm.errors import UsageError

DETECTORS = ('retinanet_pvt_v2_b0_coco', 'mask_rcnn_pvt_v2_b0_coco')


def train_step(name, kind):
    """Losses and gradients of one step of a narrow detector."""
    model = small_detectors.build(name, width=32)
    if hasattr(model, 'rpn_head'):  # or the second stage would get other boxes
        model.rpn_head.predict_by_feat = lambda *_, **__: [proposals()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    grads, seen = {}, []
    optimizer.register_step_pre_hook(
        lambda *_: grads.update(
            (key, p.grad.clone()) for key, p in model.named_parameters()
        )
    )
    hook = model.neck.register_forward_hook(lambda *a: seen.append(a[2][0]))
    torch.manual_seed(0)
    # of 64 pixels the last map would have one cell, where oneDNN reads
    # memory that nobody wrote (docs/reliability.md)
    losses = model.train_step(small_detectors.batch(192), kind(optimizer))
    hook.remove()
    return losses, seen[0].dtype, grads


def proposals():
    """Boxes all over an image of 64x64."""
    corners = torch.rand(
        200, 4, generator=torch.Generator().manual_seed(0)
    ) * torch.tensor([44.0, 44, 16, 16])
    corners[:, 2:] += corners[:, :2] + 4
    return InstanceData(bboxes=corners, scores=torch.ones(200))


@pytest.mark.parametrize('name', DETECTORS)
def test_a_step_in_bf16_is_one_in_float32(name):
    """Losses and gradients, up to the 8 bits of bfloat16."""
    low, dtype, rounded = train_step(name, Bf16OptimWrapper)
    assert dtype == torch.bfloat16
    high, dtype, exact = train_step(name, OptimWrapper)
    assert dtype == torch.float32
    assert set(low) == set(high)
    for key in (n for n in low if 'loss' in n):
        assert low[key].dtype == torch.float32
        assert low[key].item() == pytest.approx(high[key].item(), rel=0.01)
    assert set(rounded) == set(exact)
    assert {gradient.dtype for gradient in rounded.values()} == {torch.float32}
    errors = {
        key: ((rounded[key] - exact[key]).norm() / exact[key].norm()).item()
        for key in exact
    }
    assert max(errors.values()) < 0.25, errors
    assert median(errors.values()) > 2**-8


def test_mmcv_has_no_bf16_kernel_and_needs_none():
    layer = RoIAlign(2)
    maps = torch.rand(1, 3, 8, 8, dtype=torch.bfloat16)
    boxes = torch.tensor([[0, 1, 1, 6, 6]], dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match='not implemented for .BFloat16'):
        layer(maps, boxes)
    set_float32_border(nn.Sequential(layer), 'cpu')
    with torch.autocast('cpu', torch.bfloat16):
        inside = layer(maps, boxes)
    assert torch.equal(inside, layer(maps.float(), boxes.float()))
    # outside of bfloat16 it is as it was
    with pytest.raises(RuntimeError, match='not implemented for .BFloat16'):
        layer(maps, boxes)


def test_the_border_is_set_once_and_copied_with_the_model():
    model = nn.Sequential(RoIAlign(2))
    set_float32_border(model, 'cpu')
    forward = model[0].forward
    set_float32_border(model, 'cpu')
    assert model[0].forward is forward
    wrapped = nn.Sequential(deepcopy(model))  # as for several processes
    set_float32_border(wrapped, 'cpu')
    copied = wrapped[0][0]
    assert copied.forward.args[0].__self__ is copied


def test_what_runs_in_float32():
    model = small_detectors.build(DETECTORS[1])
    names = {type(m).__name__ for m in model.modules() if lives_in(m, FLOAT32)}
    assert names == {
        *('CrossEntropyLoss', 'L1Loss', 'RoIAlign', 'SingleRoIExtractor'),
    }


def test_positions_of_queries_are_in_float32():
    model = nn.ModuleDict(
        {
            'reference_points_fc': nn.Linear(4, 2),
            'reg_branches': nn.ModuleList([nn.Linear(4, 4)]),
            'cls_branches': nn.ModuleList([nn.Linear(4, 2)]),
        }
    )
    set_float32_border(model, 'cpu')
    points, boxes, classes = model.values()
    with torch.autocast('cpu', torch.bfloat16):
        x = torch.rand(3, 4)
        kinds = [f(x).dtype for f in (points, boxes[0], classes[0])]
    assert kinds == [torch.float32, torch.float32, torch.bfloat16]


def test_amp_bf16_works_without_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.chdir(tmp_path)
    config = 'configs/retinanet_pvt_large_coco.py'
    args = [config, '--amp', 'bf16']
    cfg = run_config(args)
    assert cfg.optim_wrapper.type == 'Bf16OptimWrapper'
    assert not {'loss_scale', 'dtype'} & set(cfg.optim_wrapper)
    assert 'pvt_mm.engine.amp' in cfg.custom_imports.imports


@pytest.mark.parametrize('kind', [None, 'Bf16OptimWrapper'])
def test_amp_of_a_wrapper_without_type_or_from_a_work_dir(kind):
    cfg = load_config('configs/retinanet_pvt_v2_b2_coco.py')
    cfg.optim_wrapper.pop('type')
    if kind:
        cfg.optim_wrapper.type = kind
    set_precision(cfg, 'bf16', [])
    assert cfg.optim_wrapper.type == 'Bf16OptimWrapper'


def test_amp_keeps_other_wrappers():
    cfg = load_config('configs/retinanet_pvt_v2_b2_coco.py')
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(UsageError, match='type=ApexOptimWrapper: set the'):
        set_precision(cfg, 'bf16', [])
