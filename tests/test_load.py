"""Many at once and many after each other: threads, and memory that stays."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import golden
import pytest
import torch

from pvt_mm.fuse import fuse_for_inference

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
    """What one thread computes again is no business of the others."""
    model = golden.fill(golden.build(variant, with_cp=with_cp)).eval()
    parameters = list(model.parameters())

    def gradients(x):
        loss = sum(y.square().mean() for y in model(x))
        return torch.autograd.grad(loss, parameters)

    check_equal(gradients, images(THREADS))
