"""mmengine's Runner with data sets that skip or name unusable samples."""

from logging import FileHandler, LogRecord
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoints.whole_models import name_to_load
from ..compat import (
    coco_parser,
    decode_json,
    is_resuming,
    use_faster_coco_eval,
)
from ..datasets.checks.examine import no_collection
from ..datasets.checks.fault_tolerant_pipeline import make_fault_tolerant
from ..datasets.checks.ignored_labels import (
    heads_of,
    metrics_of,
    set_ignored,
)
from ..datasets.resumable_batch_sampler import ResumableBatchSampler
from ..evaluation.class_names import show_own_classes
from .gpu import prepare_model


class FaultTolerant:
    """A part of a Runner: each data set gets a FaultTolerantPipeline.

    Only training skips samples, and only its loader has a
    ResumableBatchSampler. Labels that are no classes are bad unless the heads
    in training, or the metrics in an evaluation, ignore them.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger of a run; it ends with a log it cannot write."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, FileHandler):
                handler.handleError = raise_again
        return logger

    def build_dataloader(
        self, dataloader: Any, *args: Any, **kwargs: Any
    ) -> DataLoader:
        """Build a data loader, as mmengine's Runner does."""
        with no_collection(), coco_parser(decode_json):
            loader = super().build_dataloader(dataloader, *args, **kwargs)
        training = isinstance(loader.batch_sampler, ResumableBatchSampler)
        make_fault_tolerant(loader.dataset, skip=training)
        if training:
            set_ignored(loader.dataset, heads_of(self.model))
        return loader

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build the metrics, as mmengine's Runner does."""
        with no_collection(), coco_parser(decode_json):
            built = super().build_evaluator(evaluator)
        if number := use_faster_coco_eval():
            self.logger.info(f'COCO scores: faster-coco-eval {number}')
        return built

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, as mmengine's Runner does.

        The start of a run may be of any known format, and is converted.
        """
        if not is_resuming(self):
            filename = name_to_load(self.model, filename)
        return super().load_checkpoint(filename, *args, **kwargs)

    def build_val_loop(self, loop: Any) -> BaseLoop:
        """Build the loop of evaluations during training."""
        return self.ignoring(super().build_val_loop(loop), 'val')

    def build_test_loop(self, loop: Any) -> BaseLoop:
        """Build the loop of a test."""
        return self.ignoring(super().build_test_loop(loop), 'test')

    def ignoring(self, loop: BaseLoop, mode: str) -> BaseLoop:
        """Fit the data set of a loop and its metrics to each other."""
        evaluator = getattr(loop, 'evaluator', None)
        show_own_classes(getattr(evaluator, 'dataset_meta', None) or {})
        readers = metrics_of(evaluator, mode)
        set_ignored(loop.dataloader.dataset, readers)
        return loop


def raise_again(record: LogRecord) -> None:
    """Raise the error of a handler, which logging would print and forget."""
    raise


class FaultTolerantRunner(FaultTolerant, Runner):
    """mmengine's Runner with FaultTolerantPipelines."""

    def wrap_model(self, wrapper: Any, model: nn.Module) -> nn.Module:
        """Put a model on its device, and wrap it for several processes."""
        if torch.cuda.is_available():
            prepare_model(model)
        return super().wrap_model(wrapper, model)
