"""mmengine's FSDP, mended."""

import torch
from mmengine._strategy import FSDPStrategy
from mmengine._strategy.fsdp import FSDP
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import nn

from ..layers import Block
from .additions import add_import


@STRATEGIES.register_module()
class WholeNormFSDP(FSDPStrategy):
    """mmengine's FSDP, with three things mended.

    It clips by the norm of all gradients, not by that of each process's
    part; it resumes with torch 2.1 and newer, which changed the order of
    arguments; and it saves on the CPU.
    """

    def _init_state_dict_cfg(self, state_dict_cfg) -> None:
        """Move nothing to the CPU that is there: torch 2.13 would crash."""
        super()._init_state_dict_cfg(state_dict_cfg)
        if not torch.cuda.is_available():
            self.state_dict_config.offload_to_cpu = False
            self.optim_state_dict_config.offload_to_cpu = False

    def build_optim_wrapper(self, optim_wrapper, model=None):
        """Let the whole model clip."""
        built = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(built, 'grad_name', '') == 'grad_norm':
            built.clip_func = lambda params, **how: model.clip_grad_norm_(
                **how
            )
        return built

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the optimizer's state, each process its part."""
        optimizer = self.optim_wrapper.optimizer
        part = FSDP.optim_state_dict_to_load(self.model, optimizer, state_dict)
        self.optim_wrapper.load_state_dict(part)


@FUNCTIONS.register_module()
def each_block(
    module: nn.Module, recurse: bool, nonwrapped_numel: int
) -> bool:
    """FSDP's policy: gather one transformer block at a time."""
    return recurse or isinstance(module, Block)


def prepare_fsdp(cfg: Config) -> None:
    """Take the mended strategy, on this machine's devices."""
    cfg.strategy.type = WholeNormFSDP.__name__
    add_import(cfg, WholeNormFSDP)
    if not torch.cuda.is_available():
        wrapper = cfg.strategy.setdefault('model_wrapper', {})
        wrapper.setdefault('type', 'MMFullyShardedDataParallel')
        wrapper['device_id'] = 'cpu'
