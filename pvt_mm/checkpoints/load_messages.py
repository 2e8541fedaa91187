"""Error messages of strict loading: what does not fit, and what to do."""

import re
from collections import Counter
from collections.abc import Mapping

from torch import nn

from .key_templates import CheckpointFormat, State

SHOWN = 4  # keys of each kind in a message


def example(names: list[str]) -> str:
    """The first of some names, in brackets."""
    return f' ({names[0]}{", ..." if len(names) > 1 else ""})' if names else ''


def mismatch(
    module: nn.Module,
    path: object,
    found: CheckpointFormat,
    state: State,
    problems: Mapping[str, list[str]],
) -> str:
    """All that does not fit a backbone, and what to do, in one line.

    Args:
        module: the backbone.
        path: of the file.
        found: format of the file.
        state: the backbone's tensors in the file, in our names.
        problems: keys that are unexpected, missing and of another shape.
    """
    wanted = module.state_dict()
    if message := other_channels(path, state, wanted, problems):
        return message
    parts = [
        f'{path} does not fit this backbone: the file holds {found} with '
        f'{sizes(state)}, the backbone is {type(module).__name__} with '
        f'{sizes(wanted)}'
    ]
    for name, keys in problems.items():
        shown = keys[:SHOWN]
        if name == 'shape':
            shown = [
                f'{key} is {tuple(state[key].shape)} in the file, '
                f'{tuple(wanted[key].shape)} here'
                for key in shown
            ]
        if keys:
            more = ', ...' if keys[SHOWN:] else ''
            parts.append(f'{name} ({len(keys)}): {", ".join(shown)}{more}')
    parts.append(
        'take the file of this arch, or --allow-partial-weights to start '
        'without the rest'
    )
    return '; '.join(parts)


def other_channels(
    path: object,
    state: State,
    wanted: State,
    problems: Mapping[str, list[str]],
) -> str:
    """The message if only the channels of the image differ; else ''."""
    key = next(iter(wanted))
    if {k for keys in problems.values() for k in keys} != {key}:
        return ''
    there, here = tuple(state[key].shape), tuple(wanted[key].shape)
    if (there[:1], there[2:]) != (here[:1], here[2:]):
        return ''
    return (
        f'{path} is for images of {there[1]} channels, and in_channels='
        f'{here[1]} ({key} is {there} in the file, {here} here): set '
        f'in_channels={there[1]}, or give --allow-partial-weights to train '
        'this layer from scratch'
    )


def sizes(state: State) -> str:
    """The depths and dims of a backbone as text, from its keys."""
    blocks, dims = Counter(), {}
    for key, value in state.items():
        match = re.match(
            r'stages\.(\d+)\.(?:paths\.0\.)?blocks\.\d+\.norm1\.weight$', key
        )
        if match:
            blocks[match[1]] += 1
            dims[match[1]] = value.numel()
    depths = ', '.join(str(blocks[stage]) for stage in sorted(blocks))
    widths = ', '.join(str(dims[stage]) for stage in sorted(dims))
    return f'depths {depths or "?"} and dims {widths or "?"}'
