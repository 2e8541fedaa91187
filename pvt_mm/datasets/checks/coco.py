"""Find errors in an annotation file of COCO's format.

docs/data_check.md has a row for each case: what mmdet 3.3 and pycocotools do
with it, and the message.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from msgspec import Raw

from .coco_format import (
    Annotation,
    Category,
    Content,
    RunLengths,
    read_mask,
    say,
)
from .report import FEW, SHARE, Finding, Use, counted, error, some, warning

CORNERS = 6  # numbers of a triangle
SHORT = 'polygons of less than three points'
LOOKED = 1000  # objects whose polygons are compared with their boxes
FIT, MANY = 0.5, 0.5  # more than this share has a smaller IoU: they differ
IGNORED = 'ignored objects'
CORNERS_IF = 0.25  # boxes look like corners if this share reaches beyond


def check_coco(content: Content, use: Use) -> Iterator[Finding]:
    """Findings on the content of an annotation file, one of each kind.

    Args:
        content: what the file holds; its types are right.
        use: what the run does with the file.
    """
    use = use._replace(classes=dict.fromkeys(use.classes))  # found at once
    yield from check_ids(content, use)
    yield from check_categories(content['categories'], use)
    images = {image.id: image for image in content['images']}
    ids = {c.id for c in content['categories'] if c.name in use.classes}
    used = [
        a
        for a in content['annotations']
        if a.category_id in ids and a.image_id in images
    ]
    if not used:
        yield error(
            'no objects',
            f'{use.path} has no annotation of any class of use, in an '
            'image that it lists',
        )
        return
    yield from check_boxes(used, images, use)
    yield from check_repeated(used, use)
    objects = [a for a in used if not a.iscrowd]
    if not objects:
        text = f'all {len(used):,} objects are crowd: {nothing_left(use)}'
        yield error('crowd', f'{use.path}: {text}')
    yield from check_ignored(objects, use)
    if use.scored:
        yield from check_scored_ids(objects, use)
    if use.masks:
        wrong = some(check_masks(used, images, use))
        yield from wrong or compare_with_boxes(objects[:LOOKED], use)


def nothing_left(use: Use) -> str:
    """What a run cannot do without objects."""
    return f'nothing is left to {"score" if use.scored else "learn from"}'


def check_ids(content: Content, use: Use) -> Iterator[Finding]:
    """Findings on ids that occur twice, and references to absent ids."""
    for part, entries in content.items():
        if twice := repeated([entry.id for entry in entries]):
            more = f' ({counted(len(twice), "id")} like this)'
            yield error(
                f'{part} with the same id',
                f'{use.path}: {part} have the id {twice[0]} more than once'
                + (more if twice[1:] else ''),
            )
        if len({isinstance(entry.id, str) for entry in entries}) > 1:
            yield error(
                'ids of two types',
                f'{use.path}: some {part} have a number as id and some a '
                'text, which pycocotools cannot sort: write numbers',
            )
    names = {image.id: image.file_name for image in content['images']}
    if twice := repeated(list(names.values())):
        same = [i for i, name in names.items() if name == twice[0]]
        yield warning(
            'images that are listed twice',
            f'{use.path}: {twice[0]} is listed under the ids '
            f'{" and ".join(map(str, same))} ({counted(len(twice), "file")} '
            'like this): each is an image of its own for training and score',
        )
    for key, part in (
        ('image_id', content['images']),
        ('category_id', content['categories']),
    ):
        known = {entry.id for entry in part}
        first = values([entry.id for entry in part])
        yield from some(
            warning(
                f'annotations with an unknown {key}',
                f'{use.path}: annotation {a.id} has the {key} '
                f'{getattr(a, key)!r}, which the file does not describe (it '
                f'has {first}); it is left out',
            )
            for a in content['annotations']
            if getattr(a, key) not in known
        )


def check_repeated(used: list[Annotation], use: Use) -> Iterator[Finding]:
    """Findings on objects that are listed more than once."""
    seen = Counter((a.image_id, a.category_id, a.bbox) for a in used)
    more = len(used) - len(seen)
    if more > SHARE * len(used):
        (image, _, box), n = seen.most_common(1)[0]
        yield warning(
            'objects that are listed twice',
            f'{use.path}: {more:,} of {len(used):,} objects have the class '
            f'and box of another one of their image, for example {n} of image '
            f'{image} with the bbox {list(box)}',
        )


def check_ignored(objects: list[Annotation], use: Use) -> Iterator[Finding]:
    """Findings on objects with the key ``ignore``, which mmdet leaves out."""
    ignored = [a for a in objects if a.ignore]
    every = len(ignored) == len(objects) and not use.scored
    end = nothing_left(use) if every else 'nothing learns from them'
    if use.scored:
        end = 'pycocotools scores them all the same'
    if ignored:
        yield Finding(
            IGNORED,
            every,
            f'{use.path}: mmdet leaves out {len(ignored):,} of '
            f'{len(objects):,} objects, whose key ignore is true, for example '
            f'{ignored[0]}: {end}',
        )


def check_scored_ids(objects: list[Annotation], use: Use) -> Iterator[Finding]:
    """Findings on ids that pycocotools stores as numbers, 0 for no match."""
    wrong = [a for a in objects if isinstance(a.id, str) or not a.id]
    if wrong:
        kind = 'a text' if isinstance(wrong[0].id, str) else '0'
        yield error(
            'annotation ids',
            f'{use.path}: the id of an annotation of image '
            f'{wrong[0].image_id} is {kind}, and pycocotools would count its '
            'object as missed, or stop: number the annotations from 1',
        )


def check_categories(
    categories: list[Category], use: Use
) -> Iterator[Finding]:
    """Findings on class names: missing, repeated or in another order."""
    names = [c.name for c in categories if c.name in use.classes]
    there = set(names)
    absent = [name for name in use.classes if name not in there]
    if absent:
        some = ', '.join(absent[:5]) + (', ...' if absent[5:] else '')
        yield error(
            'classes',
            f'{use.path} has no category named {some} ({len(absent)} of '
            f'{len(use.classes)} classes), and mmdet would give the others '
            'wrong labels: compare metainfo.classes with the names in the '
            f'annotation file: {values([c.name for c in categories])}',
        )
    twice = repeated(names)
    for same in twice:
        ids = ' and '.join(str(c.id) for c in categories if c.name == same)
        yield error(
            'names',
            f'{use.path}: two categories have the name {same} (ids {ids}): '
            'remove the one that no annotation has, or rename one',
        )
    if not absent and not twice and names != list(use.classes):
        yield error(
            'order',
            f'{use.path} has its categories in another order than '
            "metainfo.classes: mmdet's labels follow the file, so they would "
            'get wrong names; bring both into the same order',
        )


def check_boxes(
    objects: list[Annotation], images: dict, use: Use
) -> Iterator[Finding]:
    """Findings on boxes that do not fit their image.

    Args:
        objects: at least one.
        images: id -> entry of the list of images.
        use: what the run does with the file.
    """
    boxes = np.array([a.bbox for a in objects])
    entries = [images[a.image_id] for a in objects]
    limits = np.array([(entry.width, entry.height) for entry in entries])
    low, size, high = boxes[:, :2], boxes[:, 2:], boxes[:, :2] + boxes[:, 2:]
    flat = (size < 1).any(1) | (np.array([a.area for a in objects]) <= 0)
    outside = ~flat & ((high <= 0) | (low >= limits)).any(1)
    beyond = ~flat & ~outside & ((low < -1) | (high > limits + 1)).any(1)
    lost = (
        'pycocotools scores them, and nothing can find them'
        if use.scored
        else 'they are left out of training'
    )
    if (flat | outside).all():
        looks = (
            ': they look like fractions of the image, and COCO wants pixels'
            if (boxes <= 1).all()
            else ''
        )
        yield error(
            'boxes',
            f'{use.path}: no box has an area of a pixel inside its image, so '
            f'{nothing_left(use)}{looks}; for example {objects[0]} has the '
            f'bbox {list(objects[0].bbox)} and the area {objects[0].area:g}',
        )
        return
    cut = 'training cuts them'
    corners = (size > low) & (size <= limits + 1)
    if beyond.mean() > CORNERS_IF and corners.all():
        cut = 'all look like two corners, and COCO wants x, y, width, height'
    for where, what, end in (
        (flat, 'have no area', lost),
        (outside, 'are outside their image', lost),
        (beyond, 'reach beyond their image', cut),
    ):
        if where.any():
            a, limit = objects[where.argmax()], limits[where.argmax()]
            yield warning(
                f'boxes that {what}',
                f'{use.path}: {where.sum():,} of {len(boxes):,} boxes {what}; '
                f'{end}; for example {a} of {limit[0]}x{limit[1]} pixels has '
                f'the bbox {list(a.bbox)} and the area {a.area:g}',
            )


def check_masks(
    objects: list[Annotation], images: dict, use: Use
) -> Iterator[Finding]:
    """Findings on segmentations, one for each that is wrong.

    Args:
        objects: whose segmentations are read.
        images: id -> entry of the list of images.
        use: what the run does with the file.
    """
    lost = (
        'pycocotools cannot evaluate it'
        if use.scored
        else 'it is left out of training'
    )
    for a in objects:
        image = images[a.image_id]
        kind, text = wrong_mask(a.segmentation, (image.height, image.width))
        if kind == SHORT:
            text = f'{use.path}: {a} {text}; {lost}'
            yield Finding(kind, use.scored, text)
        elif kind:
            yield error(kind, f'{use.path}: {a} {text}')


def compare_with_boxes(
    objects: list[Annotation], use: Use
) -> Iterator[Finding]:
    """Findings on polygons that are elsewhere than their boxes.

    Args:
        objects: whose segmentations have no other error.
        use: what the run does with the file.
    """
    masks = {str(a): (read_mask(a.segmentation), a.bbox) for a in objects}
    fits = {
        name: box_iou(mask, box)
        for name, (mask, box) in masks.items()
        if isinstance(mask, list)
    }
    apart = [name for name, fit in fits.items() if fit < FIT]
    if len(apart) > MANY * len(fits):
        yield Finding(
            'polygons that do not fit their boxes',
            not any(fits.values()),
            f'{use.path}: the polygons of {len(apart):,} of {len(fits):,} '
            f'objects do not fit their bbox, for example of {apart[0]}: a '
            'polygon is x1, y1, x2, y2, ... and a bbox x, y, width, height, '
            'all in pixels',
        )


def box_iou(polygons: list[list[float]], bbox: Sequence[float]) -> float:
    """IoU of the box around polygons and a bbox, 0 to 1."""
    points = np.array([n for each in polygons for n in each]).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    start, size = np.split(np.array(bbox), 2)
    both = np.minimum(high, start + size) - np.maximum(low, start)
    both = both.clip(0).prod()
    return both / max(1, (high - low).prod() + size.prod() - both)


def wrong_mask(text: Raw, size: tuple[int, int]) -> tuple[str, str]:
    """What is wrong with a segmentation: its kind, and half a sentence.

    Args:
        text: as it stands in the file; empty if the object has none.
        size: (height, width) of its image.
    """
    try:
        mask = text and read_mask(text)
    except msgspec.ValidationError as wrong:
        return 'segmentations of no known form', (
            'has a segmentation that is not a list of polygons or an object '
            f'with size and counts: {say(wrong, json.loads(bytes(text)))}'
        )
    if not mask:
        kind = 'annotations without segmentation'
        return kind, 'has no segmentation, which this model learns from'
    if isinstance(mask, RunLengths):
        runs = mask.counts if isinstance(mask.counts, list) else None
        said = ''
        if mask.size != size:
            said = f'has run lengths of size {mask.size}, not {size}'
        elif runs is not None and sum(runs) != size[0] * size[1]:
            said = (
                f'has run lengths of {sum(runs)} pixels in all, not of {size}'
            )
        return said and 'wrong run lengths', said
    for polygon in mask:
        if len(polygon) < CORNERS or len(polygon) % 2:
            return SHORT, f'has a polygon of {len(polygon) / 2:g} points'
    return '', ''


def values(given: list) -> str:
    """The first of some values, with the quotes of texts, for a message."""
    more = ', ...' if given[FEW:] else ''
    return ', '.join(map(repr, given[:FEW])) + more if given else 'none'


def repeated(given: list) -> list:
    """The values that occur more than once."""
    if len(set(given)) == len(given):
        return []
    return [value for value, n in Counter(given).items() if n > 1]
