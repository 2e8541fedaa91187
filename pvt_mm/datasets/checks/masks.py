"""Find errors in COCO's segmentations: polygons and run lengths."""

from collections.abc import Iterator, Mapping
from typing import Any

from .report import Finding, Use, error, name

CORNERS = 6  # numbers of a triangle
FORM = 'a list of polygons or a dict of size and counts'


def check_mask(
    annotation: Mapping, image: Mapping, use: Use
) -> Iterator[Finding]:
    """Findings on the segmentation of one annotation.

    Args:
        annotation: an entry of the list of annotations.
        image: the entry of its image; height and width are read.
        use: what the run does with the file.
    """
    what = f'{use.path}: {name(annotation)}'
    mask = annotation.get('segmentation')
    if not mask:
        text = f'{what} has no segmentation, which this model learns from'
        yield error('annotations without segmentation', text)
    elif isinstance(mask, Mapping):
        size = [image['height'], image['width']]
        if text := wrong_run_lengths(mask, size):
            yield error('wrong run lengths', f'{what} {text}')
    elif not isinstance(mask, list) or not all(map(is_numbers, mask)):
        text = f'{what} has a segmentation that is not {FORM}'
        yield error('segmentations of no known form', text)
    elif short := [p for p in mask if len(p) < CORNERS or len(p) % 2]:
        text = f'{what} has a polygon of {len(short[0]) / 2:g} points; ' + (
            'pycocotools cannot evaluate it'
            if use.scored
            else 'it is left out of training'
        )
        yield Finding('polygons of less than three points', use.scored, text)


def wrong_run_lengths(mask: Mapping, size: list) -> str | None:
    """What is wrong with run lengths for an image of (height, width)."""
    counts = mask.get('counts')
    if not isinstance(counts, list | str) or 'size' not in mask:
        return f'has a segmentation that is not {FORM}'
    if list(mask['size']) != size:
        return f'has run lengths of size {mask["size"]}, not {size}'
    if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
        return f'has run lengths of {sum(counts)} pixels in all, not of {size}'
    return None


def is_numbers(polygon: Any) -> bool:
    """Whether a value is a list of numbers; only its first is looked at."""
    return isinstance(polygon, list) and all(
        isinstance(v, int | float) for v in polygon[:1]
    )
