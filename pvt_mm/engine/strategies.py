"""Runs whose model mmengine's FSDP or DeepSpeed divides among processes."""

from importlib.util import find_spec

import torch
from mmengine._strategy import FSDPStrategy
from mmengine._strategy.fsdp import FSDP
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS, MODELS, STRATEGIES
from mmengine.runner import FlexibleRunner
from torch import nn

from ..data_check.guard import CarefulRunner
from ..layers import Block
from .additions import add_import
from .errors import UsageError
from .hooks.accumulation import KeepGradientsHook
from .hooks.finite import FiniteHook

KNOWN = ('FSDPStrategy', 'DeepSpeedStrategy')


class DividingRunner(FlexibleRunner):
    """mmengine's FlexibleRunner, with the guards of CarefulRunner.

    The model is whole until the run starts, so that it can be checked.
    """

    build_dataloader = CarefulRunner.build_dataloader

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'DividingRunner':
        """Build a runner and its model."""
        runner = super().from_cfg(cfg)
        runner.model = MODELS.build(runner.model)
        return runner

    def build_optim_wrapper(self, optim_wrapper):
        """The strategy builds it from what it has divided."""
        return optim_wrapper


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


def prepare_strategy(cfg: Config) -> None:
    """Make the config's strategy fit this machine and our hooks.

    Raises:
        UsageError: it cannot work here.
    """
    kind = cfg.strategy.get('type')
    if kind not in (*KNOWN, WholeNormFSDP.__name__):
        raise UsageError(
            f'strategy.type={kind!r} is none of {", ".join(KNOWN)}: take one '
            'of them, or leave strategy out for whole models (DDP)'
        )
    if cfg.launcher == 'none':
        raise UsageError(
            f'strategy.type={kind!r} divides a model among processes: start '
            'them with tools/dist_train.sh CONFIG PROCESSES'
        )
    if kind == 'DeepSpeedStrategy':
        prepare_deepspeed(cfg)
        return
    cfg.strategy.type = WholeNormFSDP.__name__
    add_import(cfg, WholeNormFSDP)
    if not torch.cuda.is_available():
        wrapper = cfg.strategy.setdefault('model_wrapper', {})
        wrapper.setdefault('type', 'MMFullyShardedDataParallel')
        wrapper['device_id'] = 'cpu'


def prepare_deepspeed(cfg: Config) -> None:
    """Leave to DeepSpeed what it does itself.

    Raises:
        UsageError: it is not installed, or cannot do what is asked for.
    """
    if find_spec('deepspeed') is None:
        raise UsageError(
            "strategy.type='DeepSpeedStrategy' needs DeepSpeed, which is not "
            'installed: pip install deepspeed, or take FSDPStrategy'
        )
    if cfg.get('resume'):
        raise UsageError(
            f'--resume cannot read {cfg.load_from}: DeepSpeed saves folders; '
            'leave --resume out, or take FSDPStrategy from the beginning'
        )
    wrapper, strategy = cfg.optim_wrapper, cfg.strategy
    if wrapper.type not in ('OptimWrapper', 'DeepSpeedOptimWrapper'):
        raise UsageError(
            f'optim_wrapper.type={wrapper.type!r} is none for DeepSpeed: '
            'write OptimWrapper, and strategy.bf16=dict(enabled=True) for '
            'mixed precision'
        )
    wrapper.type = 'DeepSpeedOptimWrapper'
    steps = wrapper.pop('accumulative_counts', 1)
    strategy.setdefault('gradient_accumulation_steps', steps)
    if clip := wrapper.pop('clip_grad', None):
        strategy.setdefault('gradient_clipping', clip['max_norm'])
    theirs = (FiniteHook.__name__, KeepGradientsHook.__name__)
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [h for h in hooks if h.get('type') not in theirs]
    print_log(
        'DeepSpeed steps by itself: gradients that are not finite are its '
        'own affair, and accumulated ones are lost when a run stops.'
    )
