"""Does a checkpoint fit the model that is to be built from it?"""

from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..checkpoints import read_weights
from .errors import UsageError


def check_fit(
    model: nn.Module,
    path: str,
    part: str = '',
    *,
    allow_partial: bool = False,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Stop unless a checkpoint has every tensor of the model.

    mmengine loads what fits and only logs the rest, so that a wrong file
    would go on with random weights.

    Args:
        model: a model, also one inside a wrapper.
        path: file written by mmengine.
        part: compare names that start with this only.
        allow_partial: say what is missing, but go on.
        state: what the file holds, if that is known.

    Raises:
        UsageError: something is missing or has another shape.
        CheckpointError: the file cannot be read safely.
    """
    while isinstance(getattr(model, 'module', None), nn.Module):
        model = model.module
    there = shapes(read_weights(path) if state is None else state)
    wanted = {
        name: shape
        for name, shape in shapes(model.state_dict()).items()
        if name.startswith(part) and not name.endswith('num_batches_tracked')
    }
    missing = [name for name in wanted if name not in there]
    other = [n for n in wanted if n in there and there[n] != wanted[n]]
    if not missing and not other:
        return
    message = (
        f'{path} does not fit this model: of {len(wanted)} tensors '
        f'{len(missing)} are missing{example(missing)} and {len(other)} '
        f'have another shape{example(other)}'
    )
    if not allow_partial:
        raise UsageError(f'{message}; was it trained with another config?')
    print_log(message)


def example(names: list[str]) -> str:
    """The first of some names, for a message."""
    return f' ({names[0]}{", ..." if len(names) > 1 else ""})' if names else ''


def shapes(state: Mapping) -> dict[str, torch.Size]:
    """The shape of every tensor."""
    return {k: v.shape for k, v in state.items() if torch.is_tensor(v)}
