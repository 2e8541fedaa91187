"""The device of these tests: a GPU, or the CPU in its place.

    make test-gpu                                    on a GPU
    PVT_MM_TEST_DEVICE=cpu pytest -m gpu tests/gpu   without one

On the CPU the tests show that they run, and compare the CPU with itself.
"""

import os

import pytest
import torch

DEVICE = os.environ.get('PVT_MM_TEST_DEVICE', 'cuda')


def pytest_collection_finish(session):
    """End with one sentence where the tests need a GPU and there is none."""
    here = os.path.dirname(__file__)
    chosen = any(str(item.path).startswith(here) for item in session.items)
    if chosen and DEVICE == 'cuda' and not torch.cuda.is_available():
        pytest.exit('these tests need a GPU, and torch finds none here', 1)


@pytest.fixture
def device():
    return DEVICE


@pytest.fixture(autouse=True)
def exact_float32():
    """No TF32, and the flags as they were afterwards."""
    libraries = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [library.allow_tf32 for library in libraries]
    for library in libraries:
        library.allow_tf32 = False
    yield
    for library, allowed in zip(libraries, before, strict=True):
        library.allow_tf32 = allowed
