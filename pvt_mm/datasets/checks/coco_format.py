"""COCO's annotation format as types, and what a file has of other types."""

import json
import re
from collections import defaultdict
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
from msgspec import Meta, Raw, Struct

from ...config.data_files import read_json
from .report import Finding, error

Id = int | float | str  # a key of pycocotools' dicts
Pixels = Annotated[int, Meta(gt=0)]


class Image(Struct, gc=False):
    """An image."""

    id: Id
    file_name: str
    height: Pixels
    width: Pixels


class Annotation(Struct, kw_only=True, gc=False):
    """An object; its segmentation is read by :func:`read_mask`."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int | bool = 0
    segmentation: Raw = Raw(b'[]')  # noqa: RUF009, it cannot be changed

    def __str__(self) -> str:
        return f'annotation {self.id} of image {self.image_id}'


class ScoredAnnotation(Annotation, kw_only=True, gc=False):
    """An object that pycocotools scores: it asks for iscrowd."""

    iscrowd: int | bool


class Category(Struct):
    """A class."""

    id: Id
    name: str


class RunLengths(Struct):
    """A mask in run lengths, plain or compressed."""

    size: tuple[int, int]
    counts: list[int] | str


class Parts(Struct):
    """The lists of a file, not read yet."""

    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw]


class Content(NamedTuple):
    """The lists of a file, without the entries of other types."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class PlainAnnotation(TypedDict, total=False):
    """The keys of an object that mmdet and pycocotools read for boxes."""

    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    area: Any
    iscrowd: Any
    ignore: Any


class PlainImage(TypedDict, total=False):
    """The keys of an image that they read."""

    id: Any
    file_name: Any
    height: Any
    width: Any


class PlainContent(TypedDict):
    """A file as mmdet and pycocotools take it, without segmentations."""

    images: list[PlainImage]
    annotations: list[PlainAnnotation]
    categories: list[dict]


class MaskAnnotation(PlainAnnotation, total=False):
    """The keys of an object that they read for masks."""

    segmentation: Raw


class MaskContent(PlainContent):
    """A file as they take it; :func:`read_masks` reads its segmentations."""

    annotations: list[MaskAnnotation]


# A key that only another task's annotations have, and that task.
OTHERS = {'segments_info': 'panoptic segmentation', 'caption': 'captions'}
# msgspec's names of types in messages.
TYPES = {
    'array': 'a list',
    'object': 'an object with keys',
    'int': 'a whole number',
    'float': 'a number',
    'str': 'a text',
    'bool': 'true or false',
    'null': 'null',
}
read_mask = msgspec.json.Decoder(list[list[float]] | RunLengths).decode


def read_masks(sample: dict) -> dict:
    """A sample of mmdet whose masks are read: the first of its transforms."""
    for instance in sample['instances']:
        if isinstance(instance.get('mask'), Raw):
            instance['mask'] = msgspec.json.decode(instance['mask'])
    return sample


def read_coco(path: str, *, scored: bool) -> tuple[Content, list[Finding]]:
    """The content of an annotation file, and what is of another type.

    Args:
        path: the file.
        scored: whether it is for an evaluation, not for training.

    Raises:
        UsageError: it cannot be read, or is not JSON in UTF-8.
    """
    try:
        parts = read_json(path, Parts)
    except msgspec.ValidationError as wrong:
        absent = re.search('images|annotations|categories', str(wrong))
        text = f'{path} has no list of {absent[0] if absent else "images"}'
        return Content([], [], []), [
            error('lists', f'{text}: is it of another task?')
        ]
    kinds = (Image, ScoredAnnotation if scored else Annotation, Category)
    found: list[Finding] = []
    lists = []
    for part, kind in zip(Content._fields, kinds, strict=True):
        entries, wrong = read_entries(getattr(parts, part), kind)
        lists.append(entries)
        found += [error(part, f'{path}: {part}{text}') for text in wrong]
    return Content(*lists), found


def read_entries(
    raws: list[Raw], kind: type[Struct]
) -> tuple[list[Struct], list[str]]:
    """The entries of a list, and a sentence per kind of wrong ones."""
    read = msgspec.json.Decoder(kind).decode
    entries, wrong = [], defaultdict(list)
    for place, raw in enumerate(raws):
        try:
            entries.append(read(raw))
        except msgspec.ValidationError as error:
            wrong[re.sub(r'\[\d+\]`', '`', str(error))].append((place, error))
    return entries, [sentence(raws, each) for each in wrong.values()]


def sentence(raws: list[Raw], wrong: list[tuple[int, Exception]]) -> str:
    """What the first entry of a kind of wrong ones is, and their number."""
    place, error = wrong[0]
    entry = json.loads(bytes(raws[place]))  # it reads any number
    keys = entry if isinstance(entry, dict) else {}
    for key, task in OTHERS.items():
        if key in keys:
            return (
                f'[{place}] has {key}: this is an annotation file for {task}; '
                'give one of object detection (COCO: instances_*.json)'
            )
    who = f' (id {keys["id"]})' if 'id' in keys else ''
    count = f'; {len(wrong):,} of {len(raws):,} are like this'
    return f'[{place}]{who}: {say(error, entry)}{count if wrong[1:] else ""}'


def say(error: Exception, entry: Any) -> str:
    """msgspec's message in our words, with the value that is wrong.

    Args:
        error: a ValidationError.
        entry: what was read.
    """
    text, _, where = str(error).partition(' - at `$')
    if missing := re.search('required field `(.*)`', text):
        return f'it has no {missing[1]}'
    for step in re.findall(r'\w+', where):
        entry = entry[int(step) if isinstance(entry, list) else step]
    said = (
        f'{where.lstrip(".").rstrip("`") or "it"} is {json.dumps(entry):.60}'
    )
    parts = re.fullmatch('Expected `(.*?)`(.*?)(, got `(.*)`)?', text)
    if not parts:
        return f'{said}: {text}'
    wanted, more, _, found = parts.groups()
    wish = wanted.replace('int | float', 'float').split(' | ')
    kind = f' ({TYPES[found]})' if found not in (None, 'null') else ''
    return (
        f'{said}{kind}, but {" or ".join(TYPES[name] for name in wish)}{more} '
        'is wanted'
    )
