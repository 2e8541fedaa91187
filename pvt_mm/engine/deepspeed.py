"""mmengine's DeepSpeed, mended."""

import os
from importlib.util import find_spec
from pathlib import Path

from mmengine._strategy import DeepSpeedStrategy
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.registry import STRATEGIES
from mmengine.runner import load_checkpoint
from torch import nn

from ..checkpoints.fetch import IN_FOLDER
from .additions import add_import
from .errors import UsageError
from .hooks.accumulation import KeepGradientsHook

INSTALL = "pip install 'deepspeed<0.19.7'"


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
