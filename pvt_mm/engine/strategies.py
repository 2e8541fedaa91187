"""Runs whose model mmengine's FSDP or DeepSpeed divides among processes."""

from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import FlexibleRunner

from ..data_check.guard import CarefulRunner
from .deepspeed import WholeWeightsDeepSpeed, prepare_deepspeed
from .errors import UsageError
from .fsdp import WholeNormFSDP, prepare_fsdp

KNOWN = ('FSDPStrategy', 'DeepSpeedStrategy')
OURS = (WholeNormFSDP.__name__, WholeWeightsDeepSpeed.__name__)


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
    (prepare_deepspeed if 'DeepSpeed' in kind else prepare_fsdp)(cfg)
