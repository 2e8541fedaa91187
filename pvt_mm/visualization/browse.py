"""Draw the batches that the network gets, after augmentation."""

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
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from ..datasets.checks.fault_tolerant_pipeline import (
    inner,
    make_fault_tolerant,
)
from ..datasets.checks.files import by
from ..evaluation.ground_truth import loads_early
from .drawing import (
    add_title,
    build_visualizer,
    draw_label_map,
    draw_objects,
    enlarge,
    enlargement,
    to_rgb,
)

STRIPE = 6  # pixels: width of the stripes that mark padding


class View(NamedTuple):
    """One image of a batch.

    Attributes:
        name: of its file, without suffix; empty if it is not known.
        image: the input without normalization, BGR (H, W, 3); padding is
            striped.
        truth: DetDataSample, SegDataSample, or the label of a classifier.
        text: file, sizes and flip.
    """

    name: str
    image: np.ndarray
    truth: Any
    text: str


class Batches:
    """The images of a config's data loader, after the data preprocessor.

    Args:
        cfg: of the run; its default scope is the current one.
        split: 'train' or 'val'.
        seed: of order and augmentation.
        dataset: of the split, built before; None builds it.

    Attributes:
        names: of the classes.
    """

    def __init__(
        self, cfg: Config, split: str, seed: int = 0, dataset: Any = None
    ) -> None:
        self.training = split == 'train'
        set_random_seed(seed)
        loader = deepcopy(cfg[f'{split}_dataloader'])
        loader.update(num_workers=0, persistent_workers=False)
        if dataset is not None:
            loader.update(dataset=dataset)
        self.loader = Runner.build_dataloader(loader, seed=seed)
        dataset = self.loader.dataset
        make_fault_tolerant(dataset, skip=self.training)
        given = cfg.get('model', {}).get('data_preprocessor')
        given = given or cfg.get('data_preprocessor')
        given = given or dict(type='BaseDataPreprocessor')
        self.preprocessor = MODELS.build(given)
        given = given.get('data_preprocessor', given)  # of each branch
        self.swapped = given.get('bgr_to_rgb') or given.get('rgb_to_bgr')
        self.names = tuple(dataset.metainfo.get('classes') or ())
        self.scope = cfg.get('default_scope')
        self.visualizer = build_visualizer(self.scope, dataset.metainfo)
        self.late = not any(map(loads_early, inner(dataset)))

    def __iter__(self) -> Iterator[View]:
        for batch in self.loader:
            batch = self.preprocessor(batch, self.training)
            truths = batch.get('data_samples')
            truths = batch['labels'] if truths is None else truths
            inputs = batch['inputs']
            if not isinstance(inputs, Mapping):
                inputs, truths = {'': inputs}, {'': truths}
            for branch in inputs:  # several in semi-supervised training
                pairs = zip(inputs[branch], truths[branch], strict=True)
                for x, truth in pairs:
                    view = self.view(x, truth)
                    text = ', '.join(filter(None, [branch, view.text]))
                    yield view._replace(text=text)

    def view(self, x: Tensor, truth: Any) -> View:
        """An input (C, H, W) and its truth as :meth:`draw` takes them."""
        image = self.pixels(x)
        if not isinstance(truth, BaseDataElement):
            return View('', image, truth, by(image.shape[:2]))
        known = truth.metainfo
        path = Path(known.get('img_path') or '')
        shape = known.get('img_shape', image.shape)[:2]
        if self.late and not self.training:
            resize_objects(truth)
        text = f'{path.name}, {by(known.get("ori_shape", shape)[:2])}'
        text += f' to {by(shape)}'
        text += ', flipped' if known.get('flip') else ''
        if tuple(shape) != image.shape[:2]:
            text += f', padded to {by(image.shape[:2])}'
            image = striped(image, shape)
        return View(path.stem, image, truth, text)

    def pixels(self, x: Tensor) -> np.ndarray:
        """An input (C, H, W) without normalization: BGR (H, W, 3)"""
        part = getattr(
            self.preprocessor, 'data_preprocessor', self.preprocessor
        )
        if hasattr(part, 'mean'):
            x = x * part.std + part.mean
        image = x.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
        reverse = to_rgb(image)  # 3 channels, the last one first
        return reverse if self.swapped else reverse[..., ::-1]

    def draw(self, view: View) -> np.ndarray:
        """The picture of an image: BGR (H', W', 3)"""
        image, truth, text = view.image, view.truth, view.text
        if self.scope == 'mmdet':
            found = objects(truth, self.names, image.shape[:2])
            picture = draw_objects(self.visualizer, image, found)
            text += f', objects: {len(found)}'
        elif self.scope == 'mmseg':
            labels = truth.gt_sem_seg.data[0].numpy().astype(np.uint8)
            labels = cv2.resize(  # those of validation are not resized
                labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST
            )
            picture = draw_label_map(self.visualizer, image, labels)
        else:
            picture = enlarge(image, enlargement(image))
            text = f'{labelled(truth, self.names)}, {text}'
        return add_title(self.visualizer, picture, text)


def striped(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Stripe the padding: the image (H, W, 3) beyond a shape (H', W')."""
    rows, columns = np.indices(image.shape[:2])
    stripes = (rows + columns) // STRIPE % 2
    padding = (rows >= shape[0]) | (columns >= shape[1])
    shades = np.where(stripes, 200, 120).astype(np.uint8)
    return np.where(padding[..., None], shades[..., None], image)


def objects(
    truth: BaseDataElement, names: tuple[str, ...], shape: tuple[int, int]
) -> InstanceData:
    """The N objects of a DetDataSample; ignored ones are called crowd.

    Returns:
        bboxes (N, 4), labels (N,), label_names, and masks, bool (N, *shape),
        if there are any.
    """
    parts = []
    for part, suffix in (
        ('gt_instances', ''),
        ('ignored_instances', ' crowd'),
    ):
        found = truth.get(part)
        if found is None:
            continue
        one = InstanceData(
            bboxes=getattr(found.bboxes, 'tensor', found.bboxes),
            labels=found.labels,
            label_names=[names[i] + suffix for i in found.labels.tolist()],
        )
        if 'masks' in found:
            masks = found.masks.pad(shape)
            one.masks = masks.to_tensor(torch.bool, 'cpu')
        parts.append(one)
    return InstanceData.cat(parts)


def resize_objects(truth: BaseDataElement) -> None:
    """Resize boxes and masks of a DetDataSample to the size of its image."""
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
    """The label of a classifier's image in words.

    Args:
        label: a class, or the share of each class (C,) in a mixed image; the
            two largest are named.
        names: of the classes; empty if they are not known.
    """
    if not label.ndim:
        return names[int(label)] if names else f'class {int(label)}'
    shares, labels = label.topk(min(2, len(label)))
    return ' + '.join(
        f'{share:.0%} {names[i] if names else i}'
        for share, i in zip(shares.tolist(), labels.tolist(), strict=True)
        if share
    )
