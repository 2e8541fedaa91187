"""Find a weight file on disk, or download it: resumed and verified."""

import hashlib
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import torch
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..errors import CheckpointError
from . import zoo
from .safety import file_kind

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None

FOLDER = 'PVT_MM_WEIGHTS'  # environment variable: folder looked at first
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20
ENDINGS = ('.pth', '.safetensors', '.bin')


def locate(address: str) -> Path:
    """The local file of NAME, pvt://NAME, an http(s) address or a path.

    The folder in ``PVT_MM_WEIGHTS`` is looked at first, then the cache that
    PyTorch and mmengine use, then the network.

    Raises:
        CheckpointError: it is nowhere; the sentence says what was tried and
            where to put the file by hand.
    """
    zoo_name = address.removeprefix('pvt://')
    if zoo_name != address or zoo_name in zoo.ZOO:
        return locate_zoo(zoo_name)
    if address.startswith(('http://', 'https://')):
        name = os.path.basename(address.split('?')[0])
        hashed = re.search(r'-([0-9a-f]{8,64})\.\w+$', name)  # torch.hub's way
        found = nearby(name)
        return found or download(
            address, cache() / name, hashed[1] if hashed else ''
        )
    path = Path(address).expanduser()
    if not path.exists():
        raise CheckpointError(f'weights {path} are not there')
    return path


def locate_zoo(name: str) -> Path:
    """The local file of a name in the zoo."""
    source = zoo.find(name)
    found = nearby(*(name + ending for ending in ENDINGS))
    if found:
        return found
    if source.gone:
        raise CheckpointError(
            f"the authors' address of {name}, {source.gone}, is dead. Put "
            f'your copy as {by_hand(name + ".pth")}'
        )
    errors = []
    for url in source.urls:
        ending = os.path.splitext(url)[1]
        expected = source.sha256 if url == source.urls[0] else ''
        try:
            return download(url, cache() / (name + ending), expected)
        except CheckpointError as error:
            errors.append(str(error))
    raise CheckpointError(
        f'{name} cannot be downloaded: {"; ".join(errors)}. Get it by hand '
        f'and put it as {by_hand(name + ".pth")}'
    )


def by_hand(name: str) -> str:
    """Text for messages: the two places where a file is found."""
    return f'{cache() / name} or as {name} into a folder named in {FOLDER}'


def cache() -> Path:
    """The folder of downloads, shared with mmengine and torch.hub."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def nearby(*names: str) -> Path | None:
    """The first file of these names in the user's folder or the cache.

    Raises:
        CheckpointError: the user's folder is not there.
    """
    chosen = os.environ.get(FOLDER)
    if chosen and not os.path.isdir(chosen):
        raise CheckpointError(f'{FOLDER}={chosen} is not a folder')
    folders = [Path(chosen)] if chosen else []
    for folder in [*folders, cache()]:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def download(url: str, path: Path, sha256: str = '') -> Path:
    """Download url to path; a download that broke off is continued.

    Args:
        url: http or https address.
        path: appears only when the file is whole and verified.
        sha256: its hash, or the first digits of it; empty if unknown.

    Raises:
        CheckpointError: the server does not give the file, it stops in the
            middle, or what it gave is not the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    with locked(path):
        if path.exists():  # another process was faster
            return path
        try:
            try:
                receive(url, part)
            except urllib.error.HTTPError as error:
                if error.code != 416:  # no bytes beyond these: start over
                    raise
                part.unlink()
                receive(url, part)
        except (OSError, HTTPException) as error:
            raise CheckpointError(f'{url}: {explain(error)}') from error
        try:
            verify(url, part, sha256)
        except CheckpointError:
            part.unlink()
            raise
        os.replace(part, path)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time download a file."""
    # The lock file stays: removing it would let two processes hold it.
    with open(path.with_name(path.name + '.lock'), 'w') as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def receive(url: str, part: Path) -> None:
    """Download into a part file; one that is there is continued.

    Raises:
        OSError: of the network, or fewer bytes came than were announced.
    """
    have = part.stat().st_size if part.exists() else 0
    tag = part.with_name(part.name + '.tag')
    headers = {'User-Agent': 'pvt_mm'}
    if have and tag.exists():
        # Continue only if the file on the server is still the same.
        headers |= {'Range': f'bytes={have}-', 'If-Range': tag.read_text()}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        left = int(answer.headers.get('Content-Length') or 0)
        total = have + left if left else None
        mark = answer.headers.get('ETag') or answer.headers.get(
            'Last-Modified'
        )
        if mark:
            tag.write_text(mark)
        with open(part, 'ab' if resumed else 'wb') as file:
            for chunk in chunks(answer, url, have, total):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    if total and part.stat().st_size != total:
        raise OSError(
            f'stopped after {part.stat().st_size} of {total} bytes; the next '
            'try continues'
        )
    tag.unlink(missing_ok=True)


def chunks(answer, url: str, have: int, total: int | None) -> Iterator[bytes]:
    """The chunks of an answer, with a progress bar."""
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        name = os.path.basename(url)
        task = progress.add_task(name, total=total, completed=have)
        while chunk := answer.read(CHUNK):
            progress.advance(task, len(chunk))
            yield chunk


def verify(url: str, part: Path, sha256: str) -> None:
    """Require the sha256 and a known kind of file.

    Raises:
        CheckpointError: it names the address.
    """
    if sha256:
        digest = hash_of(part)
        if not digest.startswith(sha256):
            raise CheckpointError(
                f'{url}: its sha256 is {digest}, not {sha256}...; it was not '
                'kept'
            )
    try:
        file_kind(str(part))
    except CheckpointError as error:
        raise CheckpointError(f'{url} gave a bad file: {error}') from error


def hash_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def explain(error: Exception) -> str:
    """A network error in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f'the server answers {error.code} {error.reason}'
    reason = getattr(error, 'reason', error)
    if isinstance(reason, TimeoutError | socket.timeout):
        return f'no answer within {TIMEOUT} seconds'
    return str(reason) or type(error).__name__
