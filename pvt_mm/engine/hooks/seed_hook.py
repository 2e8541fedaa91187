"""Seed each iteration from its number, and resume within an epoch.

A run that continues from a checkpoint then draws the same random numbers as
one that was never stopped, and sees the same images in the same order.
"""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from ...compat import is_resuming, seeds_differ_by_rank, skipping_iterator
from ...datasets.resumable_batch_sampler import (
    ResumableBatchSampler,
    iteration_seed,
    seed_all,
)


@HOOKS.register_module()
class SeedHook(Hook):
    """Seeds each iteration from its number, and skips finished batches.

    With :class:`ResumableBatchSampler` a resumed run goes on in the middle of
    an epoch, and skips batches without reading their images.
    """

    def __init__(self) -> None:
        self.skip = 0  # batches of this epoch that were trained on before
        self.first = None  # first iteration of this epoch

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        """Read how many batches of its epoch a resumed run has finished."""
        if not is_resuming(runner):
            return
        here = len(runner.train_dataloader)
        there = checkpoint['meta'].get('batches_per_epoch', here)
        self.skip = checkpoint['meta'].get('batches_done', 0)
        if self.skip and here != there:
            print_log(
                f'An epoch has {here} batches here and {there} in the '
                'checkpoint: its epoch starts over.',
                'current',
            )
            self.skip = 0

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        """Write how many batches of its epoch the run has finished."""
        if self.first is not None:
            meta = checkpoint['meta']
            meta['batches_done'] = meta['iter'] - self.first
            meta['batches_per_epoch'] = len(runner.train_dataloader)

    def before_train_epoch(self, runner) -> None:
        """Make the data loader begin with the next batch of the run."""
        batches = runner.train_dataloader.batch_sampler
        if not isinstance(batches, ResumableBatchSampler):
            return
        if not seeds_differ_by_rank(runner):
            batches.sampler.seed = runner.seed  # the checkpoint's, if resumed
        if hasattr(runner.train_loop, 'dataloader_iterator'):
            if runner.iter:
                go_on(runner, batches)
            return
        batches.go_to(runner.iter, self.skip)
        self.first, self.skip = runner.iter - self.skip, 0

    def after_train_epoch(self, runner) -> None:
        """Reset the first iteration of the epoch."""
        self.first = None

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Seed what the model draws: drop path, dropout, samplers."""
        seed_all(iteration_seed(runner.seed, runner.iter))


def go_on(runner, batches: ResumableBatchSampler) -> None:
    """Give an IterBasedTrainLoop an iterator from its next batch on.

    That is batch number runner.iter.
    """
    loop, loader = runner.train_loop, runner.train_dataloader
    loop.dataloader_iterator = None  # ends its workers
    epoch, skip = batches.divide(runner.iter)
    batches.go_to(runner.iter, skip)
    if hasattr(batches.sampler, 'set_epoch'):
        batches.sampler.set_epoch(epoch)
    loop.dataloader_iterator = skipping_iterator(loader, runner.iter, epoch)
