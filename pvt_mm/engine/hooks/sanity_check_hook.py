"""Try a validation and a training pass before the first iteration."""

import logging
import shutil
import time
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from copy import copy, deepcopy
from itertools import chain, islice
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader

from ...compat import loop_without_hooks
from ...config.build_errors import first_line, passed_own_code
from ...datasets.checks.fault_tolerant_pipeline import inner
from ...datasets.checks.samples import kept_randomness
from ...datasets.checks.scored_images import ANYWAY, check_scored_images
from ...errors import UsageError, nearest_names
from ...evaluation.ground_truth import (
    SCORED,
    SEGM,
    best_scores,
    has_truth,
    score_ground_truth,
)
from ..launch import call_in_first

BATCHES = 2


@HOOKS.register_module()
class SanityCheckHook(Hook):
    """Finds before the first iteration what would fail at the first score.

    The validation loop runs on two batches, its metrics get the ground truth
    of these batches as predictions, and one batch passes the model in
    training mode. All of it happens on copies (with FSDP: see
    :func:`trial`): weights, buffers, metrics, random states and logs stay as
    they are. PyTorch Lightning's sanity check
    does the first of the three.
    """

    priority = 'HIGH'  # after RuntimeInfoHook, before hooks that validate

    def before_train(self, runner) -> None:
        """Check the run.

        Raises:
            UsageError: a part fails; an error of the user's own code passes
                as it is, with a note.
        """
        start = time.monotonic()
        call_in_first(check_free_space, runner)
        with kept_randomness(), untouched_logs(runner.logger):
            if runner.val_loop is not None:
                with trial(runner.model) as model:
                    check_monitors(runner, validate(runner.val_loop, model))
            with trial(runner.model) as model:
                train_pass(runner, model)
        print_log(
            'Sanity check: a validation on '
            f'{BATCHES if runner.val_loop else 0} batches and a training pass '
            f'of one took {time.monotonic() - start:.1f} s',
            'current',
        )


@contextmanager
def untouched_logs(logger: logging.Logger) -> Iterator[None]:
    """Context in which a run's logger and stdout, of pycocotools, are off."""
    logger.disabled = True
    try:
        with redirect_stdout(None):
            yield
    finally:
        logger.disabled = False


@contextmanager
def trial(model: nn.Module) -> Iterator[nn.Module]:
    """Context with a copy of a model.

    A part of a model that FSDP divided cannot be copied: the model itself is
    used, and its buffers are restored.
    """
    if not isinstance(model, FullyShardedDataParallel):
        yield deepcopy(model.module if is_model_wrapper(model) else model)
        return
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield model
    finally:
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)


def validate(loop: Any, model: nn.Module) -> set[str]:
    """Run a validation loop on some batches, and score their ground truth.

    Returns:
        the names of the scores; none if nothing was found to score.

    Args:
        loop: of mmengine's ValLoop, or of a class that inherits it.
        model: of :func:`trial`.

    Raises:
        UsageError: one of the two fails.
    """
    loader = loop.dataloader
    chosen = islice(loader.batch_sampler, BATCHES)
    batches = read_batches(loader, chosen, 'validation', model)
    metrics = loop.evaluator.metrics
    samples = [s for b in batches for s in samples_of(b)]
    check_scored_images(loader.dataset, metrics)
    check_masks(metrics, model)
    with explained(f'the validation of {BATCHES} batches', model):
        evaluator = new_evaluator(loop.evaluator, samples)
        found = loop_without_hooks(loop, model, batches, evaluator).run() or {}
    names = ' and '.join(type(metric).__name__ for metric in metrics)
    with explained(f'{names}, given the ground truth as predictions,', model):
        evaluator = new_evaluator(loop.evaluator, samples)
        for sample in samples:
            score_ground_truth(evaluator, next(inner(loader.dataset)), sample)
        scores = evaluator.evaluate(len(loader.dataset)) if samples else {}
    most = max((len(s.get('gt_instances', ())) for s in samples), default=0)
    for name, value, best in best_scores(scores):
        # a wrong file gives about 0, and batches without objects less
        if 0 <= value < best / 4 and most <= SCORED:
            raise UsageError(
                f'the ground truth of {BATCHES} batches, given to '
                f'val_evaluator as predictions, has a {name} of {value:g}, '
                f'not {best}: compare its ann_file and ids with those of the '
                f'data set; {ANYWAY}'
            )
    if any(SEGM in getattr(metric, 'metrics', ()) for metric in metrics):
        # without masks in the ground truth they have no score here
        scores |= {name.replace('bbox', SEGM): 0 for name in scores}
    return {*found, *scores}


def check_masks(metrics: Sequence[Any], model: nn.Module) -> None:
    """Check that a model whose masks are scored has a part for them.

    Raises:
        UsageError: no part of it is one for masks, by name.
    """
    names = (f'{n} {type(part)}'.lower() for n, part in model.named_modules())
    if any(SEGM in getattr(m, 'metrics', ()) for m in metrics) and not any(
        'mask' in name or 'panoptic' in name for name in names
    ):
        raise UsageError(
            f"val_evaluator.metric has '{SEGM}', but the model has no part "
            f'for masks: take it out; {ANYWAY}'
        )


