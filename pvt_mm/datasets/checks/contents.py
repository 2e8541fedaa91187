"""Count what is in a data set, as a run will see it."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..classification_datasets import IMAGES
from .fault_tolerant_pipeline import SIZE, tolerant_parts
from .files import by, listed
from .report import FEW, counted
from .samples import Look

# A key of the samples of a data set -> what its classes are counted in.
UNITS = {
    'reduce_zero_label': 'pixels',
    'instances': 'objects',
    'gt_label': 'images',
}
SUFFIXES = (*IMAGES, '.bmp', '.gif', '.pgm', '.ppm', '.tif', '.tiff', '.webp')
SMALL, LARGE = 32**2, 96**2  # pixels, where COCO's kinds of objects end


@dataclass
class Contents:
    """What is in a split.

    Attributes:
        split: 'train', 'val' or 'test'.
        unit: what its classes are counted in: objects, pixels or images.
        classes: their names.
        images: how many there are, after the filters of the data set.
        read: how many of them were read.
        counts: label -> number of units.
        images_of: label -> number of images that have any.
        sizes: (height, width) of each image.
        areas: of each box.
        empty: images without any object.
        most: objects in one image.
        ignored: objects that are crowd or ignored, or pixels of no class.
        flat: boxes without an area in their image, with their image.
        paths: of the images.
        unread: folder -> images in it that the data set does not read.
        suffixes: of the images that are read; empty if an annotation file
            names them.
        after: what changed the labels, for messages.
    """

    split: str
    unit: str
    classes: tuple[str, ...]
    images: int = 0
    read: int = 0
    counts: Counter = field(default_factory=Counter)
    images_of: Counter = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    empty: int = 0
    most: int = 0
    ignored: int = 0
    flat: list[str] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    unread: dict[str, list[str]] = field(default_factory=dict)
    suffixes: set[str] = field(default_factory=set)
    after: str = ''

    def add(self, info: Mapping) -> None:
        """Count a sample; the pixels of label maps are counted elsewhere."""
        if info.get('height') and info.get('width'):
            self.sizes.append((info['height'], info['width']))
        if self.unit == 'images':
            self.add_units([info['gt_label']])
        elif self.unit == 'objects':
            there = [o for o in info['instances'] if not o.get('ignore_flag')]
            self.add_units([o['bbox_label'] for o in there])
            self.empty += not there
            self.most = max(self.most, len(there))
            self.ignored += len(info['instances']) - len(there)
            height, width = (info.get(k) or math.inf for k in SIZE)
            for box in (o['bbox'] for o in there):
                x1, y1, x2, y2 = box
                self.areas.append((x2 - x1) * (y2 - y1))
                inside = 0 < x2 > x1 < width and 0 < y2 > y1 < height
                if not inside:
                    self.flat.append(f'{list(box)} in {info["img_path"]}')

    def add_pixels(self, pixels: np.ndarray) -> None:
        """Count a label map by its number of pixels of each label (256,)."""
        number = len(self.classes)
        there = {i: int(n) for i, n in enumerate(pixels[:number]) if n}
        self.add_units(there)
        self.ignored += int(pixels[number:].sum())

    def add_units(self, found: Iterable[int] | Mapping[int, int]) -> None:
        """Count the labels in an image: each once, or with its number."""
        self.counts.update(found)
        self.images_of.update(set(found))

    def share(self, number: int) -> float:
        """A number of units as a share of all, ignored ones too."""
        return number / max(1, self.counts.total() + self.ignored)

    def box_sizes(self) -> dict[str, int]:
        """How many boxes are small, medium and large as COCO has it."""
        edges = [0, SMALL, LARGE, np.inf]
        numbers = np.histogram(self.areas, edges)[0].tolist()
        return dict(zip(('small', 'medium', 'large'), numbers, strict=True))

    def image_sizes(self) -> dict[str, list[int]]:
        """Smallest, median and largest height and width."""
        return {
            key: [int(f(side)) for f in (np.min, np.median, np.max)]
            for key, side in zip(
                ('height', 'width'), zip(*self.sizes, strict=True), strict=True
            )
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row of the table for each class."""
        rows = []
        for label, name in enumerate(self.classes):
            number = self.counts[label]
            rows.append({'class': name, 'images': self.images_of[label]})
            if self.unit == 'objects':
                rows[-1]['objects'] = number
            elif self.unit == 'pixels':
                rows[-1]['pixels'] = round(self.share(number), 6)
        return rows

    def report(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        found: dict[str, Any] = {
            'images': self.images,
            'images_read': self.read,
            'classes': self.rows(),
            'image_sizes': self.image_sizes() if self.sizes else {},
            'images_not_in_the_data_set': {
                folder: {'number': len(names), 'example': names[0]}
                for folder, names in self.unread.items()
            },
        }
        if self.unit == 'objects':
            found['box_sizes'] = self.box_sizes()
            found['images_without_objects'] = self.empty
            found['ignored_objects'] = self.ignored
        if self.unit == 'pixels':
            found['ignored_pixels'] = round(self.share(self.ignored), 6)
        return found

    def table(self) -> Iterator[str]:
        """All numbers, as lines for a terminal."""
        rows = self.rows()
        width = max(map(len, ('class', *self.classes)))
        yield f'{self.split}: {counted(self.images, "image")}'
        for name, *cells in (list(rows[0]), *(row.values() for row in rows)):
            texts = [f'{c:.2%}' if type(c) is float else f'{c}' for c in cells]
            yield f'  {name:{width}}' + ''.join(f'{t:>10}' for t in texts)
        yield from (f'  {line}' for line in self.facts())

    def facts(self) -> Iterator[str]:
        """The numbers that are of no class, as sentences."""
        if self.sizes:
            height, width = self.image_sizes().values()
            low, middle, high = zip(height, width, strict=True)
            yield (
                f'image sizes: {by(low)} to {by(high)}, median {by(middle)}'
            )
        if self.unit == 'objects':
            sizes = self.box_sizes().items()
            yield 'boxes: ' + ', '.join(f'{n:,} {name}' for name, n in sizes)
            yield (
                f'{counted(self.empty, "image")} without objects, '
                f'{counted(self.ignored, "object")} ignored (crowd, difficult)'
            )
        if self.unit == 'pixels':
            yield f'{self.share(self.ignored):.1%} of the pixels are ignored'
        for folder, names in self.unread.items():
            yield (
                f'{counted(len(names), "image")} of {folder} not in this '
                f'split, for example {names[0]}'
            )

    def brief(self) -> Iterator[str]:
        """The numbers in two lines, for the log of a run."""
        known = {i: self.counts[i] for i in range(len(self.classes))}
        common = Counter({i: n for i, n in known.items() if n}).most_common()
        many = len(common) > 2 * FEW
        shown = [*common[:FEW], *common[-FEW:]] if many else common
        names = ', '.join(
            f'{self.classes[label]} '
            + (f'{self.share(n):.1%}' if self.unit == 'pixels' else f'{n:,}')
            for label, n in shown
        )
        yield (
            f'{self.split}: {counted(self.images, "image")}, '
            f'{len(common)} of {len(self.classes)} classes: {names}'
        )
        yield f'{self.split}: {"; ".join(self.facts())}'


def contents_of(
    dataset: Any, split: str, looks: Iterable[Look]
) -> Contents | None:
    """What is in a data set; None if it has no classes to count.

    Args:
        dataset: as it was built, after :func:`make_fault_tolerant`.
        split: 'train', 'val' or 'test'.
        looks: at its samples, as far as they were read.
    """
    parts = [part for part in tolerant_parts(dataset) if len(part)]
    classes = tuple((dataset.metainfo or {}).get('classes') or ())
    keys = parts[0].get_data_info(0) if parts and classes else {}
    unit = next((UNITS[key] for key in UNITS if key in keys), None)
    if unit is None:
        return None
    found = Contents(split, unit, classes)
    for part in parts:
        found.images += len(part)
        paths, maps = set(), set()
        infos = map(part.get_data_info, range(len(part)))
        if not getattr(part, 'serialize_data', True):
            infos = part.data_list  # which it would copy
        for info in infos:
            found.add(info)
            paths.add(info.get('img_path') or '')
            maps.add(info.get('seg_map_path'))
        found.unread |= unread(paths - {''}, maps)
        found.paths |= paths - {''}
        if not getattr(part, 'ann_file', ''):
            found.suffixes |= set(map(suffix_of, paths)) - {''}
    if keys.get('reduce_zero_label'):
        found.after = (
            ' (reduce_zero_label ignores the label 0 and makes each other '
            'one less)'
        )
    for look in looks:
        found.read += 1
        if look.size and not keys.get('height'):
            found.sizes.append(look.size)
        if look.pixels is not None:
            found.add_pixels(look.pixels)
    return found


def unread(paths: set[str], maps: set[str]) -> dict[str, list[str]]:
    """Folder -> the images in it that are neither read nor label maps."""
    known = defaultdict(set)
    for path in paths:
        known[os.path.dirname(path)].add(os.path.basename(path))
    found = {
        folder: sorted(
            name
            for name in listed(folder) - names
            if name.lower().endswith(SUFFIXES)
            and not name.startswith('.')
            and os.path.join(folder, name) not in maps
        )
        for folder, names in sorted(known.items())
    }
    return {folder: names for folder, names in found.items() if names}


def suffix_of(path: str) -> str:
    """'.jpg' of 'x.jpg'."""
    return os.path.splitext(path)[1]
