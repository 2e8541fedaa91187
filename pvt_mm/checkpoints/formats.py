"""Detect a checkpoint format; map a state dict to our names and back."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from ..errors import CheckpointError
from .key_mapping import covers, find_row, map_keys
from .key_templates import CheckpointFormat, State, parts, template
from .mpvit_formats import MPVIT_FORMATS
from .pvt_formats import PVT_FORMATS

FORMATS = (*MPVIT_FORMATS, *PVT_FORMATS)

# Constants that some versions of the libraries keep beside the weights.
NOT_WEIGHTS = {
    '/pixel_{name}': 'constants of the data preprocessor',
    '/anchor_generator.{rest}': 'anchors, which follow from the config',
    '/proposal_generator.anchor_generator.{rest}': (
        'anchors, which follow from the config'
    ),
}


class Converted(NamedTuple):
    """A state dict in other names.

    Args:
        format: that of the other side: read from, or written to.
        state: key -> tensor.
        report: counts tensors by what was done to them.
    """

    format: CheckpointFormat
    state: dict[str, Tensor]
    report: Counter


def detect_format(state: State) -> tuple[CheckpointFormat, str]:
    """The format of a state dict by its keys, and the backbone's prefix.

    Raises:
        CheckpointError: none that is known; the nearest ones are listed.
    """
    for known in FORMATS:
        first, *others = known.signature
        key = next((k for k in state if f'.{k}'.endswith(f'.{first}')), None)
        if key is not None and all(other[1:] in state for other in others):
            return known, key.removesuffix(first)
    if lacking := nearly(state):
        raise CheckpointError(lacking)
    near = ', '.join(nearest(state))
    raise CheckpointError(
        f'no known checkpoint format among {len(state)} keys such as '
        f'{", ".join(list(state)[:3])}; nearest: {near}'
    )


def nearly(state: State) -> str:
    """Which format a state dict has but for one key; '' if none.

    Nine of ten keys of its backbone are in the table of the format.
    """
    best, found = 0.9, ''
    for known in FORMATS:
        for prefix in {'', known.model, known.classifier}:
            keys = [k[len(prefix) :] for k in state if k.startswith(prefix)]
            if known.table:
                fit = [k for k in keys if find_row(k, known.table, False)]
            else:
                fit = {*keys} - {*unexpected_keys(known, keys)}
            if len(keys) > 20 and len(fit) / len(keys) >= best:
                best = len(fit) / len(keys)
                found = (
                    f'nearly the checkpoint format {known}, but '
                    f'{prefix}{known.signature[0]} is missing: the file is '
                    'incomplete'
                )
    return found


def nearest(state: State, count: int = 3) -> list[str]:
    """The formats with most words in common with the keys."""
    words = {word for key in state for word in key.split('.')}

    def overlap(known: CheckpointFormat) -> float:
        names = [
            word
            for row in known.table
            for text in parts(row.theirs)
            for word in text.strip('/').split('.')
            if '{' not in word
        ]
        return sum(name in words for name in names) / len(names)

    others = [known for known in FORMATS if known.table]
    ranked = sorted(others, key=overlap, reverse=True)
    return list(dict.fromkeys(map(str, ranked)))[:count]


def to_ours(state: State) -> Converted:
    """Map a state dict of any known format to our names.

    A bare backbone keeps bare names; beside a head, its keys begin with
    ``backbone.``.

    Raises:
        CheckpointError: an unknown format, a key without a row in its
            table, or shared tensors that differ.
    """
    source, prefix = detect_format(state)
    relative = split_prefix(state, prefix)
    report = Counter()
    if source.table:
        relative = drop_constants(relative, report)
        relative = map_keys(relative, source.table, report)
    whole = any(key.startswith('/') for key in relative)
    state = join_prefix(relative, 'backbone.' if whole else '')
    return Converted(source, state, report)


def from_ours(state: State, name: str) -> Converted:
    """Map our names to those of another format.

    Raises:
        CheckpointError: no such format for this family or model.
    """
    ours, prefix = detect_format(state)
    if ours.table:
        raise CheckpointError(f'expected pvt_mm names, found {ours}')
    relative = split_prefix(state, prefix)
    choices = [f for f in FORMATS if f.family == ours.family and f.table]
    for target in choices:
        if target.name == name and covers(target.table, relative):
            report = Counter()
            theirs = map_keys(relative, target.table, report, back=True)
            state = join_prefix(theirs, prefix_in(target, relative))
            return Converted(target, state, report)
    names = ', '.join(dict.fromkeys(f.name for f in choices))
    raise CheckpointError(
        f'{name!r} has no names for this {ours.family} model with '
        f'{", ".join(sorted(components(relative)))}; {ours.family} is known '
        f'to {names}'
    )


def check_names(state: State) -> None:
    """Require that a backbone of the family has each key of the backbone.

    Args:
        state: in our names.

    Raises:
        CheckpointError: it lists the first keys that none has.
    """
    found, prefix = detect_format(state)
    relative = split_prefix(state, prefix)
    backbone = [key for key in relative if not key.startswith('/')]
    unknown = unexpected_keys(found, backbone)
    if unknown:
        more = ', ...' if len(unknown) > 3 else ''
        raise CheckpointError(
            f'{len(unknown)} keys belong to no {found.family}: '
            f'{", ".join(unknown[:3])}{more} (in our names)'
        )


def unexpected_keys(ours: CheckpointFormat, keys: Iterable[str]) -> list[str]:
    """The keys that no backbone of a family has, in our names."""
    pattern = re.compile('|'.join(ours.keys))
    return [key for key in keys if not pattern.fullmatch(key)]


def components(relative: Iterable[str]) -> set[str]:
    """The components of a model: backbone, neck, bbox_head, ..."""
    return {
        key[1:].split('.')[0] if key.startswith('/') else 'backbone'
        for key in relative
    }


def prefix_in(target: CheckpointFormat, relative: State) -> str:
    """The prefix of the backbone in a file of this format and model."""
    others = components(relative) - {'backbone'}
    if not others:
        return ''
    return target.classifier if others == {'head'} else target.model


def split_prefix(state: State, prefix: str) -> dict[str, Tensor]:
    """Keys of the backbone without prefix, all others behind a '/'."""
    return {
        key[len(prefix) :] if key.startswith(prefix) else '/' + key: value
        for key, value in state.items()
    }


def join_prefix(relative: State, prefix: str) -> dict[str, Tensor]:
    """The reverse of split_prefix."""
    return {
        key[1:] if key.startswith('/') else prefix + key: value
        for key, value in relative.items()
    }


def drop_constants(relative: State, report: Counter) -> dict[str, Tensor]:
    """Without what is not a weight; the report counts it."""
    kept = {}
    for key, value in relative.items():
        for text, reason in NOT_WEIGHTS.items():
            if template(text).read(key) is not None:
                report[f'dropped ({reason})'] += 1
                break
        else:
            kept[key] = value
    return kept
