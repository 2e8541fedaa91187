"""Train with the model divided among processes by mmengine's FSDP."""

import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, MODELS, STRATEGIES
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..compat import fsdp_strategy
from ..errors import UsageError
from ..models.layers import Block
from .run_config import add_import
from .runner import FaultTolerant

KNOWN = 'FSDPStrategy'


class FSDPRunner(FaultTolerant, FlexibleRunner):
    """mmengine's FlexibleRunner with three differences.

    The model is whole until the run starts, so that it can be checked.
    Checkpoints inside an epoch keep their own epoch and iteration (mmengine
    writes those of the epoch's end). The optimizer is built by the strategy.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'FSDPRunner':
        """Build a runner and its model."""
        runner = super().from_cfg(cfg)
        runner.model = MODELS.build(runner.model)
        return runner

    def build_optim_wrapper(self, optim_wrapper):
        """Return the config: the strategy builds it from the divided model."""
        return optim_wrapper

    def save_checkpoint(self, *args, meta: dict | None = None, **kwargs):
        """Save a checkpoint with the epoch and iteration of meta."""
        self.place = dict(meta or {})
        super().save_checkpoint(*args, meta=meta, **kwargs)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Restore epoch and iteration in checkpoint['meta'] before hooks."""
        if fn_name == 'before_save_checkpoint':
            kwargs['checkpoint']['meta'].update(self.place)
        super().call_hook(fn_name, **kwargs)


@STRATEGIES.register_module()
class WholeNormFSDP(fsdp_strategy()):
    """mmengine's FSDP with three fixes.

    It clips by the norm of all gradients, not by that of each process's
    part; it resumes with torch 2.1 and newer, which changed the order of
    arguments; and it saves on the CPU.
    """

    def _init_state_dict_cfg(self, state_dict_cfg) -> None:
        """Offload nothing without a GPU: torch 2.13 would crash."""
        super()._init_state_dict_cfg(state_dict_cfg)
        if not torch.cuda.is_available():
            self.state_dict_config.offload_to_cpu = False
            self.optim_state_dict_config.offload_to_cpu = False

    def build_optim_wrapper(self, optim_wrapper, model=None):
        """Clip by the norm of all processes' gradients.

        FSDP.clip_grad_norm_ computes it.
        """
        built = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(built, 'grad_name', '') == 'grad_norm':
            built.clip_func = lambda params, **how: model.clip_grad_norm_(
                **how
            )
        return built

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load this process's part of the optimizer's state."""
        optimizer = self.optim_wrapper.optimizer
        part = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model, optimizer, state_dict
        )
        self.optim_wrapper.load_state_dict(part)


@FUNCTIONS.register_module()
def each_block(
    module: nn.Module, recurse: bool, nonwrapped_numel: int
) -> bool:
    """FSDP's policy: gather one transformer block at a time."""
    return recurse or isinstance(module, Block)


def prepare_fsdp(cfg: Config) -> None:
    """Replace mmengine's FSDPStrategy in a config by the one of this file.

    Raises:
        UsageError: another strategy, or a single process.
    """
    kind = cfg.strategy.get('type')
    if kind not in (KNOWN, WholeNormFSDP.__name__):
        raise UsageError(
            f'strategy.type={kind!r} is not {KNOWN}: take it, or leave '
            'strategy out for whole models (DDP)'
        )
    if cfg.launcher == 'none':
        raise UsageError(
            f'strategy.type={kind!r} divides a model among processes: start '
            'them with tools/dist_train.sh CONFIG PROCESSES'
        )
    cfg.strategy.type = WholeNormFSDP.__name__
    add_import(cfg, WholeNormFSDP)
    if not torch.cuda.is_available():
        wrapper = dict(type='MMFullyShardedDataParallel', device_id='cpu')
        given = cfg.strategy.get('model_wrapper') or {}
        cfg.strategy.model_wrapper = wrapper | {**given, 'device_id': 'cpu'}
