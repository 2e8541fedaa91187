"""Results in the formats of COCO, which pycocotools reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config.data_files import read_json
from ..errors import UsageError
from .results import Result
from .sources import Item


class Ids:
    """The ids of images and classes in JSON.

    Args:
        names: of the classes, in the order of the model.
        annotations: COCO's annotation file that has the numbers; without
            it, images are counted from 1 and so are classes.

    Raises:
        UsageError: the file does not know one of the classes.
    """

    def __init__(
        self, names: Sequence[str], annotations: str | None = None
    ) -> None:
        self.file, self.images = annotations, None
        self.classes = list(range(1, len(names) + 1))
        if annotations is None:
            return
        content = read_json(annotations)
        try:
            self.images = {i['file_name']: i['id'] for i in content['images']}
            ids = {c['name']: c['id'] for c in content['categories']}
        except (KeyError, TypeError) as error:
            raise UsageError(
                f'{annotations} is no annotation file of COCO: it has no '
                f'{error}'
            ) from error
        missing = [name for name in names if name not in ids]
        if missing:
            raise UsageError(
                f'{annotations} has no category {missing[0]!r}, a class of '
                'this model: give the file of its data set'
            )
        self.classes = [ids[name] for name in names]

    def image(self, item: Item) -> int:
        """The number of an image.

        Raises:
            UsageError: the annotation file has no such image.
        """
        if self.images is None:
            return item.number
        for name in (item.name, Path(item.name).name):
            if name in self.images:
                return self.images[name]
        raise UsageError(
            f'{self.file} has no image {item.name}: leave --annotations out, '
            'or give the file of these images'
        )


def describe(result: Result, number: int) -> dict[str, Any]:
    """The entry of an image in COCO's list; frames have a frame_id from 0."""
    height, width = result.image.shape[:2]
    entry = {
        'id': number,
        'file_name': result.item.name,
        'height': height,
        'width': width,
    }
    if result.item.frame is not None:
        entry['frame_id'] = result.item.number - 1
    return entry


def objects(
    result: Result, entry: dict[str, Any], classes: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The entries of the objects of an image in COCO's list of results.

    Args:
        result: what was found in an image.
        entry: of the image, from :func:`describe`.
        classes: number of each class.
    """
    found = result.sample.pred_instances
    for place in range(len(found)):
        x1, y1, x2, y2 = (round(s, 2) for s in found.bboxes[place].tolist())
        one = {
            'image_id': entry['id'],
            'category_id': classes[int(found.labels[place])],
            'bbox': [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            'score': round(float(found.scores[place]), 4),
        }
        if 'frame_id' in entry:
            one['frame_id'] = entry['frame_id']
        if 'masks' in found:
            one['segmentation'] = encode_rle(found.masks[place].numpy())
        yield one


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """A bool mask (H, W) as COCO's compressed RLE, for JSON."""
    from pycocotools.mask import encode  # comes with mmdet, not with mmseg

    run = encode(np.asfortranarray(mask, np.uint8))
    return {'size': run['size'], 'counts': run['counts'].decode()}
