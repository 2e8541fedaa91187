"""Check that an evaluator scores the images of its data set."""

import os
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from ...compat import scored_image, scores_by_id
from ...errors import UsageError
from .fault_tolerant_pipeline import inner
from .files import by

ANYWAY = '--no-sanity-check starts anyway'
FIRST = 32  # images of each data set that are compared


def check_scored_images(dataset: Any, metrics: Iterable[Any]) -> None:
    """Compare the images of a data set with those that a metric scores.

    Metrics of COCO's kind know an image by its id: with the file of another
    split no error would come, only a wrong score.

    Args:
        dataset: of an evaluation, as it was built.
        metrics: of its evaluator; others than those of COCO's kind pass.

    Raises:
        UsageError: an image is another one in the metric's file, or two data
            sets have images with the same id.
    """
    for metric in filter(scores_by_id, metrics):
        owners: dict[Any, str] = {}
        parts = list(inner(dataset))
        for part in parts:
            infos = map(part.get_data_info, range(len(part)))
            for place, info in enumerate(
                infos if parts[1:] else islice(infos, FIRST)
            ):
                if place < FIRST:
                    compare(info, metric)
                same = owners.setdefault(info['img_id'], info['img_path'])
                if same != info['img_path']:
                    raise UsageError(
                        f'{same} and {info["img_path"]} have the same id, '
                        f'{info["img_id"]}: {type(metric).__name__} would '
                        'score them as one image; write one annotation file '
                        f'for all, with an id for each image; {ANYWAY}'
                    )


def compare(info: Mapping, metric: Any) -> None:
    """Compare an image with the one of its id in the file of a metric.

    Args:
        info: of an image: img_id, img_path and, if it is known, its size.
        metric: of COCO's kind.

    Raises:
        UsageError: there is none, or it is another one.
    """
    known = scored_image(metric, info['img_id'])
    if known is None:
        return
    file = os.path.basename(known.get('file_name', ''))
    sizes = {
        (each.get('height'), each.get('width')) for each in (info, known)
    } - {(None, None)}
    if file == os.path.basename(info['img_path']) and len(sizes) < 2:
        return
    found = (
        f'{known["file_name"]} of {by((known["height"], known["width"]))} '
        'pixels under it'
        if known
        else 'no image of this id'
    )
    raise UsageError(
        f'{info["img_path"]} has the id {info["img_id"]}, but the ann_file of '
        f'{type(metric).__name__} has {found}: give the evaluator the '
        f'annotation file of its data set; {ANYWAY}'
    )
