"""Check that image files exist and can be read."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

import cv2
import mmcv
from mmengine.fileio import get
from PIL import Image

ORIENTATION = 0x112  # the EXIF tag
UNREADABLE = (  # what Pillow raises
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
)
NO_IMAGE = 'is no image, or is cut short'


def problem(path: str) -> str | None:
    """Why a file cannot be read as an image, or None."""
    try:
        content = get(path)
    except OSError as error:
        return f'cannot be read: {error.strerror or error}'
    if not content:
        return 'is empty'
    try:
        image = mmcv.imfrombytes(content, flag='unchanged')
    except cv2.error:
        return NO_IMAGE
    return NO_IMAGE if image is None else None


def orientation(path: str) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 is upright."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(ORIENTATION, 1)
    except UNREADABLE:
        return 1


def of_size(path: str | None) -> str:
    """' of WxH pixels' for a message; '' if the size cannot be read."""
    try:
        with Image.open(path) as image:
            return f' of {by(image.size[::-1])} pixels'
    except (AttributeError, *UNREADABLE):
        return ''


def too_deep(path: str) -> str | None:
    """Why a label map would lose labels when it is read, or None."""
    try:
        with Image.open(path) as image:
            mode = image.mode
    except UNREADABLE:
        return None
    if not mode.startswith(('I', 'F')):
        return None
    return (
        f'{path} has more than 8 bits per pixel; mmseg reads only the last 8'
    )


def by(size: Sequence[int]) -> str:
    """(H, W, ...) -> 'WxHx...', as people write it."""
    height, width, *rest = size
    return 'x'.join(map(str, (width, height, *rest)))


def missing(paths: Iterable[str]) -> list[str]:
    """The paths that do not exist; addresses (s3://...) are not checked."""
    folders = defaultdict(list)
    for path in paths:
        if '://' not in path:
            folders[os.path.dirname(path)].append(path)
    found = []
    for folder, wanted in folders.items():
        try:
            there = set(os.listdir(folder or '.'))
        except OSError:
            there = set()
        found += [p for p in wanted if os.path.basename(p) not in there]
    return found
