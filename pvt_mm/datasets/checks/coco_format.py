"""COCO's annotation format as types, and what a file has of other types."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError, defstruct

from ...config.data_files import read_json
from .report import Finding, error

Id = int | float | str  # a key of pycocotools' dicts
Pixels = Annotated[int, Meta(gt=0)]
Run = Annotated[int, Meta(ge=0)]  # a number of pixels


class Entry(Struct, gc=False):
    """An entry of a list; mmdet and pycocotools read it as a dict."""

    __getitem__ = object.__getattribute__

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key."""
        return getattr(self, key, default)


class Image(Entry, gc=False):
    """An image."""

    id: Id
    file_name: str
    height: Pixels
    width: Pixels
    img_id: Any = None  # mmdet writes it


class Annotation(Entry, kw_only=True, gc=False):
    """An object; see :func:`annotation_type` for further keys."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int | bool = 0
    ignore: int | bool | None = None  # mmdet leaves it out of training

    def __str__(self) -> str:
        return f'annotation {self.id} of image {self.image_id}'


class Category(Entry, gc=False):
    """A class."""

    id: Id
    name: str


class RunLengths(Struct):
    """A mask in run lengths, plain or compressed."""

    size: tuple[int, int]
    counts: list[Run] | str


class Content(TypedDict):
    """The lists of a file."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


# A key that only another task's annotations have, and that task.
OTHERS = {'segments_info': 'panoptic segmentation', 'caption': 'captions'}
read_mask = msgspec.json.Decoder(list[list[float]] | RunLengths).decode


def read_masks(sample: dict) -> dict:
    """A sample of mmdet whose masks are read: the first of its transforms."""
    for instance in sample['instances']:
        if isinstance(instance.get('mask'), Raw):
            instance['mask'] = msgspec.json.decode(instance['mask'])
    return sample


def annotation_type(*, masks: bool, scored: bool) -> type[Annotation]:
    """The type of an object, by what a run does with it.

    Args:
        masks: whether it reads segmentations; :func:`read_mask` does.
        scored: whether pycocotools scores it: it asks for iscrowd.
    """
    keys = [('segmentation', Raw, Raw())] if masks else []
    if scored:
        keys.append(('iscrowd', int | bool))
    return defstruct(
        'Annotation', keys, bases=(Annotation,), kw_only=True, gc=False
    )


def read_coco(
    path: str, *, masks: bool, scored: bool
) -> tuple[Content | None, list[Finding]]:
    """The content of an annotation file, or what is of another type in it.

    Args:
        path: the file.
        masks: whether its segmentations are kept.
        scored: whether it is for an evaluation, not for training.

    Raises:
        UsageError: it cannot be read, or is not JSON in UTF-8.
    """
    kinds = {
        'images': Image,
        'annotations': annotation_type(masks=masks, scored=scored),
        'categories': Category,
    }
    typed = {part: list[kind] for part, kind in kinds.items()}
    with suppress(ValidationError):
        return read_json(path, TypedDict('Content', typed)), []
    texts = dict.fromkeys(kinds, list[Raw])
    try:
        raws = read_json(path, TypedDict('Texts', texts))
    except ValidationError as wrong:
        absent = re.search('images|annotations|categories', str(wrong))
        text = f'{path} has no list of {absent[0] if absent else "images"}'
        return None, [error('lists', f'{text}: is it of another task?')]
    return None, [
        error(part, f'{path}: {part}{text}')
        for part, kind in kinds.items()
        for text in wrong_entries(raws[part], kind)
    ]


def wrong_entries(raws: list[Raw], kind: type[Struct]) -> Iterator[str]:
    """A sentence per kind of entries that are not of a type."""
    read = msgspec.json.Decoder(kind).decode
    wrong = defaultdict(list)
    for place, raw in enumerate(raws):
        try:
            read(raw)
        except ValidationError as error:
            wrong[re.sub(r'\[\d+\]`', '`', str(error))].append((place, error))
    return (sentence(raws, each) for each in wrong.values())


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
    """msgspec's message after the key and the value that are wrong.

    Args:
        error: a ValidationError.
        entry: what was read.
    """
    text, _, where = str(error).partition(' - at `$')
    if missing := re.search('required field `(.*)`', text):
        return f'it has no {missing[1]}'
    for step in re.findall(r'\w+', where):
        entry = entry[int(step) if isinstance(entry, list) else step]
    key = where.strip('.`') or 'it'
    said = text[0].lower() + text[1:].replace('int | float', 'float')
    return f'{key} is {json.dumps(entry):.60}, but {said}'
