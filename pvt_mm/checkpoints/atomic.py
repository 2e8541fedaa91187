"""Write files atomically: complete, or as they were before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
from mmengine.fileio import LocalBackend, register_backend

from ..errors import UsageError


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files that appear whole, or stay as they were."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file; its folder is made.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(obj)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text in the same way."""
        self.put(obj.encode(encoding), filepath)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write; it takes its place if all went well."""
    part = path.with_name(f'{path.name}.{uuid4().hex[:8]}.part')
    try:
        yield part
        with open(part, 'r+b') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to its disk, in case of a power cut."""
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
