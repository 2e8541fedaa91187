"""Pictures on the disk: whole, or not there."""

from pathlib import Path

import cv2
import numpy as np

from ..engine.atomic import AtomicBackend
from ..engine.errors import UsageError


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
    done, content = cv2.imencode(path.suffix.lower(), image)
    if not done:
        raise UsageError(f'{path}: OpenCV cannot write {path.suffix}')
    write_whole(path, content.tobytes())
