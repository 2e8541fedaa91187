"""Seed each batch from its number, and resume within an epoch.

A run that continues from a checkpoint then draws the same random numbers as
one that was never stopped, and sees the same images in the same order.
"""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from ...compat import is_resuming, seeds_differ_by_rank, skipping_iterator
from ...config.saved import saved_config
from ...datasets.resumable_batch_sampler import (
    ResumableBatchSampler,
    iteration_seed,
    seed_all,
)
from ...errors import UsageError
from ..train_loops import Accumulation, by_epoch


@HOOKS.register_module()
class SeedHook(Hook):
    """Seeds each batch from its number, and skips finished batches.

    With :class:`ResumableBatchSampler` a resumed run goes on in the middle of
    an epoch, and skips batches without reading their images.
    """

    def __init__(self) -> None:
        self.iterations = 0  # of this epoch that were trained on before
        self.batches = 0  # of the iteration after them
        self.first = None  # first iteration of this epoch

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        """Find the place of a resumed run in its epoch.

        Raises:
            UsageError: an iteration of the checkpoint had another number of
                images.
        """
        if not is_resuming(runner):
            return
        meta = checkpoint.get('meta')
        if meta is None:
            raise UsageError(
                'the checkpoint to resume has weights only, and no state of '
                'a run: start from them with load_from, without --resume'
            )
        if 'batch' in meta:
            check_batch(runner, meta['batch'])
        else:
            check_older(runner, meta)
        self.iterations = meta.get('batches_done', 0)
        self.batches = meta.get('batches_of_iteration', 0)
        if self.batches and meta['batch'] != batch_of(runner):
            print_log(
                f'{self.batches} batches of an unfinished iteration are '
                'trained on again, because a batch had another size.',
                'current',
            )
            self.batches = 0
            checkpoint.pop('gradients', None)
        here = len(runner.train_dataloader)
        there = meta.get('batches_per_epoch', here)
        if here != there and by_epoch(runner):
            self.start_epoch_over(meta, here, there)

    def start_epoch_over(self, meta: dict, here: int, there: int) -> None:
        """Resume at the last complete epoch, of another data set.

        Args:
            meta: of the checkpoint; its iteration is changed.
            here: iterations of an epoch in this run.
            there: those of the checkpoint.
        """
        old, meta['iter'] = meta['iter'], meta['epoch'] * here
        print_log(
            f'An epoch has {here} iterations here and {there} in the '
            f'checkpoint: iteration {old} -> {meta["iter"]}'
            + ('; the epoch starts over.' if self.iterations else '.'),
            'current',
        )
        self.iterations = self.batches = 0

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        """Write how much of its epoch the run has finished."""
        meta = checkpoint['meta']
        meta['batch'] = batch_of(runner)
        meta['batches_of_iteration'] = getattr(
            runner.train_loop, 'batches_done', 0
        )
        meta['batches_per_epoch'] = len(runner.train_dataloader)
        if self.first is not None:
            meta['batches_done'] = meta['iter'] - self.first

    def before_train_epoch(self, runner) -> None:
        """Make the data loader begin with the next batch of the run."""
        loop, count = runner.train_loop, batches_per_iter(runner)
        if isinstance(loop, Accumulation):
            before = self.iterations * count if by_epoch(runner) else 0
            loop.begin_epoch(before + self.batches)
        batches = runner.train_dataloader.batch_sampler
        if not isinstance(batches, ResumableBatchSampler):
            return
        if not seeds_differ_by_rank(runner):
            batches.sampler.seed = runner.seed  # the checkpoint's, if resumed
        place = runner.iter * count + self.batches
        if not by_epoch(runner):
            if place:
                go_on(runner, batches, place)
            return
        batches.go_to(place, self.iterations * count + self.batches)
        self.first = runner.iter - self.iterations
        self.iterations = self.batches = 0

    def after_train_epoch(self, runner) -> None:
        """Reset the first iteration of the epoch."""
        self.first = None

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Seed what the model draws: drop path, dropout, samplers."""
        self.before_next_batch(runner)

    def before_next_batch(self, runner) -> None:
        """Seed them for a further batch of an iteration."""
        number = runner.iter * batches_per_iter(runner)
        number += getattr(runner.train_loop, 'batches_done', 0)
        seed_all(iteration_seed(runner.seed, number))


def batches_per_iter(runner) -> int:
    """Batches of an iteration in this run."""
    return getattr(runner.train_loop, 'batches_per_iter', 1)


def batch_of(runner) -> dict[str, int]:
    """What makes up the images of an iteration."""
    sampler = runner.train_dataloader.batch_sampler
    return dict(
        processes=get_world_size(),
        images=getattr(sampler, 'batch_size', 1),
        batches=batches_per_iter(runner),
    )


def check_batch(runner, there: dict[str, int]) -> None:
    """Compare the images of an iteration with those of the checkpoint.

    Raises:
        UsageError: there are more, or fewer.
    """
    here = batch_of(runner)
    old, new = (
        each['processes'] * each['images'] * each['batches']
        for each in (there, here)
    )
    if old != new:
        raise UsageError(
            f'--resume: an iteration of the checkpoint has {old} images '
            f'({text_of(there)}), and one of this run {new} '
            f'({text_of(here)}): choose train_dataloader.batch_size or the '
            'number of processes so that they are equal, or start anew from '
            "the checkpoint's weights with load_from"
        )


def text_of(batch: dict[str, int]) -> str:
    """What makes up a batch, for a message."""
    return '{processes} process(es) x {images} images x {batches}'.format(
        **batch
    )


def check_older(runner, meta: dict[str, Any]) -> None:
    """Check that an older version counted iterations as this one does.

    It counted each batch where gradients are accumulated.

    Raises:
        UsageError: it did not.
    """
    there = saved_config(meta).get('optim_wrapper') or {}
    here = runner.cfg.get('optim_wrapper') or {}
    old = there.get('accumulative_counts', 1)
    if batches_per_iter(runner) > 1 or old != here.get(
        'accumulative_counts', 1
    ):
        raise UsageError(
            '--resume: the checkpoint is of an older pvt_mm, which counted '
            f'each of {old} accumulated batches as an iteration: finish this '
            'run with that version, or start anew from its weights with '
            'load_from'
        )


def go_on(runner, batches: ResumableBatchSampler, place: int) -> None:
    """Give a loop without epochs an iterator from its next batch on.

    Args:
        runner: runs the training.
        batches: the batch sampler of its data loader.
        place: number of the batch in the run.
    """
    loop, loader = runner.train_loop, runner.train_dataloader
    loop.dataloader_iterator = None  # ends its workers
    epoch, skip = batches.divide(place)
    batches.go_to(place, skip)
    if hasattr(batches.sampler, 'set_epoch'):
        batches.sampler.set_epoch(epoch)
    # mmengine's loop skips one batch for each iteration
    loop.dataloader_iterator = skipping_iterator(loader, runner.iter, epoch)
