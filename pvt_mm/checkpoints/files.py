"""Read weight files without running anything in them; write them whole."""

import argparse
import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import CheckpointError

# Entries of a file that may hold the weights, the first one there counts.
CONTAINERS = ('state_dict', 'model')

# Classification scripts keep their command line, a plain object, beside the
# weights (official PVT and MPViT files).
HARMLESS = [argparse.Namespace]


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file by name, on the CPU.

    Nothing in the file is executed: pickles are read by torch's
    weights-only reader.

    Raises:
        CheckpointError: no such file, or one that is not a weight file, is
            cut short, or asks for anything but data.
    """
    path = os.fspath(path)
    kind = check_format(path)
    read = read_safetensors if kind == 'safetensors' else read_pickle
    weights = unwrap(read(path))
    if not weights:
        raise CheckpointError(f'{path} holds no tensors by name')
    for name, tensor in weights.items():
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f'{path} is refused: {name} claims {tensor.nbytes} bytes of '
                f'the {tensor.untyped_storage().nbytes()} that are there'
            )
    return weights


def check_format(path: str) -> str:
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
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(
            f'{path} is cut short or damaged ({error}): download it again'
        ) from error
    total = sum(entry.file_size for entry in entries)
    packed = any(e.compress_type != zipfile.ZIP_STORED for e in entries)
    if packed or total > size:
        raise CheckpointError(
            f'{path} is refused: it unpacks to {total} bytes from {size}, '
            'and PyTorch never compresses its files'
        )


def read_pickle(path: str) -> Any:
    """The content of a file of torch.save, data only."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r'(?:GLOBAL|type|class) ([\w.]+\.\w+)', str(error))
        asks = f'asks for {named[1]}' if named else 'is not plain data'
        raise CheckpointError(
            f'{path} is refused: it {asks}, and a weight file must hold '
            'tensors and plain values only'
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        OverflowError,
    ) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f'{path} is cut short or damaged ({reason[0]}): download it again'
        ) from error


def read_safetensors(path: str) -> dict[str, Tensor]:
    """The content of a .safetensors file."""
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as e:
        raise CheckpointError(
            f'{path} is cut short or damaged ({e}): download it again'
        ) from e


def unwrap(content: Any) -> dict[str, Tensor]:
    """The state dict inside what a file holds, without DDP's 'module.'"""
    for entry in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(
            content.get(entry), Mapping
        ):
            content = content[entry]
            break
    if not isinstance(content, Mapping):
        return {}
    return {
        str(key).removeprefix('module.'): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }


def write_weights(
    path: str | os.PathLike,
    weights: Mapping[str, Tensor],
    *,
    container: str = '',
    force: bool = False,
) -> None:
    """Write tensors by name; the file appears whole or not at all.

    Args:
        path: ends with .safetensors or .pth.
        weights: tensors; those that share memory stay shared in a .pth.
        container: entry of a .pth that holds them; empty for none.
        force: replace a file that is there.

    Raises:
        CheckpointError: another ending, or the file is there already.
    """
    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    if not name.endswith(('.pth', '.safetensors')):
        raise CheckpointError(f'{path} must end with .pth or .safetensors')
    if os.path.exists(path) and not force:
        raise CheckpointError(f'{path} is there already: use --force')
    if not os.path.isdir(folder):
        raise CheckpointError(f'{folder} is not a folder: make it first')
    compact = compacted(weights)
    handle, temporary = tempfile.mkstemp(prefix='.' + name, dir=folder)
    os.close(handle)
    try:
        if name.endswith('.safetensors'):
            copies = {k: v.clone() for k, v in compact.items()}
            safetensors.torch.save_file(copies, temporary, {'format': 'pt'})
        else:
            torch.save(
                {container: compact} if container else compact, temporary
            )
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(f'{path} cannot be written: {error}') from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def compacted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that hold no more memory than they show."""
    made: dict[int, Tensor] = {}
    out = {}
    for name, tensor in weights.items():
        if id(tensor) not in made:
            whole = tensor.untyped_storage().nbytes() == tensor.nbytes
            same = whole and tensor.is_contiguous()
            made[id(tensor)] = tensor if same else tensor.contiguous().clone()
        out[name] = made[id(tensor)]
    return out
