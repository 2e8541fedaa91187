"""Add the hooks and the sampler that every training gets."""

from mmengine.config import Config

from ..datasets.resumable_batch_sampler import ResumableBatchSampler
from .hooks.accumulation_hook import AccumulationHook
from .hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from .hooks.nonfinite_hook import NonFiniteHook
from .hooks.preemption_hook import PreemptionHook
from .hooks.resume_hook import ResumeHook
from .hooks.sanity_check_hook import SanityCheckHook
from .hooks.seed_hook import SeedHook
from .hooks.skipped_samples_hook import SkippedSamplesHook
from .run_config import add_hook, add_import

# In this order: SeedHook finds the place of a resumed run.
HOOKS = (
    SeedHook,
    ResumeHook,
    AccumulationHook,
    NonFiniteHook,
    PreemptionHook,
    SkippedSamplesHook,
    SanityCheckHook,
)


def add_run_hooks(cfg: Config, *, sanity_check: bool) -> None:
    """Add what makes a run resumable and fault tolerant.

    docs/training.md says what each hook does.

    Args:
        cfg: the config of the run.
        sanity_check: with SanityCheckHook; else it is removed.
    """
    seed_batches(cfg)
    save_atomically(cfg)
    for hook in HOOKS:
        add_hook(cfg, hook)
    if not sanity_check:
        cfg.custom_hooks = [
            hook
            for hook in cfg.custom_hooks
            if hook.get('type') != SanityCheckHook.__name__
        ]


def seed_batches(cfg: Config) -> None:
    """Replace the batch sampler; see ResumableBatchSampler."""
    loader = cfg.train_dataloader
    inner = loader.get('batch_sampler')
    name = ResumableBatchSampler.__name__
    if inner and inner.get('type') == name:
        return  # a config from a work dir
    loader.batch_sampler = dict(type=name, inner=inner)
    if loader.pop('drop_last', False):
        loader.batch_sampler.drop_last = True
    add_import(cfg, ResumableBatchSampler)


def save_atomically(cfg: Config) -> None:
    """Replace mmengine's checkpoint hook; one of another kind stays."""
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get('checkpoint') or dict(type='CheckpointHook', interval=1)
    if hook['type'] == 'CheckpointHook':
        hook['type'] = AtomicCheckpointHook.__name__
        cfg.default_hooks = {**hooks, 'checkpoint': hook}
        add_import(cfg, AtomicCheckpointHook)
