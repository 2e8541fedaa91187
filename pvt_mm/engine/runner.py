"""mmengine's Runner with data sets that skip or name unusable samples."""

from typing import Any

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..datasets.checks.fault_tolerant_pipeline import make_fault_tolerant
from ..datasets.resumable_batch_sampler import ResumableBatchSampler


class FaultTolerantRunner(Runner):
    """mmengine's Runner with a FaultTolerantPipeline in each data set.

    Only training skips samples, and only its loader has a
    ResumableBatchSampler.
    """

    @staticmethod
    def build_dataloader(
        dataloader: Any, *args: Any, **kwargs: Any
    ) -> DataLoader:
        """Build a data loader, as mmengine's Runner does."""
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        training = isinstance(loader.batch_sampler, ResumableBatchSampler)
        make_fault_tolerant(loader.dataset, skip=training)
        return loader
