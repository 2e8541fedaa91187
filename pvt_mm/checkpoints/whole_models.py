"""Load a checkpoint into a whole model and require every tensor."""

import logging

import torch
from mmengine.logging import print_log
from torch import nn

from ..compat import mark_initialized
from ..errors import CheckpointError
from .formats import detect_format, to_ours
from .io import read_weights
from .key_templates import CheckpointFormat, State
from .load_messages import example
from .strict_load import compare

BACKBONE = 'backbone.'
TEACHER = 'teacher.'  # mmdet predicts with the teacher


def check_fit(
    model: nn.Module,
    path: str,
    part: str = '',
    *,
    allow_partial: bool = False,
) -> State:
    """Require every tensor of a model in a checkpoint.

    mmengine loads what fits and only logs the rest, so that a wrong file
    would go on with random weights.

    Args:
        model: a model, also one inside a wrapper.
        path: file of a whole model, of any known format.
        part: compare names that start with this only.
        allow_partial: log what is missing, but go on.

    Returns:
        what the file holds, in our names.

    Raises:
        CheckpointError: something is missing or has another shape, or the
            file cannot be read safely.
    """
    wanted = tensors_of(model, part)
    state, source = read_fitting(wanted, path)
    if source:
        print_log(f'{path}: names of {source} are converted', 'current')
    problems = compare(wanted, state)
    if not any(problems.values()):
        return state
    missing, shape = problems['missing'], problems['shape']
    message = (
        f'{path} does not fit this model: of {len(wanted)} tensors '
        f'{len(missing)} are missing{example(missing)} and {len(shape)} '
        f'have another shape{example(shape)}'
    )
    if not allow_partial:
        names = {k for k in wanted if k.startswith(BACKBONE)}
        alone = {k.removeprefix(BACKBONE) for k in names}
        raise CheckpointError(
            f'{message}; it has a backbone alone: give it as '
            "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
            if alone and alone <= {*state}
            else f'{message}; was it trained with another config?'
        )
    print_log(message, 'current', logging.WARNING)
    return state


def tensors_of(model: nn.Module, part: str = '') -> State:
    """The tensors of a model, also of one inside a wrapper.

    Args:
        model: or its wrapper.
        part: only names that start with this.
    """
    while isinstance(getattr(model, 'module', None), nn.Module):
        model = model.module
    return {
        name: value
        for name, value in model.state_dict().items()
        if name.startswith(part) and torch.is_tensor(value)
    }


def read_fitting(
    wanted: State, path: object
) -> tuple[State, CheckpointFormat | None]:
    """The tensors of a file; in our names if only these fit a model.

    Args:
        wanted: the model's tensors.
        path: a file.

    Returns:
        the tensors, and the format that they were converted from, if any.

    Raises:
        CheckpointError: the file is unsafe, or a known format is incomplete.
    """
    weights = read_weights(path)
    if not compare(wanted, weights)['missing']:
        return weights, None
    if any(key.startswith(TEACHER) for key in weights):
        print_log(
            f'{path} has a teacher and a student: the teacher is loaded; '
            f'for the other: pvt_mm convert {path} NEW.pth --set student',
            'current',
            logging.WARNING,
        )
        weights = read_weights(path, 'teacher')
    try:
        source, _ = detect_format(weights)
    except CheckpointError:  # another backbone: what is missing says more
        return weights, None
    if not source.table:
        return weights, None
    return to_ours(weights).state, source


def name_to_load(model: nn.Module, path: str) -> str:
    """What mmengine's load_checkpoint needs to load a file into a model.

    Returns:
        the path, or ``pvt://PATH`` if the file is to be converted.
    """
    converted = read_fitting(tensors_of(model), path)[1]
    ours = converted or path.endswith('.safetensors')  # mmengine unpickles
    return f'pvt://{path}' if ours else path


def load_model(model: nn.Module, file: str) -> None:
    """Load a file of any known format into a whole model.

    Raises:
        CheckpointError: something is missing or has another shape, or the
            file is unsafe.
    """
    model.load_state_dict(check_fit(model, file), strict=False)
    mark_initialized(model)  # a Runner would call init_weights
