"""Random numbers that depend on where a run is, not on when it started.

A run that continues from a checkpoint then draws the same numbers as one
that was never stopped, and sees the same images in the same order.
"""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner.loops import _InfiniteDataloaderIterator

from .batches import PlacedBatchSampler, place_seed, seed_all


@HOOKS.register_module()
class PlaceSeedHook(Hook):
    """Seeds each iteration from its number, and finds its batch again.

    With :class:`PlacedBatchSampler` a resumed run goes on in the middle of
    an epoch, and passes over batches without reading their images.
    """

    def __init__(self) -> None:
        self.skip = 0  # batches of this epoch that are behind a resumed run
        self.first = None  # iteration that this epoch began with

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        """Read how far into its epoch a resumed run is."""
        if not runner._resume:
            return
        here = len(runner.train_dataloader)
        there = checkpoint['meta'].get('batches_per_epoch', here)
        self.skip = checkpoint['meta'].get('batches_done', 0)
        if self.skip and here != there:
            print_log(
                f'An epoch has {here} batches here and {there} in the '
                'checkpoint: its epoch starts over.'
            )
            self.skip = 0

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        """Note how far into its epoch the run is."""
        if self.first is not None:
            meta = checkpoint['meta']
            meta['batches_done'] = meta['iter'] - self.first
            meta['batches_per_epoch'] = len(runner.train_dataloader)

    def before_train_epoch(self, runner) -> None:
        """Let the data begin where the run is."""
        batches = runner.train_dataloader.batch_sampler
        if not isinstance(batches, PlacedBatchSampler):
            return
        if not runner._randomness_cfg.get('diff_rank_seed'):
            batches.sampler.seed = runner.seed  # the checkpoint's, if resumed
        if hasattr(runner.train_loop, 'dataloader_iterator'):
            if runner.iter:
                go_on(runner, batches)
            return
        batches.go_to(runner.iter, self.skip)
        self.first, self.skip = runner.iter - self.skip, 0

    def after_train_epoch(self, runner) -> None:
        """Nothing of the next epoch is done yet."""
        self.first = None

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Seed what the model draws: drop path, dropout, samplers."""
        seed_all(place_seed(runner.seed, runner.iter))


class GoingOn(_InfiniteDataloaderIterator):
    """The batches after the first ones, which are given unread.

    mmengine's loop asks for as many batches as have been trained on, to
    throw them away; onedl-mmengine's asks to skip them.

    Args:
        loader: begins with the first batch that is not behind.
        behind: number of batches that have been trained on.
    """

    def __init__(self, loader, behind: int) -> None:
        super().__init__(loader)
        self.behind = behind

    def __next__(self):
        if self.behind:
            self.behind -= 1
            return None
        return super().__next__()

    def skip_iter(self, num_iters: int) -> None:
        self.behind -= num_iters


def go_on(runner, batches: PlacedBatchSampler) -> None:
    """Restart the data of a run without epochs at the run's place."""
    loop, loader = runner.train_loop, runner.train_dataloader
    loop.dataloader_iterator = None  # ends its workers
    epoch, skip = batches.divide(runner.iter)
    batches.go_to(runner.iter, skip)
    if hasattr(batches.sampler, 'set_epoch'):
        batches.sampler.set_epoch(epoch)
    loop.dataloader_iterator = GoingOn(loader, runner.iter)
    loop.dataloader_iterator._epoch = epoch
