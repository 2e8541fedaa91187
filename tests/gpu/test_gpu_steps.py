"""Steps of detectors and segmentors in 16 bits; steps that are left out."""

import contextlib
import math
import warnings
from types import SimpleNamespace

import pytest
import small_detectors
import torch
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper as amp
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from small_runs import load
from torch import nn

from pvt_mm.engine.amp import Bf16OptimWrapper
from pvt_mm.engine.gpu import prepare_model
from pvt_mm.engine.hooks.nonfinite_hook import NonFiniteHook
from pvt_mm.errors import UsageError

pytestmark = pytest.mark.gpu

MODELS_OF = (
    'retinanet_pvt_v2_b0_coco',
    'mask_rcnn_pvt_v2_b0_coco',
    'semantic_fpn_pvt_v2_b0_ade20k',
    'upernet_pvt_tiny_ade20k',
    'deformable_detr_mpvit_small_coco',
)


def build(name):
    """The narrow model of a config."""
    if not name.startswith('upernet'):
        # others have widths under other names, or in lists
        narrow = name.startswith(('retinanet', 'mask_rcnn'))
        return small_detectors.build(name, 64 if narrow else 256)
    cfg = load(f'configs/{name}.py')
    init_default_scope('mmseg')
    dims = list(small_detectors.DIMS)
    cfg.model.backbone = small_detectors.BACKBONE
    cfg.model.decode_head.update(in_channels=dims, channels=32)
    cfg.model.auxiliary_head.update(in_channels=dims[2], channels=32)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train()


def batch(name):
    """A drawn image of 192x192 with what it shows."""
    data = small_detectors.batch(192)
    if 'ade20k' not in name:
        return data
    shape = data['inputs'][0].shape[1:]
    labels = torch.arange(shape[0])[:, None] // 24 + torch.zeros(shape)
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels.long()[None]))
    sample.set_metainfo(dict(img_shape=shape, ori_shape=shape))
    return {'inputs': data['inputs'] * 2, 'data_samples': [sample] * 2}


def proposals(device):
    """Boxes all over an image of 192x192, for the second stage."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(200, 4, generator=generator)
    boxes = boxes * torch.tensor([140.0, 140, 48, 48])
    boxes[:, 2:] += boxes[:, :2] + 4
    boxes = boxes.to(device)
    return InstanceData(bboxes=boxes, scores=boxes.new_ones(200))


def step(name, kind, device, **options):
    """The losses, and the gradient of each part, of one step."""
    model = build(name)
    model.init_weights()  # Deformable DETR has some memory nobody wrote
    if hasattr(model, 'rpn_head'):  # rounding would choose other boxes
        found = [proposals(device)]
        model.rpn_head.predict_by_feat = lambda *_, **__: found
    if device == 'cuda':
        prepare_model(model)
    model = model.to(device)
    wrapper = kind(
        optimizer=torch.optim.SGD(model.parameters(), 0.0), **options
    )
    parts = {}

    def keep(*_):
        for key, param in model.named_parameters():
            if param.grad is not None:
                grad = param.grad.detach().float().cpu().flatten()
                parts.setdefault(key.split('.')[0], []).append(grad)

    wrapper.optimizer.register_step_pre_hook(keep)
    torch.manual_seed(0)
    losses = model.train_step(batch(name), wrapper)
    losses = {k: float(v) for k, v in losses.items() if 'loss' in k}
    return losses, {part: torch.cat(grads) for part, grads in parts.items()}


@pytest.mark.parametrize('precision', ['fp16', 'bf16'])
@pytest.mark.parametrize('name', MODELS_OF)
def test_a_step_in_16_bits_is_one_in_32(name, precision, device):
    kind, options = Bf16OptimWrapper, {}
    if precision == 'fp16' and device == 'cuda':
        # its overflows would leave steps out
        kind, options = AmpOptimWrapper, dict(loss_scale=128.0)
    high, exact = step(name, OptimWrapper, device)
    low, rounded = step(name, kind, device, **options)
    assert low.keys() == high.keys()
    assert all(map(math.isfinite, low.values()))
    assert rounded.keys() == exact.keys()
    for part, grad in exact.items():
        assert rounded[part].isfinite().all()
        if not grad.any():  # of Deformable DETR's levels, in its first step
            assert not rounded[part].any(), part
            continue
        cosine = torch.cosine_similarity(rounded[part], grad, 0)
        assert cosine > 0.99, part


@pytest.fixture
def fp16(monkeypatch, device):
    """mmengine's wrapper of fp16; of the CPU torch's scaler for it."""
    if device == 'cpu':
        plain = torch.amp.GradScaler
        monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
        monkeypatch.setattr(amp, 'GradScaler', lambda **k: plain('cpu', **k))
    return AmpOptimWrapper


class Run:
    """Steps of one weight under a NonFiniteHook.

    Args:
        wrapper: mmengine's, with the optimizer of the weight.
        weight: is learned.
    """

    def __init__(self, wrapper, weight):
        self.wrapper, self.weight = wrapper, weight
        self.hook = NonFiniteHook()
        self.runner = SimpleNamespace(
            optim_wrapper=wrapper,
            cfg={},
            iter=0,
            message_hub=MessageHub.get_current_instance(),
        )
        self.hook.before_train(self.runner)

    def step(self, number, watch=contextlib.nullcontext):
        loss = (self.weight * number).abs().mean()
        with watch():
            self.wrapper.update_params(loss)
        if self.weight.is_cuda:
            torch.cuda.synchronize()  # as mmengine's reading of the losses
        with watch():
            self.hook.after_train_iter(
                self.runner, 0, dict(data_samples=[]), dict(loss=loss)
            )
        self.runner.iter += 1


def run_of(kind, device, fused, **options):
    weight = nn.Parameter(torch.ones(1, device=device))
    optimizer = torch.optim.AdamW([weight], 0.1, fused=fused)
    return Run(kind(optimizer=optimizer, **options), weight)


@pytest.mark.parametrize('fused', [False, True])
def test_overflow_of_fp16_is_no_fault(fp16, device, fused):
    scale = dict(init_scale=1e38)
    run = run_of(fp16, device, fused, loss_scale=scale)
    for _ in range(8):  # overflows until the scale has halved 5 times
        run.step(100.0)
    assert run.hook.row == 0
    assert 0 < run.weight.item() < 1


@pytest.mark.parametrize('fused', [False, True])
def test_nan_under_fp16_is_one(fp16, device, fused):
    run = run_of(fp16, device, fused, loss_scale='dynamic')
    with pytest.raises(UsageError, match='iteration 3: the loss is nan'):
        for _ in range(3):
            run.step(math.nan)
    assert run.weight.item() == 1


@pytest.mark.parametrize('fused', [False, True])
def test_a_bad_step_is_as_if_it_had_not_been_there(device, fused):
    found = []
    for numbers in ([1.0, math.nan, 2.0, math.inf, 3.0], [1.0, 2.0, 3.0]):
        run = run_of(OptimWrapper, device, fused)
        for number in numbers:
            run.step(number)
        state = run.wrapper.optimizer.state[run.weight]
        found.append([run.weight, *state.values()])
    assert all(map(torch.equal, *found))


@contextlib.contextmanager
def no_waiting():
    """Context in which torch raises an error if the host waits for a GPU."""
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_a_step_does_not_wait_for_the_gpu(device):
    """With a fused optimizer, as prepare_gpu chooses it."""
    watch = no_waiting if device == 'cuda' else contextlib.nullcontext
    run = run_of(OptimWrapper, device, True)
    run.step(1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*prototype.*')
        run.step(1.0, watch)
    assert run.weight.item() < 1
