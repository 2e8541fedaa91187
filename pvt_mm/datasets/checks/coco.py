"""Find errors in an annotation file of COCO's format.

docs/data_check.md has a row for each case: what mmdet 3.3 and pycocotools do
with it, and the message.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .masks import check_mask
from .report import Finding, Use, error, name, note

LISTS = ('images', 'annotations', 'categories')
NEEDED = {
    'images': {'id', 'file_name', 'height', 'width'},
    'annotations': {'id', 'image_id', 'category_id', 'bbox', 'area'},
    'categories': {'id', 'name'},
}
# A key that only another task's annotations have, and that task.
OTHERS = {'segments_info': 'panoptic segmentation', 'caption': 'captions'}


def check_coco(content: Any, use: Use) -> Iterator[Finding]:
    """Findings on the content of an annotation file.

    Args:
        content: what the JSON file holds.
        use: what the run does with the file.
    """
    found = list(check_form(content, use))
    yield from found
    if any(finding.error for finding in found):
        return  # what follows reads these keys
    yield from check_ids(content, use)
    yield from check_categories(content['categories'], use)
    images = {image['id']: image for image in content['images']}
    ids = {c['id'] for c in content['categories'] if c['name'] in use.classes}
    used = [
        a
        for a in content['annotations']
        if a['category_id'] in ids and a['image_id'] in images
    ]
    if not used:
        yield error(
            'no objects', f'{use.path} has no annotation of any class of use'
        )
    yield from check_boxes(used, images, use)
    if use.masks:
        for a in used:
            yield from check_mask(a, images[a['image_id']], use)


def check_form(content: Any, use: Use) -> Iterator[Finding]:
    """Findings on missing lists and keys, and on sizes of images."""
    lists = content if isinstance(content, Mapping) else {}
    absent = [k for k in LISTS if not isinstance(lists.get(k), list)]
    if absent:
        text = f'{use.path} has no list of {" and of ".join(absent)}'
        yield error('lists', f'{text}: is it of another task?')
        return
    first = next(iter(content['annotations']), None)
    for key, task in OTHERS.items():
        if isinstance(first, Mapping) and key in first:
            yield error(
                'task',
                f'{use.path} is an annotation file for {task}: give one of '
                'object detection (COCO: instances_*.json)',
            )
            return
    for part in LISTS:
        needed = NEEDED[part]
        if use.scored and part == 'annotations':
            needed = needed | {'iscrowd'}  # pycocotools asks for it
        for place, entry in enumerate(content[part]):
            if not isinstance(entry, Mapping) or not needed <= entry.keys():
                keys = needed - set(entry or ())
                yield error(
                    f'{part} without keys that are needed',
                    f'{use.path}: {part}[{place}] has no '
                    + ' and no '.join(sorted(keys)),
                )
    for image in content['images']:
        size = [image.get('height', 1), image.get('width', 1)]
        if not all(isinstance(n, int) and n > 0 for n in size):
            yield error(
                'image sizes',
                f'{use.path}: image {image.get("id")} has height {size[0]} '
                f'and width {size[1]}',
            )


def check_ids(content: Mapping, use: Use) -> Iterator[Finding]:
    """Findings on ids that occur twice, and references to absent ids."""
    for part in LISTS:
        for number in repeated(entry['id'] for entry in content[part]):
            yield error(
                f'{part} with the same id',
                f'{use.path}: {part} have the id {number} more than once',
            )
    images = {image['id'] for image in content['images']}
    classes = {category['id'] for category in content['categories']}
    for a in content['annotations']:
        for key, known in (('image_id', images), ('category_id', classes)):
            if a[key] not in known:
                yield note(
                    f'annotations with an unknown {key}',
                    f'{use.path}: annotation {a["id"]} has the {key} '
                    f'{a[key]}, which the file does not describe; it is '
                    'left out',
                )


def check_categories(categories: list, use: Use) -> Iterator[Finding]:
    """Findings on class names: missing, repeated or in another order."""
    names = [c['name'] for c in categories if c['name'] in use.classes]
    absent = [name for name in use.classes if name not in names]
    if absent:
        some = ', '.join(absent[:5]) + (', ...' if absent[5:] else '')
        yield error(
            'classes',
            f'{use.path} has no category named {some} ({len(absent)} of '
            f'{len(use.classes)} classes), and mmdet would give the others '
            'wrong labels: compare metainfo.classes with the names in the '
            'annotation file',
        )
    twice = repeated(names)
    for same in twice:
        yield error(
            'names', f'{use.path}: two categories have the name {same}'
        )
    if not absent and not twice and names != list(use.classes):
        yield error(
            'order',
            f'{use.path} has its categories in another order than '
            "metainfo.classes: mmdet's labels follow the file, so they would "
            'get wrong names; bring both into the same order',
        )


def check_boxes(
    annotations: list, images: Mapping, use: Use
) -> Iterator[Finding]:
    """Findings on boxes that are no boxes, or do not fit their image.

    Args:
        annotations: with a bbox (x, y, width, height) in pixels each.
        images: id -> entry of the list of images.
        use: what the run does with the file.
    """
    boxes = np.array([])
    with contextlib.suppress(ValueError):  # of boxes of several lengths
        boxes = np.array([a['bbox'] for a in annotations])
    fine = annotations
    if (
        boxes.shape[1:] != (4,)
        or boxes.dtype.kind not in 'if'
        or not np.isfinite(boxes).all()
    ):
        fine = [a for a in annotations if is_box(a['bbox'])]
        boxes = np.array([a['bbox'] for a in fine])
        for a in annotations:
            if not is_box(a['bbox']):
                yield error(
                    'boxes that are not four finite numbers',
                    f'{use.path}: {name(a)} has the bbox {a["bbox"]}, which '
                    'is not four finite numbers',
                )
    if not fine:
        return
    sizes = [images[a['image_id']] for a in fine]
    limits = np.array([(s['width'], s['height']) for s in sizes])
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    flat = (boxes[:, 2:] < 1).any(1)
    outside = ~flat & ((high <= 0) | (low >= limits)).any(1)
    beyond = ~flat & ~outside & ((low < -1) | (high > limits + 1)).any(1)
    lost = (
        'an object that nothing can find'
        if use.scored
        else 'it is left out of training'
    )
    for where, kind, end in (
        (flat, 'boxes without area', f'has no area; {lost}'),
        (outside, 'boxes outside their image', f'is outside; {lost}'),
        (beyond, 'boxes that reach beyond', 'reaches beyond; it is cut'),
    ):
        for place in np.flatnonzero(where):
            a, (width, height) = fine[place], limits[place]
            yield note(
                kind,
                f'{use.path}: {name(a)} of {width}x{height} pixels has the '
                f'bbox {a["bbox"]}, which {end}',
            )


def is_box(box: Any) -> bool:
    """Whether a value is four finite numbers."""
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(v, int | float) and math.isfinite(v) for v in box)
    )


def repeated(values: Iterable) -> list:
    """The values that occur more than once."""
    return [value for value, n in Counter(values).items() if n > 1]
