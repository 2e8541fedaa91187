"""Training loops in which one iteration is one step of the optimizer.

Where all processes together take fewer images at a time than the recipe's
batch, each iteration trains on several batches of the data loader and applies
the mean of their gradients. Schedules, intervals, logs and checkpoints then
count the recipe's steps, whatever the number of processes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import Tensor
from torch.utils.data import DataLoader

from ..compat import set_accumulation


class CountedLoader(DataLoader):
    """A data loader whose length is the number of iterations of an epoch.

    mmengine's logs and schedulers ask the loader for it.

    Attributes:
        batches_per_iter: batches of an iteration; the last iteration of an
            epoch may have fewer.
    """

    batches_per_iter: int

    @property
    def batches(self) -> int:
        """Number of batches of an epoch."""
        return super().__len__()

    def __len__(self) -> int:
        return -(-self.batches // self.batches_per_iter)


class BatchGroups(CountedLoader):
    """A data loader that gives the batches of an iteration together."""

    def __iter__(self) -> Iterator[Iterator]:
        place = getattr(self.batch_sampler, 'skip', 0)
        batches = super().__iter__()
        while place < self.batches:
            left = self.batches_per_iter - place % self.batches_per_iter
            yield islice(batches, left)
            place += left


class Accumulation:
    """What the two loops of this file have in common.

    Attributes:
        batches_per_iter: batches of an iteration.
        batches_done: batches of the current iteration that were trained on.
    """

    batches_per_iter: int
    batches_done = 0

    def group(self, loader_class: type[CountedLoader], count: int) -> None:
        """Make a data loader, which mmengine built, count iterations."""
        self.batches_per_iter = count
        self.dataloader.__class__ = loader_class
        self.dataloader.batches_per_iter = count

    def begin(self, done: int, total: int) -> None:
        """Set the counts of the optimizer's wrapper.

        Args:
            done: batches of the epoch that were trained on before; of the
                run, in a loop without epochs.
            total: batches of the whole epoch, or run.
        """
        self.batches_done = done % self.batches_per_iter
        set_accumulation(
            self.runner.optim_wrapper,
            self.runner.model,
            self.batches_per_iter,
            done,
            total,
        )

    def train_on(self, index: int, batches: Iterable) -> None:
        """Train on the batches of one iteration, and apply the gradients.

        ``before_train_iter`` of the hooks gets the first batch,
        ``after_train_iter`` all of them as one, and the means of the losses.

        Args:
            index: number of the iteration, for the hooks.
            batches: as they come from the data loader.
        """
        runner, seen, found = self.runner, [], []
        for batch in batches:
            if seen:
                runner.call_hook('before_next_batch')
            else:
                runner.call_hook(
                    'before_train_iter', batch_idx=index, data_batch=batch
                )
            seen.append(batch)
            outputs = runner.model.train_step(
                batch, optim_wrapper=runner.optim_wrapper
            )
            found.append(
                {k: torch.as_tensor(v).detach() for k, v in outputs.items()}
            )
            self.batches_done += 1
        self.batches_done = 0
        runner.call_hook(
            'after_train_iter',
            batch_idx=index,
            data_batch=joined(seen),
            outputs=means(found),
        )
        self._iter += 1


@LOOPS.register_module()
class AccumulatingEpochLoop(Accumulation, EpochBasedTrainLoop):
    """EpochBasedTrainLoop with several batches in an iteration.

    Args:
        batches_per_iter: how many; the last iteration of an epoch averages
            those that are left.
    """

    def __init__(self, *args: Any, batches_per_iter: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.group(BatchGroups, batches_per_iter)

    @property
    def max_iters(self) -> int:
        """Iterations of the whole run."""
        return self.max_epochs * len(self.dataloader)

    def begin_epoch(self, done: int) -> None:
        """Begin an epoch after some of its batches."""
        self.begin(done, self.dataloader.batches)

    def run_iter(self, idx: int, data_batch: Iterator) -> None:
        """Train on the batches of an iteration."""
        self.train_on(idx, data_batch)


@LOOPS.register_module()
class AccumulatingIterLoop(Accumulation, IterBasedTrainLoop):
    """IterBasedTrainLoop with several batches in an iteration.

    Args:
        batches_per_iter: how many.
    """

    def __init__(self, *args: Any, batches_per_iter: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.group(CountedLoader, batches_per_iter)

    def begin_epoch(self, done: int) -> None:
        """Begin after some batches of the current iteration."""
        before = self.iter * self.batches_per_iter
        total = self.max_iters * self.batches_per_iter
        self.begin(before + done, total)

    def run_iter(self, data_batch: Any) -> None:
        """Train on the batches of an iteration.

        Args:
            data_batch: the first of them.
        """

        def batches() -> Iterator:
            yield data_batch
            for _ in range(self.batches_per_iter - self.batches_done):
                yield next(self.dataloader_iterator)

        self.train_on(self.iter, batches())


# mmengine's loops -> ours.
LOOP_TYPES = {
    EpochBasedTrainLoop.__name__: AccumulatingEpochLoop,
    IterBasedTrainLoop.__name__: AccumulatingIterLoop,
}


def by_epoch(runner: Any) -> bool:
    """Whether the loop of a run counts epochs."""
    return not isinstance(runner.train_loop, IterBasedTrainLoop)


def joined(batches: Sequence) -> Any:
    """Several batches as one: their lists are joined."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, Mapping):
        return {key: joined([b[key] for b in batches]) for key in first}
    if isinstance(first, list | tuple):
        return [item for batch in batches for item in batch]
    return list(batches)


def means(outputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of each loss over the batches of an iteration."""
    names = dict.fromkeys(name for each in outputs for name in each)
    found = {}
    for name in names:
        values = [each[name] for each in outputs if name in each]
        found[name] = sum(values) / len(values)
    return found
