"""Write pictures, videos, label maps and JSON; no file is ever partial."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..checkpoints.atomic import write_image, write_whole
from ..errors import UsageError
from .results import Result, label_map
from .sources import IMAGES

PICTURES, LABELS = 'pictures', 'label_maps'
# Suffix of a video -> a codec that every OpenCV can write.
CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG'}


class AtomicVideo:
    """A video that appears when it is complete.

    Args:
        path: .mp4 or .avi.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps, self.frames = path, fps, 0
        self.part = path.with_name(f'.part-{path.name}')
        self.writer = None

    def add(self, picture: np.ndarray) -> None:
        """Write a frame: BGR (H, W, 3); all have the size of the first."""
        picture = even(picture)
        if self.writer is None:
            codec = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix])
            size = picture.shape[1::-1]
            self.part.parent.mkdir(parents=True, exist_ok=True)
            part = str(self.part)
            self.writer = cv2.VideoWriter(part, codec, self.fps, size)
        self.writer.write(picture)
        self.frames += 1

    def close(self) -> None:
        """Give the complete video its name.

        Raises:
            UsageError: not all of it could be written.
        """
        if self.writer is None:
            return
        self.writer.release()
        video = cv2.VideoCapture(str(self.part))
        written = round(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.release()
        if written != self.frames:
            self.discard()
            raise UsageError(
                f'{self.path} could not be written: {written} of '
                f'{self.frames} frames arrived; is the disk full?'
            )
        os.replace(self.part, self.path)

    def discard(self) -> None:
        """Remove what is not complete."""
        if self.writer is not None:
            self.writer.release()
        self.part.unlink(missing_ok=True)


def even(picture: np.ndarray) -> np.ndarray:
    """Pad to an even height and width, which codecs require."""
    rows, columns = (side % 2 for side in picture.shape[:2])
    return np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode='edge')


class Folder:
    """The folder of results.

    Args:
        path: made with the first file.
        names: of the classes.
        numbers: of the classes in JSON.
    """

    def __init__(
        self, path: Path, names: Sequence[str], numbers: Sequence[int]
    ) -> None:
        self.path = path
        self.classes = [
            {'id': number, 'name': name}
            for number, name in zip(numbers, names, strict=True)
        ]
        self.images: list[dict] = []
        self.results: list[dict] = []

    def save_picture(self, name: str, picture: np.ndarray) -> None:
        """Write the picture of an image under the name of the image."""
        write_image(self.path / PICTURES / name, picture)

    def save_labels(self, result: Result, entry: dict[str, Any]) -> None:
        """Write the label map of an image, and count its pixels by class."""
        labels = label_map(result.sample)
        depth = np.uint8 if len(self.classes) < 256 else np.uint16
        name = f'{LABELS}/{label_name(result.item.name)}'
        write_image(self.path / name, labels.astype(depth))
        counts = np.bincount(labels.ravel(), minlength=len(self.classes))
        pixels = {
            kind['name']: int(count)
            for kind, count in zip(self.classes, counts, strict=False)
            if count
        }
        frame = {k: entry[k] for k in ('frame_id',) if k in entry}
        self.results.append(
            {'image_id': entry['id'], **frame, 'file': name, 'pixels': pixels}
        )

    def save_json(self) -> None:
        """Write results.json, and images.json that explains its numbers."""
        known = {'images': self.images, 'categories': self.classes}
        for name, content in (('images', known), ('results', self.results)):
            text = json.dumps(content, ensure_ascii=False)
            write_whole(self.path / f'{name}.json', f'{text}\n'.encode())


def label_name(name: str) -> str:
    """The file of the label map of an image: a/b.jpg -> a/b.png"""
    known = name.lower().endswith(IMAGES)
    return (name.rsplit('.', 1)[0] if known else name) + '.png'


def check_label_names(names: Sequence[str]) -> None:
    """Stop at two images whose label maps would have the same name.

    Raises:
        UsageError: it names both.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(label_name(name), name)
        if other != name:
            raise UsageError(
                f'{other} and {name} would both give {label_name(name)}: '
                'rename one of them'
            )
