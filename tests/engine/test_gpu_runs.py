"""What a run changes for GPUs, and what waits for one: shown without.

tests/gpu has what only a GPU shows.
"""

import os
import sys
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import small_detectors
import torch
from mmcv.ops import RoIAlign
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from small_runs import RETINANET, load
from test_hooks import toy
from torch import distributed, nn

from pvt_mm.compat import set_accumulation
from pvt_mm.engine.gpu import prepare_gpu, prepare_model
from pvt_mm.engine.hooks.accumulation_hook import AccumulationHook
from pvt_mm.engine.hooks.evaluation_algorithms_hook import (
    EvaluationAlgorithmsHook,
)
from pvt_mm.engine.hooks.nonfinite_hook import NonFiniteHook
from pvt_mm.engine.hooks.preemption_hook import PreemptionHook
from pvt_mm.engine.hooks.resume_hook import lay_out_moments
from pvt_mm.engine.hooks.seed_hook import SeedHook
from pvt_mm.engine.hooks.skipped_samples_hook import SkippedSamplesHook
from pvt_mm.engine.launch import LargestLater
from pvt_mm.models.backbones import build_backbone

LAST = torch.channels_last


@pytest.fixture
def gpu(monkeypatch):
    """As if there were one."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)


def test_without_a_gpu_a_config_stays():
    cfg = load(RETINANET)
    before = cfg.pretty_text
    prepare_gpu(cfg)
    assert cfg.pretty_text == before


def test_a_config_on_a_gpu(gpu):
    cfg = load('configs/semantic_fpn_pvt_v2_b2_ade20k.py')
    prepare_gpu(cfg)
    assert cfg.train_dataloader.pin_memory
    assert cfg.val_dataloader.pin_memory
    assert cfg.optim_wrapper.optimizer.fused
    # mmseg searches cuDNN's algorithms, and evaluates images of any size
    assert cfg.custom_hooks == [dict(type='EvaluationAlgorithmsHook')]
    cfg = load(RETINANET)
    prepare_gpu(cfg)
    assert cfg.custom_hooks == [dict(type='FirstScoreHook')]


@pytest.mark.parametrize(
    ('key', 'value'),
    [('fused', False), ('foreach', True), ('capturable', True)],
)
def test_what_the_user_sets_stays(gpu, key, value):
    cfg = load(RETINANET)
    cfg.train_dataloader.pin_memory = False
    cfg.optim_wrapper.optimizer[key] = value
    prepare_gpu(cfg)
    assert not cfg.train_dataloader.pin_memory
    assert {'fused', key} - set(cfg.optim_wrapper.optimizer) <= {'fused'}
    assert cfg.optim_wrapper.optimizer[key] == value
    cfg = load(RETINANET)
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.1)
    prepare_gpu(cfg)
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.1)


def test_algorithms_are_not_searched_in_evaluations(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', True)
    hook = EvaluationAlgorithmsHook()
    hook.before_val(None)
    assert not torch.backends.cudnn.benchmark
    hook.after_val(None)
    assert torch.backends.cudnn.benchmark


def maps_of(model):
    torch.manual_seed(0)
    with torch.no_grad():
        return model.eval().backbone(torch.randn(1, 3, 96, 128))


@pytest.mark.parametrize(
    ('name', 'free'),
    [
        ('retinanet_pvt_v2_b0_coco', True),
        ('semantic_fpn_pvt_v2_b0_ade20k', True),
        ('mask_rcnn_pvt_v2_b0_coco', False),  # RoIAlign
        ('atss_pvt_v2_b2_coco', False),  # GroupNorm
        ('deformable_detr_mpvit_small_coco', False),  # both
    ],
)
def test_maps_stay_channels_last_where_nothing_needs_a_copy(name, free):
    model = small_detectors.build(name, width=64)
    expected = maps_of(model)
    prepare_model(model)
    maps = maps_of(model)
    for a, b in zip(maps, expected, strict=True):
        assert a.is_contiguous(memory_format=LAST) == free
        assert a.is_contiguous() == (not free)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    weight = model.backbone.stages[0].patch_embed.proj.weight
    assert weight.is_contiguous(memory_format=LAST)
    if free:
        neck = next(m for m in model.neck.modules() if is_wide(m))
        assert neck.weight.is_contiguous(memory_format=LAST)


def is_wide(module):
    return isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)


def test_mmcv_reads_channels_last_maps_wrongly():
    """Which is why maps are contiguous in front of RoIAlign."""
    torch.manual_seed(0)
    maps, boxes = torch.rand(1, 8, 9, 9), torch.tensor([[0.0, 1, 1, 6, 6]])
    layer = RoIAlign(2)
    wrong = layer(maps.contiguous(memory_format=LAST), boxes)
    assert not torch.allclose(wrong, layer(maps, boxes))


@pytest.mark.parametrize(
    ('name', 'before'),
    [
        ('pvt_tiny', 10),
        ('pvt_v2_b0', 18),
        ('pvt_v2_b2_li', 20),
        ('mpvit_tiny', 61),
    ],
)
def test_gradients_have_the_strides_of_their_weights(name, before):
    """Or DDP warns, and copies each of them in every step."""
    model = nn.Module()
    model.backbone = build_backbone(name).train()
    weights = [p for p in model.backbone.parameters() if p.ndim == 4]
    wrong = []
    for weight in weights:
        weight.register_hook(
            lambda grad, weight=weight: wrong.append(
                grad.stride() != weight.stride()
            )
        )
    counts = []
    for prepare in (lambda model: None, prepare_model):
        prepare(model)
        wrong.clear()
        sum(
            m.mean() for m in model.backbone(torch.ones(2, 3, 64, 96))
        ).backward()
        assert len(wrong) == len(weights)
        counts.append(sum(wrong))
    assert counts == [before, 0]


def test_moments_of_a_checkpoint_get_the_layout_of_the_weights():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=LAST)
    optimizer = torch.optim.AdamW(conv.parameters())
    conv(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    state = optimizer.state[conv.weight]
    value = state['exp_avg'] = state['exp_avg'].contiguous()
    lay_out_moments(optimizer)
    assert state['exp_avg'].stride() == conv.weight.stride()
    assert torch.equal(state['exp_avg'], value)


@pytest.fixture
def reads(monkeypatch):
    """Each time that the host reads a tensor: (package, function) of who."""
    seen = []

    def watch(name):
        plain = getattr(torch.Tensor, name)

        def read(*args, **kwargs):
            frame = sys._getframe(1)
            home = frame.f_globals['__name__'].split('.')[0]
            seen.append((home, frame.f_code.co_name))
            return plain(*args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, read)

    for name in ('item', 'tolist', 'cpu', 'numpy', '__bool__', '__float__'):
        watch(name)
    return seen


@pytest.fixture
def on_gpu(monkeypatch):
    """Tensors say that they are on a GPU, whose events are nothing."""
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, 'Event', lambda: event)
    monkeypatch.setattr(torch.Tensor, 'is_cuda', True, raising=False)


RUN_HOOKS = (
    *(SeedHook, AccumulationHook, NonFiniteHook, PreemptionHook),
    SkippedSamplesHook,
)


@pytest.mark.parametrize(
    ('optimizer', 'clip', 'ours'),
    [
        (dict(fused=True), None, {}),
        (dict(fused=True), dict(max_norm=1.0), {}),
        ({}, dict(max_norm=1.0), {}),
        # it cannot leave a step out by itself
        ({}, None, {'look': 4}),
    ],
)
def test_no_hook_of_ours_waits_for_the_gpu(
    tmp_path, reads, on_gpu, optimizer, clip, ours
):
    """What they read has arrived when mmengine has read the losses."""
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.1, **optimizer))
    wrapper['clip_grad'] = clip
    hooks = [hook() for hook in RUN_HOOKS]
    run = toy(tmp_path, [1, 2, 3, 4], hooks, wrapper=wrapper)
    run.train()
    found = Counter(reads)
    mine = {k: n for (home, k), n in found.items() if home == 'pvt_mm'}
    arrived = mine.pop('read', 0)
    assert mine == ours
    assert arrived == (4 if optimizer and not clip else 0)
    # mmengine: each loss, and the norm of clipping
    assert found['mmengine', '_get_valid_value'] == 4
    if arrived:
        pair = ['_get_valid_value', 'read']
        assert [name for _, name in reads if name in pair] == pair * 4


@pytest.fixture
def group(monkeypatch):
    """A process group of this process alone."""
    for name, value in dict(MASTER_ADDR='127.0.0.1', MASTER_PORT='0').items():
        monkeypatch.setitem(os.environ, name, value)
    distributed.init_process_group('gloo', rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_the_largest_number_is_read_later(group):
    exchange = LargestLater(15)
    assert exchange.read() == 15


def test_gradients_are_sent_once_in_an_accumulated_step(group):
    """mmengine's no_sync is left in the last of three batches only."""
    model = small_detectors.build('retinanet_pvt_v2_b0_coco', width=32)
    prepare_model(model)
    wrapped = MMDistributedDataParallel(model, gradient_as_bucket_view=True)
    sent = []

    def count(state, bucket):
        sent.append(bucket.index())
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped.register_comm_hook(None, count)
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters()))
    set_accumulation(wrapper, wrapped, counts=3, done=0, total=5)
    counts = []
    with warnings.catch_warnings():
        warnings.filterwarnings('error', 'Grad strides do not match')
        for _ in range(5):
            wrapped.train_step(small_detectors.batch(192), wrapper)
            counts.append(len(sent))
    # DDP sorts its buckets anew after the first step
    one, two = counts[2], counts[4]
    assert counts == [0, 0, one, one, two]
    assert 0 < one < two
