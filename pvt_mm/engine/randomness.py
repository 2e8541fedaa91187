"""Random numbers that depend on where a run is, not on when it started."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

STRIDE = 1_000_003  # a prime, so that seeds of two runs do not meet


@HOOKS.register_module()
class PlaceSeedHook(Hook):
    """Seeds each iteration and each epoch's workers from their number.

    A run that continues from the checkpoint of an epoch then draws the same
    numbers as one that was never stopped.
    """

    def before_train_epoch(self, runner) -> None:
        """Seed the process, and start workers with a seed of the epoch."""
        seed_all(runner.seed, runner.iter)
        loader = runner.train_dataloader
        init = loader.worker_init_fn
        if isinstance(init, partial) and 'seed' in init.keywords:
            seed = (runner.seed + STRIDE * runner.epoch) % 2**31
            loader.worker_init_fn = partial(init, seed=seed)
            # persistent workers would go on with their old numbers
            loader._iterator = None

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Seed what the model draws: drop path, dropout, samplers."""
        seed_all(runner.seed, runner.iter)


def seed_all(seed: int, place: int) -> None:
    """Seed python, numpy and torch for one place of a run and one process."""
    mixed = (seed + STRIDE * (place + 1) + get_rank()) % 2**32
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
