"""Draw objects and label maps with mmdet's and mmseg's visualizers."""

import math
import textwrap
import warnings
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmengine.visualization import Visualizer

from ..datasets.checks.samples import kept_randomness
from ..datasets.fonts import use_font_for

# Default scope of a config -> the visualizer of its library.
TYPES = {
    'mmdet': 'mmdet.DetLocalVisualizer',
    'mmseg': 'mmseg.SegLocalVisualizer',
}
SMALLEST = 480  # pixels of the longer side of a picture
OPACITY = 0.5  # of label maps
LINE = 18  # pixels from one line of a title to the next
LETTER = 8  # pixels: width of a letter of a title


def build_visualizer(scope: str, metainfo: Mapping[str, Any]) -> Visualizer:
    """The visualizer of a library, for the classes of a data set.

    Args:
        scope: default_scope of a config.
        metainfo: of the data set, with classes and perhaps a palette (RGB);
            one that is shorter than the classes is replaced.
    """
    visualizer = VISUALIZERS.get(TYPES.get(scope, 'Visualizer'))()
    if scope == 'mmseg':
        visualizer.alpha = OPACITY
    names = [plain(name) for name in metainfo.get('classes') or ()]
    use_font_for(names)
    palette = metainfo.get('palette') or ()
    if len(palette) < len(names):
        rng = np.random.default_rng(0)
        palette = rng.integers(256, size=(len(names), 3)).tolist()
    palette = [tuple(colour) for colour in palette]
    visualizer.dataset_meta = dict(classes=names, palette=palette)
    return visualizer


def draw_objects(
    visualizer: Visualizer, image: np.ndarray, objects: InstanceData
) -> np.ndarray:
    """The image with boxes, masks, class names and scores.

    Args:
        visualizer: mmdet's, from :func:`build_visualizer`.
        image: (H, W) or (H, W, C), BGR if it has colours.
        objects: bboxes (N, 4) as x1, y1, x2, y2 in pixels and labels (N,);
            scores (N,), label_names and masks, bool (N, H, W), if known.

    Returns:
        BGR (kH, kW, 3); k is 1 but for a small image.
    """
    k = enlargement(image)
    objects = objects[objects.labels < len(visualizer.dataset_meta['classes'])]
    corner, far = objects.bboxes.split(2, dim=1)
    objects.bboxes = torch.cat([corner, far.maximum(corner)], 1) * k
    if 'masks' in objects:
        masks = objects.pop('masks')
        if masks.any():  # mmdet 3.3 fails on masks that are all empty
            masks = masks.repeat_interleave(k, 1).repeat_interleave(k, 2)
            objects.masks = masks
    with kept_randomness(), warnings.catch_warnings():
        np.random.seed(0)  # mmdet varies the colours of masks at random
        warnings.simplefilter('ignore')  # on boxes that reach outside
        visualizer.add_datasample(
            'objects',
            enlarge(to_rgb(image), k),
            BaseDataElement(gt_instances=objects),  # no second threshold
            draw_pred=False,
        )
    return visualizer.get_image()[..., ::-1]


def draw_label_map(
    visualizer: Visualizer, image: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """The image under a label map, with the names of the classes.

    Args:
        visualizer: mmseg's, from :func:`build_visualizer`.
        image: (H, W) or (H, W, C), BGR if it has colours.
        labels: class of each pixel (H, W); where it is no class (255), the
            image stays as it is.

    Returns:
        BGR (kH, kW, 3); k is 1 but for a small image.
    """
    k = enlargement(image)
    image = enlarge(to_rgb(image), k)
    labels = enlarge(labels.astype(np.int64), k)
    names = visualizer.dataset_meta['classes']
    truth = PixelData(data=torch.from_numpy(labels)[None])
    visualizer.add_datasample(
        'labels',
        image,
        BaseDataElement(gt_sem_seg=truth),
        draw_pred=False,
        with_labels=False,  # mmseg 1.2 sorts all pixels: 1 s an image
    )
    known = labels < len(names)
    if not known.all():
        drawn = visualizer.get_image()
        visualizer.set_image(np.where(known[..., None], drawn, image))
    for label in np.unique(labels[known]):
        visualizer.draw_texts(
            names[label],
            middle(labels == label),
            font_sizes=9,
            colors='white',
            vertical_alignments='center',
            horizontal_alignments='center',
            bboxes=dict(
                facecolor='black', alpha=0.8, pad=0.7, edgecolor='none'
            ),
        )
    return visualizer.get_image()[..., ::-1]


def middle(mask: np.ndarray) -> np.ndarray:
    """x, y of a pixel of a mask (H, W) that is far from its border."""
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L1, 3)
    points = np.argwhere(depth == depth.max())[:, ::-1] - 1
    return points[np.abs(points - points.mean(0)).sum(1).argmin()]


def add_title(
    visualizer: Visualizer, picture: np.ndarray, text: str
) -> np.ndarray:
    """Append wrapped text below a picture.

    Args:
        visualizer: any, from :func:`build_visualizer`.
        picture: BGR (H, W, 3).
        text: one paragraph.

    Returns:
        BGR (H + 18 per line, W', 3); W' is W, or wider to hold the text.
    """
    height, width = picture.shape[:2]
    right = max(0, SMALLEST // 2 - width)
    lines = textwrap.wrap(plain(text), (width + right) // LETTER)
    space = ((0, LINE * len(lines)), (0, right), (0, 0))
    padded = np.pad(picture, space, constant_values=255)
    visualizer.set_image(padded[..., ::-1])
    place = np.array([LETTER // 2, height + 2])
    visualizer.draw_texts('\n'.join(lines), place, 9, 'black')
    return visualizer.get_image()[..., ::-1]


def plain(text: str) -> str:
    """Escape `$`, which matplotlib reads as math."""
    return text.replace('$', r'\$')


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Any image, (H, W) or (H, W, C) with BGR first -> RGB uint8 (H, W, 3)"""
    image = image if image.ndim == 3 else image[..., None]
    image = image[..., 2::-1] if image.shape[2] >= 3 else image[..., :1]
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = (image - low) * (255 / max(high - low, 1e-6))
    return np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8)


def enlargement(image: np.ndarray) -> int:
    """Whole factor that brings the longer side to at least SMALLEST pixels."""
    return max(1, math.ceil(SMALLEST / max(image.shape[:2])))


def enlarge(array: np.ndarray, k: int) -> np.ndarray:
    """Each pixel as k x k pixels: (H, W, ...) -> (kH, kW, ...)"""
    return array.repeat(k, 0).repeat(k, 1)
