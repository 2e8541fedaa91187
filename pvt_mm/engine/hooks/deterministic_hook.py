"""Make a run deterministic: the option ``--deterministic``."""

import os
import warnings

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from ...config.additions import add_hook
from ...config.schema import walk

# Types in configs -> operations of mmcv that add up in any order on a GPU.
# torch does not know of them, so it cannot say so itself.
UNORDERED = {
    'RoIAlign': 'RoIAlign (backward)',
    'MultiScaleDeformableAttention': 'deformable attention (backward)',
    'DeformableDetrTransformer': 'deformable attention (backward)',
    'DCNv2': 'deformable convolution (backward)',
    'DeformableDETR': 'deformable attention (backward)',
}


@HOOKS.register_module()
class DeterministicHook(Hook):
    """Lets torch warn of operations that have no deterministic kernel.

    mmengine lets it stop there. With a warning a run goes on, and its log
    names the operation.
    """

    def before_run(self, runner) -> None:
        """Change mmengine's setting."""
        warnings.filterwarnings('once', '.*deterministic.*')
        torch.use_deterministic_algorithms(True, warn_only=True)


def make_deterministic(cfg: Config) -> None:
    """Fix the seed and every algorithm that can be fixed; say which cannot."""
    # read when the first matrix product runs on a GPU
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    settings = dict(cfg.get('randomness') or {})
    if settings.get('seed') is None:
        settings['seed'] = 0
    cfg.randomness = dict(settings, deterministic=True)
    add_hook(cfg, DeterministicHook)
    env = cfg.get('env_cfg') or {}
    cfg.env_cfg = {**env, 'cudnn_benchmark': False}
    print_log(
        f'--deterministic: seed {settings["seed"]}, the same numbers on the '
        f'same machine. {exceptions(cfg)}'
    )


def exceptions(cfg: Config) -> str:
    """Which operations stay non-deterministic on a GPU, for the log."""
    types = {v for k, v in walk(cfg.model) if k.rsplit('.', 1)[-1] == 'type'}
    found = sorted({UNORDERED[t] for t in types if t in UNORDERED})
    if not found:
        return 'On a GPU torch warns of operations that are not.'
    return (
        f'Not so on a GPU: {", ".join(found)}, which mmcv adds up in any '
        'order; torch warns of others.'
    )
