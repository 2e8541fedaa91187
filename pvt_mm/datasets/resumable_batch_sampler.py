"""Sample batches that have a seed each, so that a run can be resumed."""

import os
import random
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler, get_worker_info

from ..compat import rewind_sampler
from .checks.fault_tolerant_pipeline import report_skipped

STRIDE = 1_000_003  # a prime: runs with nearby seeds do not share batch seeds


class SeededBatch(list):
    """Indices of a batch, with the seed of the transforms of its images."""

    seed: int


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(BatchSampler):
    """Batches of another batch sampler, each with a seed from its number.

    Random numbers of the transforms depend on the batch, not on the worker
    or on the batches before it. So a run can resume at any batch without
    reading images again, with any number of workers.

    Args:
        sampler: samples indices; has the attribute dataset.
        batch_size: images per batch.
        inner: config of the batch sampler; torch's if None.
        drop_last: leave out an incomplete last batch; torch's only.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        inner: Mapping[str, Any] | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.inner = inner
        self.go_to(0)
        dataset = sampler.dataset
        dataset.__getitems__ = partial(seeded_items, dataset)

    def build(self) -> BatchSampler:
        """A new batch sampler at its first batch."""
        sampler = self.sampler
        if self.inner is None:
            return BatchSampler(sampler, self.batch_size, self.drop_last)
        defaults = dict(sampler=sampler, batch_size=self.batch_size)
        return DATA_SAMPLERS.build(self.inner, default_args=defaults)

    def __len__(self) -> int:
        return len(self.build())

    def divide(self, iteration: int) -> tuple[int, int]:
        """Iteration -> complete epochs, and batches of the next one."""
        if isinstance(self.sampler, InfiniteSampler):
            return 0, iteration
        return divmod(iteration, len(self))

    def go_to(self, iteration: int, skip: int = 0) -> None:
        """Set where the next epoch begins.

        Args:
            iteration: number of its first batch in the run.
            skip: batches of this epoch that are left out.
        """
        self.place, self.skip = iteration, skip

    def __iter__(self) -> Iterator[SeededBatch]:
        if isinstance(self.sampler, InfiniteSampler):
            # it goes on where the last iterator stopped, prefetched or not
            rewind_sampler(self.sampler)
        seed = getattr(self.sampler, 'seed', 0)
        skip, self.skip = self.skip, 0
        for indices in islice(self.build(), skip, None):
            batch = SeededBatch(indices)
            batch.seed = iteration_seed(seed, self.place)
            self.place += 1
            yield batch


def seeded_items(dataset: Any, batch: SeededBatch) -> list:
    """The items of a batch, one per index, after setting its seed.

    torch's data loader calls this, also in workers.
    """
    if get_worker_info():
        # a terminal and torchrun send signals to the trainer's whole group;
        # it needs its workers until the iteration is finished
        os.setpgid(0, 0)
    seed_all(batch.seed)
    items = [dataset[index] for index in batch]
    report_skipped(dataset, items[-1])
    return items


def iteration_seed(seed: int, iteration: int) -> int:
    """The seed of one iteration of a run, in this process."""
    return (seed + STRIDE * (iteration + 1) + get_rank()) % 2**32


def seed_all(seed: int) -> None:
    """Seed python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
