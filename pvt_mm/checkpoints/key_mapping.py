"""Apply a table of rules to a state dict, in either direction."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import CheckpointError
from .key_templates import Rule, Values, parts, template
from .value_changes import CHANGES

Row = tuple[Rule, int, Values]


def translate(
    state: Mapping[str, Tensor],
    rules: Sequence[Rule],
    report: Counter,
    back: bool = False,
) -> dict[str, Tensor]:
    """The state dict in the names of the other side.

    Args:
        state: keys of one side, those outside the backbone behind a '/'.
        rules: the table.
        report: counts tensors by what was done to them.
        back: from our side to the foreign one.

    Raises:
        CheckpointError: a key without a row, a part without its partner or
            of another shape, or a tensor with several values.
    """
    out: dict[str, Tensor] = {}
    for (rule, hashed), found in group(state, rules, back).items():
        values = dict(hashed)
        sources, targets = sides(rule, back)
        missing = [
            template(text).write(values)
            for part, text in enumerate(sources)
            if part not in found
        ]
        if missing:
            raise CheckpointError(f'incomplete file: no {", ".join(missing)}')
        names = [template(text).write(values) for text in targets]
        try:
            tensors = reshaped(rule, found, back)
            made = dict(zip(names, tensors, strict=True))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            shapes = [tuple(x.shape) for x in found.values()]
            raise CheckpointError(
                f'{" and ".join(names)} cannot be made from {shapes}: '
                f'{str(error).splitlines()[0]}'
            ) from error
        if rule.alias:
            check_alias(names[0], tensors[0], out)
        elif made.keys() & out:
            raise CheckpointError(f'two keys of the file mean {names[0]}')
        out.update(made)
        report[describe(rule, back)] += len(found)
    if back:
        out.update(aliases(state, rules, report))
    return out


def reshaped(
    rule: Rule, found: Mapping[int, Tensor], back: bool
) -> Sequence[Tensor]:
    """The tensors of the other side, from the parts of this one."""
    sources, targets = sides(rule, back)
    tensor = found[0]
    if len(sources) > 1:
        tensor = torch.cat([found[part] for part in range(len(sources))])
    if rule.change:
        change = CHANGES[rule.change]
        tensor = (change.from_ours if back else change.to_ours)(tensor)
    return split(tensor, rule.shares if len(targets) > 1 else (1,))


def sides(rule: Rule, back: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Templates read and written in that direction."""
    foreign, ours = parts(rule.foreign), parts(rule.ours)
    return (ours, foreign) if back else (foreign, ours)


def group(
    state: Mapping[str, Tensor], rules: Sequence[Rule], back: bool
) -> dict[tuple[Rule, tuple], dict[int, Tensor]]:
    """The parts of each tensor: (rule, values of its holes) -> part."""
    groups, unknown = {}, []
    for key, tensor in state.items():
        row = find_row(key, rules, back)
        if row is None:
            unknown.append(key.removeprefix('/'))
            continue
        rule, part, values = row
        hashed = tuple(sorted(values.items()))
        groups.setdefault((rule, hashed), {})[part] = tensor
    if unknown:
        more = ', ...' if len(unknown) > 5 else ''
        raise CheckpointError(
            f'{len(unknown)} keys have no row in the table: '
            f'{", ".join(unknown[:5])}{more}'
        )
    # Aliases come after the tensors that they repeat.
    return dict(sorted(groups.items(), key=lambda item: item[0][0].alias))


def find_row(key: str, rules: Iterable[Rule], back: bool) -> Row | None:
    """The first row that fits, which of its parts, and the holes' values."""
    for rule in rules:
        if rule.alias and back:
            continue
        for part, text in enumerate(sides(rule, back)[0]):
            values = template(text).read(key)
            if values is not None:
                return rule, part, values
    return None


def covers(rules: Sequence[Rule], state: Iterable[str]) -> bool:
    """Whether every key of our side has a foreign name."""
    return all(find_row(key, rules, back=True) for key in state)


def split(tensor: Tensor, shares: Sequence[int]) -> Sequence[Tensor]:
    """Cut along the first axis into parts of these relative lengths."""
    unit = len(tensor) // sum(shares) if tensor.ndim else 0
    return tensor.split([unit * n for n in shares]) if unit else [tensor]


def check_alias(name: str, tensor: Tensor, out: Mapping[str, Tensor]) -> None:
    """A shared tensor has one value under all its names."""
    other = out.get(name, tensor)
    if other.dtype != tensor.dtype or not torch.equal(other, tensor):
        raise CheckpointError(
            f'the layers of one encoder should share {name}, but the file '
            'has several values for it'
        )


def aliases(
    state: Mapping[str, Tensor], rules: Sequence[Rule], report: Counter
) -> dict[str, Tensor]:
    """The further foreign names of shared tensors."""
    out = {}
    for rule in rules:
        if not rule.alias:
            continue
        places = [template(rule.alias).read(key) for key in state]
        for key, tensor in state.items():
            values = template(rule.ours).read(key)
            if values is None:
                continue
            for place in filter(None, places):
                if all(values.get(k, v) == v for k, v in place.items()):
                    name = template(rule.foreign).write({**place, **values})
                    out[name] = tensor
                    report['written under one more name'] += 1
    return out


def describe(rule: Rule, back: bool) -> str:
    """What a row does, in words."""
    if rule.alias:
        return 'dropped (one more name of a shared tensor)'
    sources, targets = sides(rule, back)
    if len(sources) > 1:
        return 'merged'
    if len(targets) > 1:
        return 'split'
    if rule.change:
        words = CHANGES[rule.change].text
        return f'changed ({words}{", reversed" if back else ""})'
    return 'kept' if sources == targets else 'renamed'
