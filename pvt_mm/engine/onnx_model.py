"""Run an exported .onnx file in place of a model."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch.nn import functional as F

from ..datasets.checks.fault_tolerant_pipeline import inner
from ..errors import UsageError


@MODELS.register_module()
class OnnxModel(BaseModel):
    """A detector or segmentor in an .onnx file, for tests.

    Images of one size go together, others alone and without padding.

    Args:
        file: written by ``pvt_mm export``.

    Raises:
        UsageError: it is no such file, or onnxruntime is missing.
    """

    def __init__(self, file: str | os.PathLike) -> None:
        super().__init__()
        if find_spec('onnxruntime') is None:
            raise UsageError(f"{file} needs pip install 'pvt_mm[export]'")
        import onnxruntime

        self.file = file
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                str(file), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # of classes of its own, without a base
            reason = str(error).split('\n')[0]
            raise UsageError(f'{file} is no ONNX model: {reason}') from error
        self.names = [x.name for x in self.session.get_outputs()]
        if 'boxes' not in self.names and self.names != ['logits']:
            raise UsageError(
                f'{file} gives {", ".join(self.names)}: test takes boxes or '
                'logits'
            )
        self.about = self.session.get_modelmeta().custom_metadata_map

    def check_classes(self, dataset: Any) -> None:
        """Require the classes of a data set.

        Raises:
            UsageError: they are others, or in another order.
        """
        names = json.loads(self.about.get('classes', '[]'))
        for part in inner(dataset):
            wanted = list((part.metainfo or {}).get('classes') or ())
            if wanted != names:
                raise UsageError(
                    f'the file has the classes {", ".join(names)}; the data '
                    f'set has {", ".join(wanted)}'
                )

    def forward(self, inputs: Any, data_samples: Any, mode: str) -> Any:
        """What mmengine requires; the file is run by test_step."""
        raise NotImplementedError('an .onnx file is not trained')

    def test_step(self, data: Mapping[str, Any]) -> list[BaseDataElement]:
        """The samples of a data loader, with what was found in them."""
        images, samples = data['inputs'], data['data_samples']
        if len({x.shape for x in images}) > 1:
            pairs = zip(images, samples, strict=True)
            return [self.predict([x], [sample])[0] for x, sample in pairs]
        return self.predict(images, samples)

    def predict(
        self, images: Sequence[torch.Tensor], samples: Sequence[Any]
    ) -> list[BaseDataElement]:
        """The samples of a batch: images BGR (3, H, W) of one size.

        Raises:
            UsageError: they are too small for the file.
        """
        batch = np.stack([x.numpy() for x in images])
        least = json.loads(self.about.get('smallest', '[0, 0]'))
        if (batch.shape[2:] < np.array(least)).any():
            raise UsageError(
                f'{self.file} takes images from {least[0]} x {least[1]} '
                f'pixels on, not {batch.shape[2]} x {batch.shape[3]}: set a '
                "larger scale in the config's test_pipeline"
            )
        found = self.session.run(self.names, {'image': self.prepare(batch)})
        found = dict(zip(self.names, found, strict=True))
        fill = fill_objects if 'boxes' in found else fill_label_map
        for i, sample in enumerate(samples):
            fill(sample, {k: v[i] for k, v in found.items()}, self.about)
        return list(samples)

    def prepare(self, batch: np.ndarray) -> np.ndarray:
        """BGR, 0 to 255 (B, 3, H, W) -> what the file takes"""
        if self.session.get_inputs()[0].type == 'tensor(uint8)':
            return batch
        mean, std = (json.loads(self.about[key]) for key in ('mean', 'std'))
        return normalize(batch, mean, std, self.about['channels'])


def normalize(
    batch: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    channels: str,
) -> np.ndarray:
    """BGR, 0 to 255 (B, 3, H, W) -> float32, less mean, by std.

    Args:
        batch: images.
        mean: of each channel.
        std: of each channel.
        channels: their order, RGB or BGR.
    """
    batch = batch[:, ::-1] if channels == 'RGB' else batch
    mean, std = (
        np.array(values, np.float32)[:, None, None] for values in (mean, std)
    )
    return (batch.astype(np.float32) - mean) / std


def fill_objects(sample: Any, found: dict, about: Mapping[str, str]) -> None:
    """Put the objects of an image into its sample, in pixels of the file."""
    there = found['labels'] >= 0
    boxes, scores, labels = (
        found[key][there] for key in ('boxes', 'scores', 'labels')
    )
    boxes = boxes / np.tile(np.float32(sample.scale_factor), 2)
    objects = InstanceData(
        bboxes=torch.from_numpy(boxes),
        scores=torch.from_numpy(scores),
        labels=torch.from_numpy(labels),
    )
    if 'masks' in found:
        masks = paste(found['masks'][there], boxes, sample.ori_shape)
        limit = float(about['mask_threshold'])
        objects.masks = torch.from_numpy(masks >= limit)
    sample.pred_instances = objects


def fill_label_map(sample: Any, found: dict, _: Mapping[str, str]) -> None:
    """Put the class of each pixel into a sample, in pixels of the file."""
    logits = torch.from_numpy(found['logits'])[None]
    logits = F.interpolate(logits, sample.ori_shape[:2], mode='bilinear')
    sample.pred_sem_seg = PixelData(data=logits.argmax(1))


def paste(
    masks: np.ndarray, boxes: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """Masks (N, h, w) of boxes (N, 4) -> masks of the image (N, H, W)

    Bilinear, as mmdet pastes them: a pixel's centre lies between two cells'.

    Args:
        masks: how sure each cell of a box is.
        boxes: x1, y1, x2, y2 in pixels.
        shape: H and W of the image.
    """
    pasted = np.zeros((len(masks), *shape[:2]), np.float32)
    for whole, mask, (x1, y1, x2, y2) in zip(
        pasted, masks, boxes, strict=True
    ):
        rows = weights(whole.shape[0], y1, y2, mask.shape[0])
        columns = weights(whole.shape[1], x1, x2, mask.shape[1])
        whole[:] = rows @ mask @ columns.T
    return pasted


def weights(pixels: int, first: float, last: float, cells: int) -> np.ndarray:
    """Share of each of a box's cells in each pixel of a side."""
    place = (np.arange(pixels) + 0.5 - first) / (last - first) * cells - 0.5
    share = 1 - abs(place[:, None] - np.arange(cells))
    return np.maximum(share, 0).astype(np.float32)
