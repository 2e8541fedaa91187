"""Read images of files, folders and videos."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np

from ..errors import UsageError, show

# fmt: off
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
# fmt: on


class Item(NamedTuple):
    """One image of a source.

    Attributes:
        number: counted from 1.
        name: of the file below the folder, or of the frame.
        path: of the file; of the video for a frame.
        frame: the image itself if it is a frame, BGR (H, W, 3).
    """

    number: int
    name: str
    path: Path
    frame: np.ndarray | None = None


class Files:
    """An image, or all images of a folder and the folders in it.

    Args:
        path: file or folder.
        without: a folder that is left out, as the results go there.

    Raises:
        UsageError: there is no image.
    """

    def __init__(self, path: Path, without: Path | None = None) -> None:
        self.folder = path if path.is_dir() else path.parent
        self.paths = [path]
        if path.is_dir():
            there = sorted(find(path, without))
            self.paths = [p for p in there if is_image(p)]
            if left := [p for p in there if not is_image(p)]:
                kinds = {p.suffix or p.name for p in left}
                show(
                    f'{len(left)} of {len(there)} files in {path} are left '
                    f'out, which are no images ({", ".join(sorted(kinds))})'
                )
        if not self.paths:
            raise UsageError(
                f'{path} has no images ({", ".join(IMAGES)}) in it'
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Item]:
        for number, path in enumerate(self.paths, 1):
            name = path.relative_to(self.folder).as_posix()
            yield Item(number, name, path)


def find(folder: Path, without: Path | None) -> Iterator[Path]:
    """The files below a folder, except those below another one."""
    left_out = without and without.resolve()
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name for name in folders if Path(place, name).resolve() != left_out
        ]
        for name in names:
            yield Path(place, name)


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its name."""
    return path.name.lower().endswith(IMAGES)


class Video:
    """The frames of a video.

    Attributes:
        fps: frames per second.
        fault: set after the last frame: why frames are missing, or empty.

    Raises:
        UsageError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.fault = path, ''
        self.reader = mmcv.VideoReader(str(path))
        if not len(self) or self.reader.read() is None:
            raise UsageError(
                f'{path} is no video that OpenCV can read, or is cut short: '
                'try to convert it (ffmpeg -i OLD NEW.mp4)'
            )
        self.fps = self.reader.fps or 25.0
        self.reader = mmcv.VideoReader(str(path))

    def __len__(self) -> int:
        return max(self.reader.frame_cnt, 0)

    def __iter__(self) -> Iterator[Item]:
        number = 0
        for number, frame in enumerate(self.reader, 1):
            name = f'{self.path.stem}_{number:06}'
            yield Item(number, name, self.path, frame)
        if number < 0.99 * len(self):  # counts in headers are estimates
            self.fault = (
                f'{self.path} has {len(self)} frames, but only {number} could '
                'be read: it is damaged'
            )


def open_source(path: str | os.PathLike, without: Path | None = None):
    """The images at a path, as :class:`Files` or :class:`Video`.

    Raises:
        UsageError: nothing is there, or no image.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(
            f'{path} is not there: give an image, folder or video'
        )
    if path.suffix.lower() in VIDEOS:
        return Video(path)
    return Files(path, without)
