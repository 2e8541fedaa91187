"""Log the samples that training skips, and stop at too many."""

from logging import WARNING

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from ...datasets.checks.fault_tolerant_pipeline import (
    inner,
    make_fault_tolerant,
    samples_in,
    tolerant_parts,
)
from ...datasets.checks.report import SHARE, allowed
from ...errors import SampleError

NAMED = 5


@HOOKS.register_module()
class SkippedSamplesHook(Hook):
    """Logs each sample that training skips, once, and counts them.

    Args:
        at_most: share of the images, 0 to 1; training stops if more are
            skipped.
    """

    priority = 'LOWEST'  # after hooks that change the pipeline

    def __init__(self, at_most: float = SHARE) -> None:
        self.at_most = at_most
        self.seen: dict[str, None] = {}
        self.times = 0

    def before_train(self, runner) -> None:
        """Look whether the runner lets data sets skip samples."""
        self.skips = bool(tolerant_parts(runner.train_dataloader.dataset))

    def before_train_epoch(self, runner) -> None:
        """Let a pipeline that another hook has set skip samples, too."""
        if self.skips:
            make_fault_tolerant(runner.train_dataloader.dataset, skip=True)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Log the samples that were skipped while batches were loaded."""
        samples = samples_in((data_batch or {}).get('data_samples'))
        for what in (w for s in samples for w in s.get('skipped', ())):
            self.times += 1
            if what not in self.seen:
                self.seen[what] = None
                print_log(f'Skipped: {what}', 'current', WARNING)
                self.check(runner, what)

    def check(self, runner, last: str) -> None:
        """Compare the number of skipped images with what is allowed.

        Raises:
            SampleError: there are more.
        """
        parts = inner(runner.train_dataloader.dataset)
        images = sum(map(len, parts))
        if len(self.seen) > allowed(images, self.at_most):
            raise SampleError(
                f'{len(self.seen)} of {images} images could not be used, '
                f'more than {self.at_most:.0%}; the last: {last}; '
                'pvt_mm check-dataset CONFIG names them all'
            )

    def after_train_epoch(self, runner) -> None:
        """Log what all processes skipped in this epoch."""
        found = all_gather_object((self.times, tuple(self.seen)))
        names = list(dict.fromkeys(n for _, each in found for n in each))
        times = sum(count for count, _ in found)
        self.times = 0
        if times:
            more = len(names) - NAMED
            print_log(
                f'{times} samples were skipped in this epoch; so far '
                f'{len(names)} cannot be used: {"; ".join(names[:NAMED])}'
                + (f'; and {more} more' if more > 0 else ''),
                'current',  # mmengine says a warning only once
            )
