"""Objects and label maps over an image, with names that can be read.

Small images are enlarged, captions stay inside the picture, and each data
set gives pictures of one size for images of one size, as a video needs.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .canvas import (
    FONT,
    GAP,
    PAPER,
    ROW,
    Colour,
    as_colour,
    enlarged,
    from_pillow,
    magnify,
    to_pillow,
    width_of,
)

OPACITY = 0.5
ROWS = 12  # a legend has room for so many at least


class Thing(NamedTuple):
    """An object to paint.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the image.
        label: index of its class.
        caption: what is written beside it.
        mask: its pixels, bool (H, W), or None.
    """

    box: Sequence[float]
    label: int
    caption: str
    mask: np.ndarray | None = None


def paint_things(
    image: np.ndarray,
    things: Sequence[Thing],
    colours: Sequence[Colour],
    names: Sequence[str] = (),
) -> np.ndarray:
    """The image with masks, boxes and captions.

    Args:
        image: BGR (H, W, 3).
        things: the most important first: it gets the best place to write.
        colours: RGB, one per class.
        names: of all classes; the picture has room for a caption of each.

    Returns:
        BGR (H', W', 3), enlarged by a whole number if the image is small.
    """
    image, factor = enlarged(as_colour(image))
    for thing in things:
        if thing.mask is not None:
            image = paint_mask(image, thing, factor, colours[thing.label])
    texts = [f'{name} 0.00' for name in names]
    texts += [thing.caption for thing in things]
    widest = max(map(width_of, texts), default=0) + GAP
    room = max(0, widest - image.shape[1])
    picture = to_pillow(np.pad(image, ((0, 0), (0, room), (0, 0)), **PAPER))
    draw = ImageDraw.Draw(picture)
    boxes = [[side * factor for side in thing.box] for thing in things]
    for thing, box in reversed(list(zip(things, boxes, strict=True))):
        draw.rectangle(in_order(box), outline=colours[thing.label], width=2)
    taken: list[tuple] = []
    for thing, box in zip(things, boxes, strict=True):
        width = width_of(thing.caption)
        taken.append(free_place(box, width, picture.size, taken))
    for thing, place in reversed(list(zip(things, taken, strict=True))):
        write(draw, place, thing.caption, colours[thing.label])
    return from_pillow(picture)


def in_order(box: Sequence[float]) -> tuple[float, ...]:
    """The box, if it has no area too, as Pillow wants it."""
    x1, y1, x2, y2 = box
    return x1, y1, max(x1, x2), max(y1, y2)


def paint_mask(
    image: np.ndarray, thing: Thing, factor: int, colour: Colour
) -> np.ndarray:
    """The image with the mask of a thing over it, and its edge."""
    mask = magnify(thing.mask.astype(np.uint8), factor, cv2.INTER_NEAREST)
    ink = np.array(colour[::-1])
    image = image.copy()
    inside = mask.astype(bool)
    mixed = (1 - OPACITY) * image[inside] + OPACITY * ink
    image[inside] = mixed.astype(np.uint8)
    edges = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
    return cv2.drawContours(image, edges, -1, colour[::-1], 1)


def free_place(
    box: Sequence[float], width: int, size: tuple[int, int], taken: list
) -> tuple[int, int, int, int]:
    """Where to write: at the box, inside the picture, over no other text."""
    x1, y1, x2, y2 = map(round, box)
    width, height = width + GAP, ROW - 2
    right, low = size[0] - width, size[1] - height
    for x, y in product(
        (min(max(x1, 0), right), min(max(x2 - width, 0), right)),
        (y1 - height, y1, y2, y2 - height),
    ):
        place = (x, y, x + width, y + height)
        if 0 <= y <= low and not any(overlap(place, t) for t in taken):
            return place
    x, y = min(max(x1, 0), right), min(max(y1 - height, 0), low)
    return (x, y, x + width, y + height)


def overlap(a: tuple, b: tuple) -> bool:
    """Whether two boxes x1, y1, x2, y2 share pixels."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def write(draw, place: tuple, text: str, colour: Colour) -> None:
    """A line of text on a ground of the colour, in black or in white."""
    bright = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 140
    draw.rectangle(place, fill=colour)
    middle = (place[0] + GAP // 2, (place[1] + place[3]) // 2)
    ink = 'black' if bright else 'white'
    draw.text(middle, text, ink, FONT, anchor='lm')


def paint_labels(
    image: np.ndarray,
    labels: np.ndarray,
    colours: Sequence[Colour],
    names: Sequence[str],
) -> np.ndarray:
    """The image with a label map over it, and a legend on its right.

    Args:
        image: BGR (H, W, 3).
        labels: class of each pixel (H, W); what is no class stays as it is.
        colours: RGB, one per class.
        names: of all classes.

    Returns:
        BGR (H', W', 3), enlarged by a whole number if the image is small.
    """
    image, factor = enlarged(as_colour(image))
    known = labels < len(names)
    inks = np.array(colours, np.uint8)[:, ::-1]
    ink = inks[np.where(known, labels, 0)]
    ink = magnify(ink, factor, cv2.INTER_NEAREST)
    known = magnify(known.astype(np.uint8), factor, cv2.INTER_NEAREST)
    mixed = ((1 - OPACITY) * image + OPACITY * ink).astype(np.uint8)
    image = np.where(known[..., None].astype(bool), mixed, image)
    strip = legend(labels, colours, names, max(len(image), ROWS * ROW))
    room = len(strip) - len(image)
    image = np.pad(image, ((0, room), (0, 0), (0, 0)), **PAPER)
    return np.concatenate([image, strip], axis=1)


def legend(
    labels: np.ndarray,
    colours: Sequence[Colour],
    names: Sequence[str],
    height: int,
) -> np.ndarray:
    """The classes in a label map, the largest first: BGR (height, W, 3)"""
    counts = np.bincount(labels.ravel(), minlength=len(names))[: len(names)]
    order = [i for i in np.argsort(-counts, kind='stable') if counts[i]]
    widest = max(width_of(f'{name} 100.0 %') for name in names)
    strip = Image.new('RGB', (ROW + widest + 2 * GAP, height), 'white')
    draw = ImageDraw.Draw(strip)
    rows = height // ROW
    shown = order if len(order) <= rows else order[: rows - 1]
    for row, label in enumerate(shown):
        y = row * ROW + ROW // 2
        draw.rectangle((GAP, y - 7, GAP + 14, y + 7), fill=colours[label])
        share = counts[label] / labels.size
        text = f'{names[label]} {share:.1%}'.replace('%', ' %')
        draw.text((GAP + ROW, y), text, 'black', FONT, anchor='lm')
    if len(shown) < len(order):
        text = f'and {len(order) - len(shown)} more'
        y = (rows - 1) * ROW + ROW // 2
        draw.text((GAP + ROW, y), text, 'black', FONT, anchor='lm')
    return from_pillow(strip)
