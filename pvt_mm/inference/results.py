"""Run a model on images, and draw what it finds."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from ..errors import InputError
from ..visualization.drawing import draw_label_map, draw_objects
from .predictor import BadImage, Predictor
from .sources import Item, open_source


class Result(NamedTuple):
    """What was found in an image.

    Attributes:
        item: which image.
        image: BGR (H, W, 3), None if it could not be read.
        sample: DetDataSample with the objects that score enough, best
            first, or SegDataSample; None if there is a fault.
        fault: why the image could not be used, one sentence.
    """

    item: Item
    image: np.ndarray | None
    sample: BaseDataElement | None
    fault: str = ''


def infer(
    config: str | Config,
    weights: str | os.PathLike,
    source: str | os.PathLike,
    *,
    score: float = 0.3,
    batch_size: int = 1,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Result]:
    """Run a trained model on an image, a folder of images or a video.

    Args:
        config: a config, its file, or the name of one of ours.
        weights: file, address or ``pvt://NAME`` of a whole model.
        source: the image, folder or video.
        score: objects below are left out.
        batch_size: images at a time; only those of one size go together,
            so that the results are those of a batch of one.
        device: cpu, cuda or cuda:N; None for a GPU if there is one.
        options: changes of the config, as ``--cfg-options`` takes them.

    Yields:
        a result per image, in order; one with a fault has no sample.

    Raises:
        UsageError: the config, weights, device or source cannot be used.
        CheckpointError: the weights are nowhere, or cannot be read safely.
    """
    items = open_source(source)
    predictor = Predictor(config, weights, device, options)
    yield from infer_items(predictor, items, score, batch_size)


def infer_items(
    predictor: Predictor, items: Iterable[Item], score: float, batch_size: int
) -> Iterator[Result]:
    """Yield the result of each image, in order; images are read when needed.

    Args:
        predictor: the model.
        items: images.
        score: objects below are left out.
        batch_size: images at a time, if they are equally large.
    """
    waiting: list[tuple[Item, np.ndarray, dict]] = []
    for item in items:
        image = item.frame
        try:
            if image is None:
                image = predictor.read(item.path)
            prepared = predictor.prepare(image)
        except BadImage as error:
            yield from predict(predictor, waiting, score)
            waiting = []
            yield Result(item, image, None, describe_fault(item, error))
            continue
        if waiting and waiting[0][2]['inputs'].shape != (
            prepared['inputs'].shape
        ):
            yield from predict(predictor, waiting, score)
            waiting = []
        waiting.append((item, image, prepared))
        if len(waiting) == batch_size:
            yield from predict(predictor, waiting, score)
            waiting = []
    yield from predict(predictor, waiting, score)


def predict(
    predictor: Predictor, waiting: list, score: float
) -> Iterator[Result]:
    """The results of a batch of (item, image, prepared image)."""
    if not waiting:
        return
    items, images, prepared = zip(*waiting, strict=True)
    try:
        samples = predictor.predict(prepared)
    except InputError as error:  # images of one size: too small, all of them
        for item, image in zip(items, images, strict=True):
            yield Result(item, image, None, describe_fault(item, error))
        return
    for item, image, sample in zip(items, images, samples, strict=True):
        if 'pred_instances' in sample:
            found = sample.pred_instances
            found = found[found.scores.argsort(descending=True)]
            sample.pred_instances = found[found.scores >= score]
        yield Result(item, image, sample)


def describe_fault(item: Item, error: Exception) -> str:
    """The message of an error, with the name of the image."""
    text = str(error)
    place = f'frame {item.number} of {item.path}'
    place = str(item.path) if item.frame is None else place
    return text if text.startswith(place) else f'{place}: {text}'


def draw_result(result: Result, predictor: Predictor) -> np.ndarray:
    """The picture of a result: BGR (H', W', 3)"""
    visualizer, image = predictor.visualizer, result.image
    if predictor.semantic:
        return draw_label_map(visualizer, image, label_map(result.sample))
    return draw_objects(visualizer, image, result.sample.pred_instances)


def label_map(sample: BaseDataElement) -> np.ndarray:
    """The class of each pixel (H, W)"""
    # mmseg has floats where one output channel is compared with a threshold
    return sample.pred_sem_seg.data[0].numpy().astype(np.int64)
