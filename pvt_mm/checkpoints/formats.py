"""Recognise a dialect and translate a state dict to our names and back."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from ..errors import CheckpointError
from .key_mapping import covers, translate
from .key_templates import Dialect, parts, template
from .mpvit_formats import MPVIT_DIALECTS
from .parameter_names import strangers
from .pvt_formats import PVT_DIALECTS

State = Mapping[str, Tensor]

# In this order: PVT has PVT v2's mark too.
OURS = (
    Dialect('pvt_mm', 'PVT', ('stages.0.pos_embed',), ()),
    Dialect('pvt_mm', 'PVTv2', ('stages.0.patch_embed.proj.weight',), ()),
    Dialect('pvt_mm', 'MPViT', ('stages.0.aggregate.conv.weight',), ()),
)
DIALECTS = (*OURS, *MPVIT_DIALECTS, *PVT_DIALECTS)

# Constants that some versions of the libraries keep beside the weights.
NOT_WEIGHTS = {
    '/pixel_{leaf}': 'constants of the data preprocessor',
    '/anchor_generator.{rest}': 'anchors, which follow from the config',
    '/proposal_generator.anchor_generator.{rest}': (
        'anchors, which follow from the config'
    ),
}


class Found(NamedTuple):
    """A dialect and the prefix of the backbone's keys in a file."""

    dialect: Dialect
    prefix: str

    def __str__(self) -> str:
        return f'{self.dialect.name} {self.dialect.family}'


class Translation(NamedTuple):
    """A state dict in other names, and what was done: text -> tensors."""

    state: dict[str, Tensor]
    report: Counter


def recognise(state: State) -> Found:
    """Tell the dialect of a state dict by its keys.

    Raises:
        CheckpointError: none of ours; the nearest ones are listed.
    """
    for dialect in DIALECTS:
        first, *others = dialect.marks
        key = next((k for k in state if ends_with(k, first)), None)
        if key is not None and all(mark[1:] in state for mark in others):
            return Found(dialect, key.removesuffix(first))
    near = ', '.join(nearest(state))
    raise CheckpointError(
        f'no known dialect among {len(state)} keys such as '
        f'{", ".join(list(state)[:3])}; nearest: {near}'
    )


def ends_with(key: str, mark: str) -> bool:
    """Whether the mark stands at the end of a dotted key."""
    return key == mark or key.endswith('.' + mark)


def nearest(state: State, count: int = 3) -> list[str]:
    """The dialects with most words in common with the keys."""
    words = {word for key in state for word in key.split('.')}

    def overlap(dialect: Dialect) -> float:
        names = [
            word
            for rule in dialect.rules
            for text in parts(rule.foreign)
            for word in text.strip('/').split('.')
            if '{' not in word
        ]
        return sum(name in words for name in names) / len(names)

    ranked = sorted(
        (d for d in DIALECTS if d.rules), key=overlap, reverse=True
    )
    names = [f'{dialect.name} {dialect.family}' for dialect in ranked]
    return list(dict.fromkeys(names))[:count]


def to_ours(state: State) -> tuple[Found, Translation]:
    """Translate a state dict of any known dialect to our names.

    A bare backbone keeps bare names; beside a head, its keys begin with
    ``backbone.``.

    Raises:
        CheckpointError: an unknown dialect, a key without a row in its
            table, or shared tensors that differ.
    """
    found = recognise(state)
    relative = split_prefix(state, found.prefix)
    report = Counter()
    if found.dialect.rules:
        relative = drop_constants(relative, report)
        relative = translate(relative, found.dialect.rules, report)
    whole = any(key.startswith('/') for key in relative)
    state = join_prefix(relative, 'backbone.' if whole else '')
    return found, Translation(state, report)


def from_ours(state: State, name: str) -> tuple[Found, Translation]:
    """Translate our names to those of a dialect.

    Raises:
        CheckpointError: no such dialect for this family or model.
    """
    ours = recognise(state)
    if ours.dialect not in OURS:
        raise CheckpointError(f'expected pvt_mm names, found {ours}')
    relative = split_prefix(state, ours.prefix)
    family = ours.dialect.family
    choices = [d for d in DIALECTS if d.family == family and d.rules]
    for dialect in choices:
        if dialect.name == name and covers(dialect.rules, relative):
            report = Counter()
            prefix = foreign_prefix(dialect, relative)
            foreign = translate(relative, dialect.rules, report, back=True)
            state = join_prefix(foreign, prefix)
            return Found(dialect, prefix), Translation(state, report)
    names = ', '.join(dict.fromkeys(d.name for d in choices))
    raise CheckpointError(
        f'{name!r} has no names for this {family} model with '
        f'{", ".join(sorted(rooms(relative)))}; {family} is known to {names}'
    )


def check_names(state: State) -> None:
    """Stop at keys of a backbone, in our names, that none of ours has.

    Raises:
        CheckpointError: it lists the first ones.
    """
    found = recognise(state)
    relative = split_prefix(state, found.prefix)
    backbone = [key for key in relative if not key.startswith('/')]
    unknown = strangers(found.dialect.family, backbone)
    if unknown:
        more = ', ...' if len(unknown) > 3 else ''
        raise CheckpointError(
            f'{len(unknown)} keys belong to no {found.dialect.family}: '
            f'{", ".join(unknown[:3])}{more} (in our names)'
        )


def rooms(relative: Iterable[str]) -> set[str]:
    """The parts of a model: backbone, neck, bbox_head, ..."""
    return {
        key[1:].split('.')[0] if key.startswith('/') else 'backbone'
        for key in relative
    }


def foreign_prefix(dialect: Dialect, relative: State) -> str:
    """The prefix that this dialect gives the backbone of such a model."""
    others = rooms(relative) - {'backbone'}
    if not others:
        return ''
    return dialect.classifier if others == {'head'} else dialect.model


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
    """Without what is not a weight."""
    kept = {}
    for key, value in relative.items():
        for text, reason in NOT_WEIGHTS.items():
            if template(text).read(key) is not None:
                report[f'dropped ({reason})'] += 1
                break
        else:
            kept[key] = value
    return kept
