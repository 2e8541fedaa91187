"""Write files and folders whole, or leave what was there."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
from mmengine.fileio import LocalBackend, register_backend

from ..compat import replace_writers
from ..errors import UsageError

PART = '.part-'  # begins the names of files that are not complete
PAGE = 4096  # bytes: the least that takes space on any disk


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files that appear whole, or stay as they were."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file; its folder is made.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        write_whole(filepath, obj)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text in the same way."""
        write_whole(filepath, obj.encode(encoding))


def write_all_whole() -> None:
    """Let the libraries, too, write files as this module does.

    For the whole process, because the calls are theirs: predictions,
    pictures, checkpoints, configs.
    """
    register_backend('local', AtomicBackend, force=True, prefixes='')
    replace_writers(write_whole, write_image)


@contextmanager
def replacing(path: str | Path, *, force: bool = True) -> Iterator[Path]:
    """A name beside ``path`` for a file or a folder to make.

    It takes the place of ``path`` if all went well, also that of a link;
    otherwise nothing remains of it.

    Args:
        path: a file or a folder.
        force: replace a file that is there.

    Raises:
        OSError: of the context, with ``path`` as its name.
        UsageError: ``path`` is a device, or there without ``force``.
    """
    path = Path(path)
    with part_for(path, path.parent) as part:
        yield part
        if part.is_file():
            with open(part, 'r+b') as file:
                os.fsync(file.fileno())
        if not force:
            link(part, path)
        elif part.exists():
            os.replace(part, path)
    sync_folder(path.parent)


def link(part: Path, path: Path) -> None:
    """Give a file its name, unless another one has it by now.

    Raises:
        UsageError: it is there.
    """
    try:
        os.link(part, path)
    except OSError as error:
        if os.path.lexists(path):
            raise UsageError(
                f'{path} is there already: use --force'
            ) from error
        os.replace(part, path)  # a disk without links


@contextmanager
def part_for(path: Path, folder: Path) -> Iterator[Path]:
    """A name in a folder for what is not complete; it is removed at the end.

    Args:
        path: what errors name.
        folder: where it is.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UsageError(f'{path} is a device: choose another name')
    part = folder / f'{PART}{uuid4().hex[:8]}{path.suffix}'
    try:
        yield part
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink()


def check_writable(path: str | Path, *, folder: bool = False) -> None:
    """Stop before the work if its results cannot be written.

    A page is written where they will be, and removed.

    Args:
        path: a file; or a folder, which need not be there.
        folder: it is a folder.

    Raises:
        OSError: it cannot be written.
        UsageError: it is a device.
    """
    path = Path(path)
    if not folder and path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, os.strerror(errno.EISDIR), str(path)
        )
    there = path if folder else path.parent
    while not there.exists():
        there = there.parent
    with part_for(path, there) as part:
        part.write_bytes(bytes(PAGE))


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to its disk, in case of a power cut."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(
    path: str | Path, content: bytes, *, force: bool = True
) -> None:
    """Write a file; its folder is made.

    Args:
        path: the file.
        content: all of it.
        force: replace a file that is there.

    Raises:
        OSError: it cannot be written; what was there stays.
        UsageError: it is a device, or there without ``force``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=force) as part:
        part.write_bytes(content)


def write_image(
    path: str | Path, image: np.ndarray, params: Sequence[int] = ()
) -> None:
    """Write an image, (H, W) or BGR (H, W, 3), as its ending says.

    Args:
        path: the file; its folder is made.
        image: the image.
        params: as cv2.imencode takes them.

    Raises:
        OSError: it cannot be written; what was there stays.
        UsageError: OpenCV cannot write this format.
    """
    import cv2  # only who writes images needs it

    path = Path(path)
    suffix = path.suffix.lower()
    if not (suffix and cv2.haveImageWriter(suffix)):
        raise UsageError(f'{path}: OpenCV cannot write {suffix or "this"}')
    write_whole(path, cv2.imencode(suffix, image, params)[1].tobytes())
