"""One thread each: the tensors of tests are too small for more.

Inherited config files are looked up once.
"""

import os

os.environ['OMP_NUM_THREADS'] = '1'  # read when torch is first imported

from functools import cache  # noqa: E402

import pytest  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.logging import MessageHub, MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.visualization import Visualizer  # noqa: E402

# mmengine reads a hundred metafiles to find each file that a config inherits.
Config._get_cfg_path = staticmethod(cache(Config._get_cfg_path))


@pytest.fixture(autouse=True)
def no_traces():
    """A test finds no scope, logger or picture of the one before it."""
    yield
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        manager._instance_dict.clear()
