"""Inference in several threads, and memory over many images."""

import ctypes
import gc
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import golden
import numpy as np
import pytest
import torch

from pvt_mm.models.backbones.fuse_conv_bn import fuse_for_inference

THREADS = 4
SIZES = [(64, 64), (65, 33), (40, 72), (224, 32)]


def images(count=2 * THREADS):
    """Images of a few sizes."""
    return [
        golden.image((1, 3, *SIZES[i % len(SIZES)])) + i for i in range(count)
    ]


def in_threads(function, inputs):
    """What a function gives for each input, in threads that start at once."""
    ready = Barrier(THREADS)

    def work(mine):
        ready.wait()
        return [function(x) for x in mine]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(
            pool.map(work, [inputs[i::THREADS] for i in range(THREADS)])
        )
    outs = [None] * len(inputs)
    for i, part in enumerate(parts):
        outs[i::THREADS] = part
    return outs


def check_equal(function, inputs):
    """Threads give the same bits as one call after the other."""
    alone = [function(x) for x in inputs]
    for a, b in zip(alone, in_threads(function, inputs), strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(
    'variant',
    ['pvt_tiny', 'pvt_v2_b0', 'pvt_v2_b2_li', 'mpvit_tiny', 'fused'],
)
def test_one_model_in_threads(variant):
    fused = variant == 'fused'
    model = golden.fill(golden.build('mpvit_tiny' if fused else variant))
    model = fuse_for_inference(model) if fused else model.eval()

    @torch.no_grad()  # a thread does not know what another one set
    def infer(x):
        return model(x)

    check_equal(infer, images())


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('variant', ['pvt_tiny', 'pvt_v2_b0', 'mpvit_tiny'])
def test_gradients_of_one_model_in_threads(variant, with_cp):
    """A recomputation in one thread does not change the others."""
    model = golden.fill(golden.build(variant, with_cp=with_cp)).eval()
    parameters = list(model.parameters())

    def gradients(x):
        loss = sum(y.square().mean() for y in model(x))
        return torch.autograd.grad(loss, parameters)

    check_equal(gradients, images(THREADS))


# Memory


def resident():
    """KiB of memory that this process needs.

    What the C library keeps for the next allocation is given back before.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGESIZE') / 1024


def slope(infer, sizes, warm, step=10):
    """KiB per image by which memory grows, after the first ``warm`` images."""
    used = []
    for i, size in enumerate(sizes):
        infer(torch.randn(1, 3, *size))
        if i >= warm and (i - warm) % step == 0:
            used.append(resident())
    return np.polyfit(range(len(used)), used, 1)[0] / step


def some_sizes(count, distinct):
    """Sizes in no order, of so many different ones."""
    draw = random.Random(0).randint
    chosen = [(draw(64, 256), draw(64, 256)) for _ in range(distinct)]
    return [chosen[i % distinct] for i in range(count)]


@pytest.fixture
def infer():
    """Inference by pvt_v2_b0."""
    model = golden.build('pvt_v2_b0').eval()
    return torch.no_grad()(model)


def test_memory_stays_level(infer):
    assert slope(infer, some_sizes(150, 10), warm=30) < 10


def test_memory_that_does_not_stay_level_is_seen(infer):
    kept = []
    sizes = some_sizes(60, 10)
    assert slope(lambda x: kept.append(infer(x)[-1]), sizes, warm=30) > 10


@pytest.mark.slow
@pytest.mark.parametrize('variant', ['pvt_v2_b0', 'pvt_tiny', 'mpvit_tiny'])
def test_a_thousand_images_of_as_many_sizes(variant):
    """oneDNN keeps 1,024 compiled operators; they are there after 500."""
    infer = torch.no_grad()(golden.build(variant).eval())
    found = slope(infer, some_sizes(1000, 1000), warm=500)
    print(f'{found:.2f} KiB per image')
    assert found < 20
