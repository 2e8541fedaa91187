"""Write pictures, videos, label maps and JSON; no file is ever partial."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..checkpoints.atomic import replacing, write_image, write_whole
from ..errors import UsageError, free_space
from .results import Result, label_map
from .sources import IMAGES

PICTURES, LABELS = 'pictures', 'label_maps'
# Suffix of a video -> a codec that every OpenCV can write.
CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG'}


class VideoFile:
    """A video that is written.

    Args:
        path: .mp4 or .avi, in a folder that is there.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps, self.frames = path, fps, 0
        self.writer = None

    def add(self, picture: np.ndarray) -> None:
        """Write a frame: BGR (H, W, 3); all have the size of the first."""
        picture = even(picture)
        if self.writer is None:
            codec = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix])
            size = picture.shape[1::-1]
            self.writer = cv2.VideoWriter(
                str(self.path), codec, self.fps, size
            )
        self.writer.write(picture)
        self.frames += 1

    def close(self) -> None:
        """Write the rest."""
        if self.writer is not None:
            self.writer.release()

    def written(self) -> int:
        """How many frames can be read again."""
        video = cv2.VideoCapture(str(self.path))
        number = round(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.release()
        return number


@contextmanager
def whole_video(path: Path, fps: float) -> Iterator[VideoFile]:
    """Context: a video that appears when it is complete, at the end.

    Args:
        path: .mp4 or .avi; its folder is made.
        fps: frames per second.

    Raises:
        UsageError: not all of it could be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        video = VideoFile(part, fps)
        try:
            yield video
        finally:
            video.close()
        if (written := video.written()) != video.frames:
            raise UsageError(
                f'{path} could not be written: {written} of {video.frames} '
                f'frames arrived, and {free_space(str(path))} are free there'
            )


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
        self.written: set[Path] = set()

    def save_image(self, name: str, image: np.ndarray) -> None:
        """Write a picture or a label map under a name."""
        write_image(self.path / name, image)
        self.written.add(self.path / name)

    def earlier(self) -> int:
        """How many pictures and label maps are not of this run."""
        folders = [self.path / PICTURES, self.path / LABELS]
        there = {f for each in folders for f in each.rglob('*') if f.is_file()}
        return len(there - self.written)

    def save_labels(self, result: Result, entry: dict[str, Any]) -> None:
        """Write the label map of an image, and count its pixels by class."""
        labels = label_map(result.sample)
        depth = np.uint8 if len(self.classes) < 256 else np.uint16
        name = f'{LABELS}/{label_name(result.item.name)}'
        self.save_image(name, labels.astype(depth))
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