def check_monitors(runner: Any, names: Collection[str]) -> None:
    """Check that the scores by which hooks and schedules decide exist.

    Args:
        runner: of the run.
        names: of the scores of its validation, as far as they are known.

    Raises:
        UsageError: one is not among them.
    """
    given = {}
    for part in (*runner.hooks, *(runner.param_schedulers or ())):
        for key in ('save_best', 'monitor'):
            value = getattr(part, key, None) or ()
            for name in [value] if isinstance(value, str) else value:
                given[f'{key}={name!r} of {type(part).__name__}'] = name
    for said, name in given.items():
        if names and name not in {*names, 'auto', 'loss'}:
            raise UsageError(
                f'{said} is no score of this validation; '
                f'{nearest_names(name, names, 0.3)}; {ANYWAY}'
            )


def train_pass(runner: Any, model: nn.Module) -> None:
    """Pass the first batch through the model in training mode.

    Args:
        runner: of the run.
        model: of :func:`trial`.

    Raises:
        UsageError: the pass fails.
    """
    loader = runner.train_loop.dataloader
    chosen = islice(copy(loader.batch_sampler), 1)
    batch = read_batches(loader, chosen, 'training', model)[0]
    context = getattr(runner.optim_wrapper, 'optim_context', nullcontext)
    model.train()
    with (
        explained('a training pass', model),
        torch.no_grad(),
        context(model),
    ):
        data = model.data_preprocessor(batch, True)
        losses = (
            model(**data, mode='loss')
            if isinstance(data, dict)
            else model(*data, mode='loss')
        )
        model.parse_losses(losses)


def read_batches(
    loader: DataLoader,
    chosen: Iterator[Sequence],
    task: str,
    model: nn.Module,
) -> list:
    """Some batches of a data loader.

    Another process reads them: data sets may keep what they read.

    Args:
        loader: stays at its place.
        chosen: the indices of each batch.
        task: what it loads for, for messages.
        model: of :func:`trial`.

    Raises:
        UsageError: the samples of a batch do not fit together.
    """
    reader = DataLoader(
        loader.dataset,
        batch_sampler=list(chosen),
        collate_fn=list,
        num_workers=1,
    )
    batches = list(reader)
    with explained(f'making a batch of the {task} samples', model):
        return [loader.collate_fn(samples) for samples in batches]


def samples_of(batch: Any) -> list[BaseDataElement]:
    """The data samples of a batch that have a ground truth to score."""
    samples = batch.get('data_samples', ()) if isinstance(batch, dict) else ()
    return list(filter(has_truth, samples))


def new_evaluator(evaluator: Any, samples: Sequence[Any]) -> Any:
    """A copy of an evaluator without results.

    Args:
        evaluator: mmengine's.
        samples: mmdet's CocoMetric scores these images only.
    """
    new = copy(evaluator)
    new.metrics = [copy(metric) for metric in evaluator.metrics]
    for metric in new.metrics:
        metric.results = []
        if samples and 'img_id' in samples[0] and hasattr(metric, 'img_ids'):
            metric.img_ids = [sample.img_id for sample in samples]
    return new


def check_free_space(runner: Any) -> None:
    """Check that the disk has space for two checkpoints.

    A new one is complete before an old one is removed.

    Raises:
        UsageError: it has less.
    """
    defaults = getattr(
        getattr(runner.optim_wrapper, 'optimizer', None), 'defaults', {}
    )
    moments = 2 if 'betas' in defaults else bool(defaults.get('momentum'))
    parts = chain(runner.model.parameters(), runner.model.buffers())
    size = sum(part.nbytes for part in parts)
    needed = 2 * (1 + moments) * size
    free = shutil.disk_usage(runner.work_dir).free
    if free < needed:
        raise UsageError(
            f'{runner.work_dir} has {free / 1e6:,.1f} MB left, but two '
            f'checkpoints take about {needed / 1e6:,.1f} MB: make space, or '
            f'choose another --work-dir; {ANYWAY}'
        )


@contextmanager
def explained(what: str, model: nn.Module) -> Iterator[None]:
    """Context: an error of a library becomes a sentence, with its text.

    Args:
        what: what is tried.
        model: whose module is named, with the shapes that it gets.

    Raises:
        UsageError: a library failed; an error that passed code of the
            user's own is raised as it is, with a note.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        kind = type(error).__name__
        said = f'before the first iteration: {what} fails{place(error, model)}'
        if passed_own_code(error):
            error.add_note(f'{said}; {ANYWAY}')
            raise
        raise UsageError(
            f'{said}: {kind}: {first_line(error)}; {ANYWAY}'
        ) from error


def place(error: Exception, model: nn.Module) -> str:
    """' in NAME, a CLASS that gets SHAPES', of the innermost module.

    Of a metric: ' in CLASS'.
    """
    names = {module: name for name, module in model.named_modules() if name}
    found, last = '', None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get('self')
        if isinstance(module, BaseMetric):
            found = f' in {type(module).__name__}'
        if not isinstance(module, nn.Module) or module not in names:
            continue
        given = shapes(frame.f_locals.get('args', ()))
        if given or module is not last:
            found = f' in model.{names[module]}, a {type(module).__name__}'
            found += f' that gets {given}' if given else ''
        last = module
    return found


def shapes(given: Any) -> str:
    """'(2, 64, 8, 8) and (2, 64, 4, 4)' for tensors, also inside tuples."""
    if isinstance(given, Tensor):
        return str(tuple(given.shape))
    if isinstance(given, tuple | list):
        return ' and '.join(filter(None, map(shapes, given)))
    return ''
