"""Write files atomically: complete, or as they were before."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from mmengine.fileio import LocalBackend, register_backend

from ..errors import UsageError


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files that appear whole, or stay as they were."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes beside the file, then put them in its place."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + '.part')
        try:
            with open(part, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text, likewise."""
        self.put(obj.encode(encoding), filepath)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut, if its disk can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file; its folder is made.

    Raises:
        UsageError: it cannot be written; what was there stays.
    """
    try:
        AtomicBackend().put(content, path)
    except OSError as error:
        raise UsageError(
            f'{path} cannot be written: {error.strerror}'
        ) from error


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, (H, W) or BGR (H, W, 3), as its ending says.

    Raises:
        UsageError: it cannot be written, or not in this format.
    """
    import cv2  # only who writes images needs it

    done, content = cv2.imencode(path.suffix.lower(), image)
    if not done:
        raise UsageError(f'{path}: OpenCV cannot write {path.suffix}')
    write_whole(path, content.tobytes())
