"""What every training gets, so that nothing is lost and nothing is silent."""

from mmengine.config import Config

from ..data_check.skipped import SkippedImages
from .additions import add_hook, add_import
from .hooks.accumulation import KeepGradientsHook
from .hooks.batches import PlacedBatchSampler
from .hooks.finite import FiniteHook
from .hooks.randomness import PlaceSeedHook
from .hooks.saving import SafeCheckpointHook
from .hooks.stopping import StopHook

HOOKS = (
    PlaceSeedHook,
    KeepGradientsHook,
    FiniteHook,
    StopHook,
    SkippedImages,
)


def guard(cfg: Config) -> None:
    """Make a run safe to kill, to stop and to leave alone."""
    place_batches(cfg)
    save_safely(cfg)
    for hook in HOOKS:
        add_hook(cfg, hook)


def place_batches(cfg: Config) -> None:
    """Give each batch a seed of its own; see PlacedBatchSampler."""
    loader = cfg.train_dataloader
    inner = loader.get('batch_sampler')
    name = PlacedBatchSampler.__name__
    if inner and inner.get('type') == name:
        return  # a config from a work dir
    loader.batch_sampler = dict(type=name, inner=inner)
    if loader.pop('drop_last', False):
        loader.batch_sampler.drop_last = True
    add_import(cfg, PlacedBatchSampler)


def save_safely(cfg: Config) -> None:
    """Replace mmengine's checkpoint hook; one of another kind stays."""
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get('checkpoint') or dict(type='CheckpointHook', interval=1)
    if hook['type'] == 'CheckpointHook':
        hook['type'] = SafeCheckpointHook.__name__
        cfg.default_hooks = {**hooks, 'checkpoint': hook}
        add_import(cfg, SafeCheckpointHook)
