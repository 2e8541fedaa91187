"""What the network gets: batches after augmentation, as pictures."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner, set_random_seed
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..datasets.checks.fault_tolerant_pipeline import make_fault_tolerant
from ..datasets.checks.files import by
from .canvas import as_colour, colours_of, with_title
from .paint import Thing, paint_labels, paint_things

STRIPE = 6  # pixels: width of the stripes that mark padding


class View(NamedTuple):
    """One image of a batch.

    Attributes:
        name: of its file, without ending; empty if it has none.
        image: what the network gets, with the normalisation undone: BGR
            (H, W, 3), padding striped.
        truth: DetDataSample, SegDataSample, or labels of a classifier.
        text: file, sizes and number of objects.
    """

    name: str
    image: np.ndarray
    truth: Any
    text: str


class Batches:
    """Batches of a config as its network gets them.

    Args:
        cfg: of the run; its default scope is the current one.
        split: 'train' or 'val'.
        seed: of order and augmentation.

    Attributes:
        names: of the classes.
        colours: RGB, one per class.
    """

    def __init__(self, cfg: Config, split: str, seed: int = 0) -> None:
        self.training = split == 'train'
        set_random_seed(seed)
        loader = deepcopy(cfg[f'{split}_dataloader'])
        loader.update(num_workers=0, persistent_workers=False)
        self.loader = Runner.build_dataloader(loader, seed=seed)
        dataset = self.loader.dataset
        make_fault_tolerant(dataset, skip=self.training)
        given = cfg.get('model', {}).get('data_preprocessor')
        given = given or cfg.get('data_preprocessor')
        given = given or dict(type='BaseDataPreprocessor')
        self.preprocessor = MODELS.build(given)
        self.names = tuple(dataset.metainfo.get('classes') or ())
        palette = dataset.metainfo.get('palette')
        self.colours = colours_of(len(self.names), palette)
        self.late = loads_late(loader.dataset)

    def __iter__(self) -> Iterator[View]:
        for batch in self.loader:
            batch = self.preprocessor(batch, self.training)
            truths = batch.get('data_samples')
            truths = batch['labels'] if truths is None else truths
            for x, truth in zip(batch['inputs'], truths, strict=True):
                yield self.view(x, truth)

    def view(self, x: Tensor, truth: Any) -> View:
        """An input (C, H, W) and its truth -> what to show."""
        image = pixels(x, self.preprocessor)
        if not isinstance(truth, BaseDataElement):
            return View('', image, truth, f'{by(image.shape[:2])}')
        known = truth.metainfo
        path = Path(known.get('img_path') or '')
        shape = known.get('img_shape', image.shape)[:2]
        if self.late and not self.training:
            enlarge_boxes(truth)
        text = f'{path.name}, {by(known.get("ori_shape", shape)[:2])}'
        text += f' to {by(shape)}'
        text += ', flipped' if known.get('flip') else ''
        if tuple(shape) != image.shape[:2]:
            text += f', padded to {by(image.shape[:2])}'
            image = striped(image, shape)
        return View(path.stem, image, truth, text)

    def paint(self, view: View) -> np.ndarray:
        """The picture: BGR (H', W', 3)"""
        names, colours, truth = self.names, self.colours, view.truth
        if not isinstance(truth, BaseDataElement):
            text = f'{labelled(truth, names)}, {view.text}'
            return with_title(paint_things(view.image, [], colours), text)
        if 'gt_sem_seg' in truth:
            labels = truth.gt_sem_seg.data[0].numpy().astype(np.uint8)
            labels = cv2.resize(  # those of validation are not resized
                labels,
                view.image.shape[1::-1],
                interpolation=cv2.INTER_NEAREST,
            )
            picture = paint_labels(view.image, labels, colours, names)
            return with_title(picture, view.text)
        things = list(objects(truth, names, view.image.shape[:2]))
        picture = paint_things(view.image, things, colours)
        return with_title(picture, f'{view.text}, objects: {len(things)}')


def pixels(x: Tensor, preprocessor: nn.Module) -> np.ndarray:
    """An input (C, H, W) with the normalisation undone: BGR (H, W, 3)"""
    if getattr(preprocessor, '_enable_normalize', False):
        x = x * preprocessor.std + preprocessor.mean
    image = x.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
    swapped = getattr(preprocessor, '_channel_conversion', False)
    if swapped or getattr(preprocessor, 'channel_conversion', False):
        image = image[..., ::-1]  # mmengine's name, and mmseg's
    return as_colour(image)


def striped(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image with stripes where it is wider or higher than a shape."""
    rows, columns = np.indices(image.shape[:2])
    stripes = (rows + columns) // STRIPE % 2
    padding = (rows >= shape[0]) | (columns >= shape[1])
    shades = np.where(stripes, 200, 120).astype(np.uint8)
    return np.where(padding[..., None], shades[..., None], image)


def objects(
    truth: BaseDataElement, names: tuple[str, ...], shape: tuple[int, int]
) -> Iterator[Thing]:
    """The boxes and masks of a DetDataSample; ignored ones say so."""
    for part, ending in (
        ('gt_instances', ''),
        ('ignored_instances', ' crowd'),
    ):
        found = truth.get(part)
        if found is None:
            continue
        boxes = getattr(found.bboxes, 'tensor', found.bboxes)
        masks = found.masks.to_ndarray() if 'masks' in found else None
        for i, (box, label) in enumerate(
            zip(boxes.tolist(), found.labels.tolist(), strict=True)
        ):
            mask = None if masks is None else fitted(masks[i], shape)
            yield Thing(box, label, names[label] + ending, mask)


def fitted(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask cut, or extended by nothing, to a shape (H, W)"""
    mask = mask[: shape[0], : shape[1]].astype(bool)
    room = [(0, n - have) for n, have in zip(shape, mask.shape, strict=True)]
    return np.pad(mask, room)


def loads_late(dataset: Mapping[str, Any]) -> bool:
    """Whether boxes are loaded after the image is resized, and stay behind.

    mmdet's pipelines of validation do so.
    """
    kinds = [str(t.get('type')) for t in dataset.get('pipeline') or ()]
    resize = next((i for i, k in enumerate(kinds) if 'Resize' in k), None)
    loads = [i for i, k in enumerate(kinds) if k.endswith('LoadAnnotations')]
    return bool(loads) and resize is not None and loads[0] > resize


def enlarge_boxes(truth: BaseDataElement) -> None:
    """Bring boxes and masks of a DetDataSample to the size of its image."""
    factors = truth.metainfo.get('scale_factor')
    for part in ('gt_instances', 'ignored_instances'):
        found = truth.get(part)
        if factors is None or found is None:
            continue
        boxes = getattr(found.bboxes, 'tensor', found.bboxes)
        found.bboxes = boxes * torch.tensor([*factors, *factors])
        if 'masks' in found:
            found.masks = found.masks.resize(truth.img_shape[:2])


def labelled(label: Tensor, names: tuple[str, ...]) -> str:
    """A class, or the shares of classes in a mixed image, in words."""
    if not label.ndim:
        return names[int(label)] if names else f'class {int(label)}'
    shares, places = label.topk(min(2, len(label)))
    return ' + '.join(
        f'{share:.0%} {names[i] if names else i}'
        for share, i in zip(shares.tolist(), places.tolist(), strict=True)
        if share
    )
