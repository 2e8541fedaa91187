"""Check that image files exist and can be read."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from os.path import basename, dirname, join, normpath, splitext
from unicodedata import normalize
from urllib.parse import unquote

import cv2
import mmcv
from mmengine.fileio import get
from PIL import Image

from ...compat import PIXELS
from ...config.data_files import other_kind

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
    except (OSError, ValueError) as error:  # or a name with a NUL
        return f'cannot be read: {getattr(error, "strerror", "") or error}'
    if what := other_kind(content):
        return what
    try:
        image = mmcv.imfrombytes(content, flag='unchanged')
    except cv2.error:
        return NO_IMAGE
    except Image.DecompressionBombError:
        return f'has too many pixels: {PIXELS} in the environment allows more'
    return NO_IMAGE if image is None else None


def header(path: str | None) -> tuple[int, tuple[int, int] | None, str]:
    """The EXIF orientation of an image, 1 is upright, its (H, W) and mode.

    1, None and '' of what cannot be read.
    """
    try:
        with Image.open(path) as image:
            exif = image.getexif().get(ORIENTATION, 1)
            return exif, image.size[::-1], image.mode
    except (AttributeError, *UNREADABLE):
        return 1, None, ''


def of_size(path: str | None) -> str:
    """' of WxH pixels' for a message; '' if the size cannot be read."""
    size = header(path)[1]
    return f' of {by(size)} pixels' if size else ''


def by(size: Sequence[int]) -> str:
    """(H, W, ...) -> 'WxHx...', as people write it."""
    height, width, *rest = size
    return 'x'.join(map(str, (width, height, *rest)))


# What may differ between a name and the file that it means -> a form in
# which both are the same.
FORMS: dict[str, Callable[[str], str]] = {
    'have back-slashes': lambda name: normpath(name.replace('\\', '/')),
    'have blanks at an end': str.strip,
    'are written as in a URL': unquote,
    'have accents in another Unicode form': partial(normalize, 'NFC'),
    'differ in upper and lower case': str.casefold,
    'have another suffix': lambda name: splitext(name)[0],
    'have other folders': basename,
}


def absent(names: Iterable[str], folder: str) -> tuple[list[str], list[str]]:
    """The names of files that do not exist, and sentences that say why.

    Args:
        names: below the folder, or absolute.
        folder: where they should be; of an address (s3://...) nothing is
            checked. It is listed once, as is each other folder of a name.
    """
    names = [] if '://' in folder else list(names)
    there = {
        parent: listed(join(folder, parent))
        for parent in set(map(dirname, names))
    }
    gone = [
        name for name in names if basename(name) not in there[dirname(name)]
    ]
    if not gone:
        return [], []
    known: dict[str, str] = {}
    for parent in ('', *there, *listed(folder)):
        for file in listed(join(folder, parent)):
            known.setdefault(key_of(file), join(parent, file))
    reasons = defaultdict(list)
    for name in gone:
        similar = known.get(key_of(name), '')
        reasons[reason(name, similar)].append((name, similar))
    said = [f'{join(folder, n)} is not there' for n, _ in reasons.pop('', ())]
    for why, pairs in reasons.items():
        name, similar = pairs[0]
        has = f'; the folder has {similar}' if similar else ''
        said.append(
            f'{len(pairs):,} of {len(names):,} files are not in {folder}: '
            f'their names {why}, for example {name}{has}'
        )
    return gone, said


def listed(folder: str) -> set[str]:
    """The names in a folder; none if it cannot be read."""
    try:
        return set(os.listdir(folder or '.'))
    except (OSError, ValueError):  # or a name with a NUL
        return set()


def key_of(name: str) -> str:
    """What names of the same file have in common, however they differ."""
    for form in FORMS.values():
        name = form(name)
    return name.strip()


def reason(name: str, similar: str) -> str:
    """How a name differs from the file that it means; '' if that is unknown.

    Args:
        name: as it is written.
        similar: a file with the same :func:`key_of`; '' if there is none.
    """
    if '://' in name:
        return 'are URLs'
    for number in range(1, len(FORMS) + 1) if similar else ():
        for ways in combinations(FORMS, number):
            forms = [name, similar]
            for way in ways:
                forms = [FORMS[way](form) for form in forms]
            if forms[0] == forms[1]:
                return ' and '.join(ways)
    return ''
