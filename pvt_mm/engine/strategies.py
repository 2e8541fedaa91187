"""Runs whose model mmengine's FSDP or DeepSpeed divides among processes."""

import os
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine._strategy import DeepSpeedStrategy, FSDPStrategy
from mmengine._strategy.fsdp import FSDP
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS, MODELS, STRATEGIES
from mmengine.runner import FlexibleRunner, load_checkpoint
from torch import nn

from ..checkpoints.fetch import IN_FOLDER
from ..data_check.guard import CarefulRunner
from ..layers import Block
from .additions import add_import
from .errors import UsageError
from .hooks.accumulation import KeepGradientsHook

KNOWN = ('FSDPStrategy', 'DeepSpeedStrategy')
INSTALL = "pip install 'deepspeed<0.19.7'"


class DividingRunner(FlexibleRunner):
    """mmengine's FlexibleRunner, with the guards of CarefulRunner.

    The model is whole until the run starts, so that it can be checked. A
    checkpoint in the middle of an epoch knows that it is there.
    """

    build_dataloader = CarefulRunner.build_dataloader

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'DividingRunner':
        """Build a runner and its model."""
        runner = super().from_cfg(cfg)
        runner.model = MODELS.build(runner.model)
        if not runner._resume:
            runner.strategy.weights = runner._load_from
        return runner

    def build_optim_wrapper(self, optim_wrapper):
        """The strategy builds it from what it has divided."""
        return optim_wrapper

    def save_checkpoint(self, *args, meta: dict | None = None, **kwargs):
        """Save where the run is; mmengine writes the end of an epoch."""
        self.place = dict(meta or {})
        super().save_checkpoint(*args, meta=meta, **kwargs)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Put the place right before a hook counts from it."""
        if fn_name == 'before_save_checkpoint':
            kwargs['checkpoint']['meta'].update(self.place)
        super().call_hook(fn_name, **kwargs)


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


@STRATEGIES.register_module()
class WholeWeightsDeepSpeed(DeepSpeedStrategy):
    """mmengine's DeepSpeed, with three things mended.

    It starts from any file of weights; hooks see the checkpoints, so that a
    run that goes on finds its place; and each checkpoint, a folder, holds
    a file of the whole weights as well, which every tool reads.
    """

    weights: str | None = None  # that a run starts from

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        """Load weights before DeepSpeed takes copies of them."""
        if self.weights:
            load_checkpoint(model, self.weights, map_location='cpu')
        # mmengine's runner says it to its own class only
        key = 'train_micro_batch_size_per_gpu'
        self.config.setdefault(key, self.dispatch_kwargs[key])
        wrapped = super()._wrap_model(model)
        # of fp32 too leave out steps with gradients that are not finite
        if hasattr(wrapped.model.optimizer, 'check_grad_overflow'):
            wrapped.model.optimizer.check_grad_overflow = True
        return wrapped

    def load_checkpoint(self, filename: str, **kwargs) -> dict:
        """Nothing: ``_wrap_model`` has done it."""
        return {}

    def resume(self, filename: str, *, callback=None, **kwargs) -> dict:
        """Go on from the folder of a file of weights."""
        checkpoint = super().resume(os.path.dirname(filename), **kwargs)
        if callback:
            callback(checkpoint)
        return checkpoint

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        extra_ckpt: dict | None = None,
        callback=None,
        **kwargs,
    ) -> None:
        """Save a folder; its file of weights comes last."""
        extra = dict(extra_ckpt or {})
        if callback:
            callback(extra)
        if not save_optimizer:
            super().save_checkpoint(
                filename, save_optimizer=False, extra_ckpt=extra, **kwargs
            )
            return
        weights = Path(filename, IN_FOLDER)
        if is_main_process():
            weights.unlink(missing_ok=True)
        super().save_checkpoint(filename, extra_ckpt={**extra}, **kwargs)
        super().save_checkpoint(
            str(weights),
            save_optimizer=False,
            save_param_scheduler=False,
            extra_ckpt=extra,
        )


@FUNCTIONS.register_module()
def each_block(
    module: nn.Module, recurse: bool, nonwrapped_numel: int
) -> bool:
    """FSDP's policy: gather one transformer block at a time."""
    return recurse or isinstance(module, Block)


OURS = (WholeNormFSDP.__name__, WholeWeightsDeepSpeed.__name__)


def prepare_strategy(cfg: Config) -> None:
    """Make the config's strategy fit this machine and our hooks.

    Raises:
        UsageError: it cannot work here.
    """
    kind = cfg.strategy.get('type')
    if kind not in (*KNOWN, *OURS):
        raise UsageError(
            f'strategy.type={kind!r} is none of {", ".join(KNOWN)}: take one '
            'of them, or leave strategy out for whole models (DDP)'
        )
    if cfg.launcher == 'none':
        raise UsageError(
            f'strategy.type={kind!r} divides a model among processes: start '
            'them with tools/dist_train.sh CONFIG PROCESSES'
        )
    if 'DeepSpeed' in kind:
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
            f'installed: {INSTALL}, or take FSDPStrategy'
        )
    if find_spec('deepspeed.runtime.fp16.onebit') is None:
        raise UsageError(
            'this DeepSpeed is too new for mmengine, which imports '
            f'deepspeed.runtime.fp16.onebit: {INSTALL}'
        )
    if cfg.get('resume'):
        check_folder(Path(cfg.load_from))
    wrapper, strategy = cfg.optim_wrapper, cfg.strategy
    if wrapper.type not in ('OptimWrapper', 'DeepSpeedOptimWrapper'):
        raise UsageError(
            f'optim_wrapper.type={wrapper.type!r} is none for DeepSpeed: '
            'write OptimWrapper, and leave --amp out'
        )
    wrapper.type = 'DeepSpeedOptimWrapper'
    steps = wrapper.pop('accumulative_counts', 1)
    strategy.setdefault('gradient_accumulation_steps', steps)
    if clip := wrapper.pop('clip_grad', None):
        strategy.setdefault('gradient_clipping', clip['max_norm'])
    zero = strategy.get('zero_optimization') or {}
    if zero.get('stage') == 3:  # or there is no file of the whole weights
        zero['stage3_gather_16bit_weights_on_model_save'] = True
    theirs = KeepGradientsHook.__name__
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [h for h in hooks if h.get('type') != theirs]
    strategy.type = WholeWeightsDeepSpeed.__name__
    add_import(cfg, WholeWeightsDeepSpeed)
    print_log(
        'DeepSpeed steps by itself: its version decides whether gradients '
        'that are not finite are left out (three such losses in a row end '
        'the run), and accumulated ones are lost when a run stops.'
    )


def check_folder(weights: Path) -> None:
    """Stop unless DeepSpeed can go on from the folder of these weights.

    Raises:
        UsageError: it is none, or of another number of processes.
    """
    if weights.name != IN_FOLDER:
        raise UsageError(
            f'--resume cannot go on from {weights}: DeepSpeed saves folders, '
            f'with {IN_FOLDER} in them; to begin with its weights say '
            f'--cfg-options load_from={weights} without --resume'
        )
    before = len(list(weights.parent.glob('*zero_pp_rank_*_optim_states.pt')))
    if before not in (0, get_world_size()):
        raise UsageError(
            f'--resume: {weights.parent} is of {before} process(es), among '
            f'which DeepSpeed has divided it, and here are '
            f'{get_world_size()}: start as many'
        )
