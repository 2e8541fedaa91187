"""Safety checks of weight files: kind, size, calls and tensors."""

import mmap
import os
import re
import zipfile
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError

# What zipfile raises at damaged archives: names that are no text, encryption
# and versions that it does not know.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(ValueError, RuntimeError),
)
# Entries of the archives of torch.jit.save and torch.export.save.
EXPORTED = {'constants.pkl', 'archive_format'}
# Bytes of tensors per byte of their file. It is below 1 but for tensors that
# are shared under several names.
LARGEST_SHARE = 4
# What torch lets a file call, but no weight file needs: bytearray fills
# memory at once, nested tensors read what is not there.
NEEDLESS = re.compile(
    rb'\n(bytearray|_rebuild_(?:nested|sparse|meta|wrapper|device)\w*)\n'
)


def file_kind(path: str) -> str:
    """Tell 'zip', 'pickle' or 'safetensors' from the first bytes.

    Raises:
        CheckpointError: the file is not there or of another kind.
    """
    if not os.path.exists(path):
        raise CheckpointError(f'{path} is not there')
    if os.path.isdir(path):
        raise CheckpointError(f'{path} is a folder, not a weight file')
    with open(path, 'rb') as file:
        head = file.read(4096)
    if not head:
        raise CheckpointError(f'{path} is empty: download it again')
    if head.lstrip()[:1] == b'<':
        raise CheckpointError(
            f'{path} is a web page, not a weight file: open its address in a '
            'browser and follow the link to the file itself'
        )
    if head[:4] == b'PK\x03\x04':
        check_zip(path)
        return 'zip'
    if head[8:9] == b'{':
        return 'safetensors'
    if head[:1] == b'\x80':  # first opcode of every binary pickle
        return 'pickle'
    kind = 'a text file' if is_text(head) else 'not a weight file'
    raise CheckpointError(
        f'{path} is {kind}: expected a .pth file of PyTorch or .safetensors'
    )


def is_text(head: bytes) -> bool:
    """Whether the bytes read as text."""
    return b'\0' not in head and not re.search(rb'[\x01-\x08\x0e-\x1f]', head)


def check_zip(path: str) -> None:
    """PyTorch stores its archives uncompressed; refuse any that is not.

    So an archive can never unpack to more bytes than the file has.
    """
    size = os.path.getsize(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DAMAGED as error:
        raise CheckpointError(
            f'{path} is cut short or damaged ({error}): download it again'
        ) from error
    parts = {entry.filename.partition('/')[2] for entry in entries}
    if parts & EXPORTED:
        raise CheckpointError(
            f'{path} is an exported program (TorchScript or .pt2), not a '
            'weight file: give the .pth file that it was made from'
        )
    total = sum(entry.file_size for entry in entries)
    packed = any(e.compress_type != zipfile.ZIP_STORED for e in entries)
    if packed or total > size:
        raise CheckpointError(
            f'{path} is refused: it unpacks to {total} bytes from {size}, '
            'and PyTorch never compresses its files'
        )


def check_calls(path: str) -> None:
    """Refuse a pickle that calls more of torch than tensors need."""
    with (
        open(path, 'rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        found = NEEDLESS.search(content)
        call = found and found[1].decode()  # no view of the map may stay
        del found
    if call:
        raise CheckpointError(
            f'{path} is refused: it asks for {call}, and a weight file must '
            'hold tensors and plain values only'
        )


def check_tensors(path: str, weights: Mapping[str, Tensor]) -> None:
    """Stop at tensors that are not plain, or larger than their file.

    Raises:
        CheckpointError: it names the first one.
    """
    allowed = LARGEST_SHARE * os.path.getsize(path)
    for name, tensor in weights.items():
        if not name.isprintable():
            raise CheckpointError(
                f'{path} is refused: a tensor is named {name!r}'
            )
        if not is_plain(tensor):
            raise CheckpointError(
                f'{path} is refused: {name} is not a dense tensor of numbers '
                f'({tensor.layout}, {tensor.dtype}, {tensor.device})'
            )
        there = tensor.untyped_storage().nbytes()
        allowed -= tensor.nbytes
        if tensor.nbytes > there or allowed < 0:
            raise CheckpointError(
                f'{path} is refused: {name} claims {tensor.nbytes} bytes of '
                f'the {there} that are there'
            )


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but numbers in the memory of the CPU."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == 'cpu'
        and not tensor.is_quantized
        and not tensor.is_nested
    )
