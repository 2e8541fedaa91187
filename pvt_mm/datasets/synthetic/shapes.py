"""Write drawn scenes to disk in the formats of COCO and of ADE20K."""

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from ...checkpoints.atomic import check_writable, replacing
from ...config.data_files import read_json
from ...errors import UsageError
from .coco import annotations
from .scene import CLASSES, Scene, draw_scene

# What is special about the n-th image of a split.
SPECIAL = {
    1: {'grey': True},
    2: {'crowd': True, 'shapes': 3},
    3: {'shapes': 0},
}
IMAGES = 1200  # of a training split, if not said otherwise
# The file that draw_all writes last, and what it says.
MARKER = 'drawn.json'
VERSION = 1


def scenes(
    seed: int, split: str, count: int, size: int
) -> Iterator[tuple[int, Scene]]:
    """The scenes of one split with their numbers, from 1 on.

    A scene depends on seed, split and number, not on ``count``.

    Args:
        seed: of the data set.
        split: 'train' or 'val'.
        count: number of scenes.
        size: longer side in pixels.
    """
    for index in range(count):
        rng = np.random.default_rng([seed, split == 'val', index])
        yield index + 1, draw_scene(rng, size, **SPECIAL.get(index, {}))


def write_plain(file: Path, image: np.ndarray) -> None:
    """Write one image, (H, W) or BGR (H, W, 3).

    ``checkpoints.atomic.write_image`` takes 5 ms more for each, and is not
    needed: the folder gets its name when all are there.

    Raises:
        OSError: the disk is full; cv2.imwrite would leave a short file.
    """
    done, data = cv2.imencode(file.suffix, image)
    if not done:
        raise UsageError(f'OpenCV could not encode {file}.')
    file.write_bytes(data.tobytes())


def draw_coco(
    root: str | Path, train: int, val: int, size: int = 160, seed: int = 0
) -> None:
    """Draw a data set of five classes in COCO's format and file names.

    Args:
        root: folder to write to.
        train: number of training images.
        val: number of held-out images.
        size: longer side of every image in pixels, at least 32.
        seed: same seed, same pixels and labels.
    """
    draw({write_coco: root}, train, val, size, seed)


def draw(
    roots: Mapping[Callable, str | Path],
    train: int,
    val: int,
    size: int = 160,
    seed: int = 0,
) -> None:
    """Draw each scene once, and write it in some formats.

    Args:
        roots: writer of a format -> folder of its data set.
        train, val, size, seed: as of :func:`draw_coco`.
    """
    for split, count in (('train', train), ('val', val)):
        drawn = scenes(seed, split, count, size)
        for write, root in roots.items():
            drawn = write(root, split, drawn)
        for _ in drawn:
            pass


def write_coco(
    root: str | Path, split: str, drawn: Iterable[tuple[int, Scene]]
) -> Iterator[tuple[int, Scene]]:
    """Write scenes in COCO's format, and pass them on.

    Args:
        root: folder of the data set.
        split: 'train' or 'val'.
        drawn: scenes with their numbers.
    """
    folder = Path(root) / f'{split}2017'
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = [], []
    for number, scene in drawn:
        name = f'{number:012d}.png'
        write_plain(folder / name, scene.image)
        height, width = scene.owner.shape
        image = dict(id=number, file_name=name, height=height, width=width)
        images.append(image)
        for label in annotations(scene):
            labels.append(dict(id=len(labels) + 1, image_id=number))
            labels[-1].update(label)
        yield number, scene
    kinds = [dict(id=n, name=name) for n, name in enumerate(CLASSES, 1)]
    file = Path(root) / f'annotations/instances_{split}2017.json'
    file.parent.mkdir(exist_ok=True)
    content = dict(images=images, annotations=labels, categories=kinds)
    file.write_text(json.dumps(content))


def label_map(scene: Scene) -> np.ndarray:
    """Labels (H, W) uint8 of ADE20K: 0 none, 1 ground, from 2 on shapes."""
    # The owners CROWD = -2 and GROUND = -1 find the last two entries.
    values = [*(label + 2 for label in scene.labels), 0, 1]
    return np.array(values, np.uint8)[scene.owner]


def draw_ade20k(
    root: str | Path, train: int, val: int, size: int = 160, seed: int = 0
) -> None:
    """Draw a data set in ADE20K's format; arguments as of ``draw_coco``."""
    draw({write_ade20k: root}, train, val, size, seed)


def write_ade20k(
    root: str | Path, split: str, drawn: Iterable[tuple[int, Scene]]
) -> Iterator[tuple[int, Scene]]:
    """Write scenes in ADE20K's format; arguments as of ``write_coco``."""
    folder = {'train': 'training', 'val': 'validation'}[split]
    images = Path(root) / 'images' / folder
    maps = Path(root) / 'annotations' / folder
    images.mkdir(parents=True, exist_ok=True)
    maps.mkdir(parents=True, exist_ok=True)
    for number, scene in drawn:
        name = f'ADE_{split}_{number:08d}'
        write_plain(images / f'{name}.jpg', scene.image)
        write_plain(maps / f'{name}.png', label_map(scene))
        yield number, scene


def draw_all(root: str | Path, images: int, seed: int = 0) -> bool:
    """Draw both formats, as root/coco and root/ade20k.

    The folder is written under another name and renamed when complete.

    Args:
        root: folder to make.
        images: for training; a quarter as many more for validation.
        seed: same seed, same pixels and labels.

    Returns:
        True if drawn now, False if the same data was complete already.

    Raises:
        OSError: the folder cannot be written; nothing of it remains.
        UsageError: the folder has other content.
    """
    root = Path(root)
    wanted = dict(version=VERSION, images=images, seed=seed)
    if root.exists():
        check_drawn(root, wanted)
        return False
    check_writable(root, folder=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    held_out = max(images // 4, 1)
    try:
        with replacing(root) as part:
            roots = {
                write_coco: part / 'coco',
                write_ade20k: part / 'ade20k',
            }
            draw(roots, images, held_out, seed=seed)
            (part / MARKER).write_text(json.dumps(wanted))
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        check_drawn(root, wanted)  # of another process in the meantime
        return False
    return True


def check_drawn(root: Path, wanted: dict) -> None:
    """Raise UsageError unless a folder has exactly the wanted data."""
    fix = 'delete it, or choose another folder with --out.'
    try:
        found = read_json(root / MARKER)
    except UsageError as error:
        raise UsageError(
            f'{root} exists but is no complete synthetic data: {fix}'
        ) from error
    if found != wanted:
        raise UsageError(
            f'{root} holds other synthetic data ({found}, not {wanted}): {fix}'
        )
