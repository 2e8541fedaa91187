"""Make a run deterministic: the option ``--deterministic``."""

import os
import warnings

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...config.schema import walk
from ..run_config import add_hook

# Types in configs -> operations of mmcv that sum floats in no fixed order on a
# GPU. torch does not know of them, so it cannot warn.
UNORDERED = {
    'RoIAlign': 'RoIAlign (backward)',
    'MultiScaleDeformableAttention': 'deformable attention (backward)',
    'DeformableDetrTransformer': 'deformable attention (backward)',
    'DCNv2': 'deformable convolution (backward)',
    'DeformableDETR': 'deformable attention (backward)',
}


@HOOKS.register_module()
class DeterministicHook(Hook):
    """Makes torch warn of operations that have no deterministic kernel.

    mmengine's ``randomness.deterministic`` makes it raise an error.
    """

    def before_run(self, runner) -> None:
        """Warn instead of raising where no deterministic kernel exists."""
        warnings.filterwarnings('once', '.*deterministic.*')
        torch.use_deterministic_algorithms(True, warn_only=True)


def make_deterministic(cfg: Config, remarks: list[str]) -> None:
    """Fix the seed, and every algorithm that has a deterministic form.

    Args:
        cfg: the config of a training run.
        remarks: a sentence is added here, with the operations that have none.
    """
    # read when the first matrix product runs on a GPU
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    settings = dict(cfg.get('randomness') or {})
    if settings.get('seed') is None:
        settings['seed'] = 0
    cfg.randomness = dict(settings, deterministic=True)
    add_hook(cfg, DeterministicHook)
    env = cfg.get('env_cfg') or {}
    cfg.env_cfg = {**env, 'cudnn_benchmark': False}
    remarks.append(
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
        f'Not so on a GPU: {", ".join(found)}, which mmcv sums in no fixed '
        'order; torch warns of others.'
    )
