"""Paper and ink: images that can be written on."""

import colorsys
import math

import cv2
import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

SMALLEST = 480  # pixels of the longer side of a picture
FONT = ImageFont.truetype(findfont('DejaVu Sans'), 14)
ROW = 20  # pixels from one line of text to the next
GAP = 6
PAPER = {'mode': 'constant', 'constant_values': 255}
Colour = tuple[int, int, int]


def colours_of(count: int, palette: object = None) -> list[Colour]:
    """A colour per class, RGB: the palette's, or hues far from each other."""
    if isinstance(palette, list | tuple) and len(palette) >= count:
        return [tuple(map(int, colour)) for colour in palette[:count]]
    turn = (math.sqrt(5) - 1) / 2
    hues = (colorsys.hsv_to_rgb(i * turn % 1, 0.9, 0.85) for i in range(count))
    return [tuple(int(255 * part) for part in hue) for hue in hues]


def as_colour(image: np.ndarray) -> np.ndarray:
    """Any image (H, W) or (H, W, C) as uint8 (H, W, 3)"""
    image = image if image.ndim == 3 else image[..., None]
    image = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = (image - low) * (255 / max(high - low, 1e-6))
    return np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8)


def enlarged(image: np.ndarray) -> tuple[np.ndarray, int]:
    """The image (H, W, 3), large enough to write on, and by how much."""
    factor = max(1, math.ceil(SMALLEST / max(image.shape[:2])))
    return magnify(image, factor, cv2.INTER_CUBIC), factor


def magnify(array: np.ndarray, factor: int, how: int) -> np.ndarray:
    """Each pixel as factor x factor pixels."""
    return cv2.resize(array, None, fx=factor, fy=factor, interpolation=how)


def width_of(text: str) -> int:
    """Pixels of a line of text."""
    return math.ceil(FONT.getlength(text))


def with_title(image: np.ndarray, text: str) -> np.ndarray:
    """The image BGR (H, W, 3) with a line of text below it."""
    room = max(0, width_of(text) + 2 * GAP - image.shape[1])
    image = np.pad(image, ((0, ROW), (0, room), (0, 0)), **PAPER)
    picture = to_pillow(image)
    place = (GAP, len(image) - ROW // 2)
    ImageDraw.Draw(picture).text(place, text, 'black', FONT, anchor='lm')
    return from_pillow(picture)


def to_pillow(image: np.ndarray) -> Image.Image:
    """BGR (H, W, 3) -> a picture of Pillow."""
    return Image.fromarray(np.ascontiguousarray(image[..., ::-1]))


def from_pillow(picture: Image.Image) -> np.ndarray:
    """A picture of Pillow -> BGR (H, W, 3)"""
    return np.array(picture)[..., ::-1]
