"""Load a checkpoint into a backbone and require every tensor."""

import logging
import os
import re
from collections.abc import Iterable

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..errors import CheckpointError
from .download import locate
from .formats import Converted, detect_format, to_ours
from .io import read_weights
from .key_templates import State
from .load_messages import mismatch


def load_pretrained(
    module: nn.Module,
    checkpoint: str | None = None,
    *,
    prefix: str | None = None,
    allow_partial: bool = False,
    **unknown: object,
) -> None:
    """Load a file of any known format into a backbone.

    Ignored silently: heads, PVT's class token and final norm, and stages
    beyond the last one that was built.

    Args:
        module: a backbone with our names.
        checkpoint: ``pvt://NAME``, an http(s) address or a file.
        prefix: use only keys of the file that begin with it.
        allow_partial: log what is missing, but go on.

    Raises:
        CheckpointError: no file, an unsafe or unknown one, or one that does
            not hold every parameter in the right shape.
    """
    if unknown or not checkpoint:
        raise CheckpointError(
            "init_cfg of type 'Pretrained' needs checkpoint and knows prefix "
            f'and allow_partial; got {sorted(unknown) or "no checkpoint"}'
        )
    path = locate(checkpoint)
    converted = read_ours(path, prefix or '')
    state = backbone_of(converted.state)
    wanted = module.state_dict()
    check_values(path, wanted, state)
    problems = {
        'unexpected': unexpected(wanted, state),
        **compare(wanted, state),
    }
    if any(problems.values()):
        text = mismatch(module, path, converted.format, state, problems)
        if not allow_partial:
            raise CheckpointError(text)
        print_log(text, 'current', logging.WARNING)
        state = {k: v for k, v in state.items() if k not in problems['shape']}
    module.load_state_dict(state, strict=False)
    log_share(module, state, f'{path} ({converted.format})')


def read_ours(path: object, prefix: str = '') -> Converted:
    """The tensors of a file in our names.

    Args:
        path: a file of any known format.
        prefix: use only keys of the file that begin with it.

    Raises:
        CheckpointError: the file is unsafe or of no known format.
    """
    weights = read_weights(path)
    try:
        return to_ours(
            {k: v for k, v in weights.items() if k.startswith(prefix)}
        )
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error


def backbone_of(state: State) -> dict[str, Tensor]:
    """The backbone's tensors in a state dict of ours, without their prefix."""
    prefix = detect_format(state)[1]
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def compare(wanted: State, state: State) -> dict[str, list[str]]:
    """The 'missing' keys of a state dict, and those of another 'shape'.

    Counters of batches (num_batches_tracked) may be missing.
    """
    return {
        'missing': [
            key
            for key in wanted
            if key not in state and not key.endswith('num_batches_tracked')
        ],
        'shape': [
            key
            for key in wanted
            if key in state and state[key].shape != wanted[key].shape
        ],
    }


def unexpected(wanted: State, state: State) -> list[str]:
    """The keys of a state dict that the stages of a backbone do not have."""
    stages = {stage_of(key) for key in wanted}
    return [
        key
        for key in state
        if key not in wanted
        and stage_of(key) in stages
        and not classifier_only(key, wanted)
    ]


def check_values(path: object, wanted: State, state: State) -> None:
    """Refuse integers in place of floats, and NaN and infinity.

    Args:
        path: of the file, for messages.
        wanted: the backbone's tensors.
        state: the file's.

    Raises:
        CheckpointError: it names the first key.
    """
    for key, here in wanted.items():
        there = state.get(key)
        if there is None or not here.is_floating_point():
            continue
        if not there.is_floating_point():
            raise CheckpointError(
                f'{path}: {key} is {there.dtype} and must be floating point: '
                'take a file that is not quantized'
            )
        if not there.to(here.dtype).isfinite().all():
            raise CheckpointError(
                f'{path}: {key} holds NaN or infinity: take another copy, or '
                'a checkpoint from before the training went wrong'
            )


def stage_of(key: str) -> int:
    """Number of the stage that a key belongs to; -1 before the first."""
    match = re.match(r'stages\.(\d+)\.', key)
    return int(match[1]) if match else -1


def classifier_only(key: str, wanted: Iterable[str]) -> bool:
    """Whether it is a key of a head, a class token or PVT's final norm."""
    if key.startswith('head.') or key.endswith('.cls_token'):
        return True
    stage = key.split('.norm.')[0]
    return '.norm.' in key and f'{stage}.pos_embed' in wanted


def log_share(module: nn.Module, state: State, source: str) -> None:
    """Log how many of a module's parameters were loaded."""
    parameters = dict(module.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    came = sum(p.numel() for k, p in parameters.items() if k in state)
    share = '100 %' if came == total else f'only {came / total:.1%}'
    print_log(
        f'loaded {share} of {total:,} parameters from {source}',
        'current',
        logging.INFO if came == total else logging.WARNING,
    )


@CheckpointLoader.register_scheme(prefixes='pvt://')
def load_converted(
    filename: str, map_location: object = None
) -> dict[str, dict[str, Tensor]]:
    """What ``load_from='pvt://NAME'`` or a file loads, in our names."""
    path = filename.removeprefix('pvt://')
    path = path if os.path.isfile(path) else locate(filename)
    return {'state_dict': read_ours(path).state}
