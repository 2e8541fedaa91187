"""Read weight files without executing them; write them atomically."""

import argparse
import io
import os
import pickle
import re
from collections.abc import Mapping
from logging import WARNING
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.logging import print_log
from torch import Tensor

from ..compat import checkpoint_reading
from ..errors import CheckpointError
from .atomic import check_writable, write_whole
from .safety import check_calls, check_tensors, file_kind

# Entries of a file that may hold the weights, the first one there counts.
CONTAINERS = ('state_dict', 'model')

# Classification scripts keep their command line, a plain object, beside the
# weights (official PVT and MPViT files).
HARMLESS = [argparse.Namespace]


def read_weights(path: str | os.PathLike, name: str = '') -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file by name, on the CPU.

    Nothing in the file is executed: pickles are read by torch's
    weights-only reader.

    Args:
        path: of the file.
        name: of the set of weights, where the file has several; the first of
            CONTAINERS if not given.

    Raises:
        CheckpointError: no such file, or one that is not a weight file, is
            cut short, or asks for anything but data; or no such set.
    """
    path = os.fspath(path)
    kind = file_kind(path)
    read = read_safetensors if kind == 'safetensors' else read_pickle
    weights = unwrap(read(path), path, name)
    if not weights:
        raise CheckpointError(f'{path} holds no tensors by name')
    check_tensors(path, weights)
    return weights


def read_pickle(path: str) -> Any:
    """The content of a file of torch.save, if it is plain data.

    Raises:
        CheckpointError: it asks for anything else, or is damaged.
    """
    check_calls(path)
    try:
        with checkpoint_reading(*HARMLESS):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r'(?:GLOBAL|type|class) ([\w.]+\.\w+)', str(error))
        asks = f'asks for {named[1]}' if named else 'is not plain data'
        raise CheckpointError(
            f'{path} is refused: it {asks}, and a weight file must hold '
            'tensors and plain values only'
        ) from error
    except Exception as error:  # a damaged pickle makes torch raise any
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f'{path} is cut short or damaged ({reason[0]}): download it again'
        ) from error


def read_safetensors(path: str) -> dict[str, Tensor]:
    """The content of a .safetensors file.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # its own, and those of json and torch
        raise CheckpointError(
            f'{path} is cut short or damaged ({error}): download it again'
        ) from error


def unwrap(content: Any, path: str, name: str = '') -> dict[str, Tensor]:
    """The state dict in the content of a file, without DDP's 'module.'

    Args:
        content: of the file.
        path: of the file, for messages.
        name: of a set of weights, or the first part of its keys.

    Raises:
        CheckpointError: there is no such set.
    """
    if not isinstance(content, Mapping):
        return {}
    sets = {k: s for k, v in content.items() if (s := tensors(v))}
    first = next((k for k in CONTAINERS if k in sets), None)
    if first is None and not tensors(content):
        first = next(iter(sets), None)
    weights = sets.get(name or first, tensors(content))
    others = [k for k, s in sets.items() if 2 * len(s) > len(weights)]
    if name and name not in sets:
        weights = sets.get(first, weights)
        start = f'{name}.'
        weights = {
            key.removeprefix(start): value
            for key, value in weights.items()
            if key.startswith(start)
        }
        if not weights:
            raise CheckpointError(
                f'{path} has no set of weights {name}; it has '
                f'{", ".join(others) or "one"}'
            )
    elif not name and len(others) > 1:
        others.remove(first)
        print_log(
            f'{path} has several sets of weights: {first} is loaded; for '
            f'another: pvt_mm convert {path} NEW.pth --set '
            f'{" or ".join(others)}',
            'current',
            WARNING,  # mmengine says a warning once
        )
    return weights


def tensors(content: Any) -> dict[str, Tensor]:
    """The tensors by name in a dict, without DDP's 'module.'"""
    if not isinstance(content, Mapping):
        return {}
    return {
        key.removeprefix('module.'): value.detach()
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
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
        OSError: it cannot be written; what was there stays.
    """
    path = check_target(path, force=force)
    compact = compacted(weights)
    if path.suffix == '.safetensors':
        copies = {k: v.clone() for k, v in compact.items()}
        content = safetensors.torch.save(copies, {'format': 'pt'})
    else:
        file = io.BytesIO()
        torch.save({container: compact} if container else compact, file)
        content = file.getvalue()
    write_whole(path, content, force=force)


def check_target(path: str | os.PathLike, *, force: bool) -> Path:
    """Stop if weights cannot be written to a file.

    Raises:
        CheckpointError: another ending, or the file is there already.
        OSError: it cannot be written.
    """
    path = Path(path)
    if path.suffix not in ('.pth', '.safetensors'):
        raise CheckpointError(f'{path} must end with .pth or .safetensors')
    if os.path.lexists(path) and not force:
        raise CheckpointError(f'{path} is there already: use --force')
    if not path.parent.is_dir():
        raise CheckpointError(f'{path.parent} is not a folder: make it first')
    check_writable(path)
    return path


def compacted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors contiguous, and without the rest of a larger storage.

    Names that share a tensor still share it.
    """
    made: dict[int, Tensor] = {}
    out = {}
    for name, tensor in weights.items():
        if id(tensor) not in made:
            whole = tensor.untyped_storage().nbytes() == tensor.nbytes
            same = whole and tensor.is_contiguous()
            made[id(tensor)] = tensor if same else tensor.contiguous().clone()
        out[name] = made[id(tensor)]
    return out
