"""Map the keys of a state dict by a table, in either direction."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import CheckpointError
from .key_templates import Row, State, Values, parts, template


def map_keys(
    state: State,
    table: Sequence[Row],
    report: Counter,
    back: bool = False,
) -> dict[str, Tensor]:
    """The state dict in the names of the other side.

    Args:
        state: keys of one side, those outside the backbone behind a '/'.
        table: rows of both sides' names.
        report: counts tensors by what was done to them.
        back: from our side to theirs.

    Raises:
        CheckpointError: a key without a row, a part without its partner or
            of another shape, or a shared tensor with several values.
    """
    out: dict[str, Tensor] = {}
    for (row, hashed), found in group(state, table, back).items():
        values = dict(hashed)
        sources, targets = sides(row, back)
        missing = [
            template(text).write(values)
            for part, text in enumerate(sources)
            if part not in found
        ]
        if missing:
            raise CheckpointError(f'incomplete file: no {", ".join(missing)}')
        names = [template(text).write(values) for text in targets]
        try:
            tensors = map_values(row, found, back)
            made = dict(zip(names, tensors, strict=True))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            shapes = [tuple(x.shape) for x in found.values()]
            raise CheckpointError(
                f'{" and ".join(names)} cannot be made from {shapes}: '
                f'{str(error).splitlines()[0]}'
            ) from error
        if row.alias:
            check_alias(names[0], tensors[0], out)
        elif made.keys() & out:
            raise CheckpointError(f'two keys of the file mean {names[0]}')
        out.update(made)
        report[describe(row, back)] += len(found)
    if back:
        out.update(aliases(state, table, report))
    return out


def map_values(
    row: Row, found: Mapping[int, Tensor], back: bool
) -> Sequence[Tensor]:
    """The tensors of the other side, from the parts of this one."""
    sources, targets = sides(row, back)
    tensor = found[0]
    if len(sources) > 1:
        tensor = torch.cat([found[part] for part in range(len(sources))])
    if row.values:
        tensor = row.values[back](tensor)  # to_ours, from_ours
    return split(tensor, row.shares if len(targets) > 1 else (1,))


def sides(row: Row, back: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Templates read and written in that direction."""
    theirs, ours = parts(row.theirs), parts(row.ours)
    return (ours, theirs) if back else (theirs, ours)


def group(
    state: State, table: Sequence[Row], back: bool
) -> dict[tuple[Row, tuple], dict[int, Tensor]]:
    """Collect the parts of each tensor.

    Returns:
        (row, values of its fields) -> number of the part -> its tensor.

    Raises:
        CheckpointError: keys without a row.
    """
    groups, unknown = {}, []
    for key, tensor in state.items():
        match = find_row(key, table, back)
        if match is None:
            unknown.append(key.removeprefix('/'))
            continue
        row, part, values = match
        hashed = tuple(sorted(values.items()))
        groups.setdefault((row, hashed), {})[part] = tensor
    if unknown:
        more = ', ...' if len(unknown) > 5 else ''
        raise CheckpointError(
            f'{len(unknown)} keys have no row in the table: '
            f'{", ".join(unknown[:5])}{more}'
        )
    # Aliases come after the tensors that they repeat.
    return dict(sorted(groups.items(), key=lambda item: item[0][0].alias))


def find_row(
    key: str, table: Iterable[Row], back: bool
) -> tuple[Row, int, Values] | None:
    """The first row that matches a key, the number of the part, its fields."""
    for row in table:
        if row.alias and back:
            continue
        for part, text in enumerate(sides(row, back)[0]):
            values = template(text).read(key)
            if values is not None:
                return row, part, values
    return None


def covers(table: Sequence[Row], state: Iterable[str]) -> bool:
    """Whether every key of our side has a name on theirs."""
    return all(find_row(key, table, back=True) for key in state)


def split(tensor: Tensor, shares: Sequence[int]) -> Sequence[Tensor]:
    """Cut along the first axis into parts of these relative lengths."""
    unit = len(tensor) // sum(shares) if tensor.ndim else 0
    return tensor.split([unit * n for n in shares]) if unit else [tensor]


def check_alias(name: str, tensor: Tensor, out: State) -> None:
    """Require one value of a shared tensor under all its names."""
    other = out.get(name, tensor)
    if other.dtype != tensor.dtype or not torch.equal(other, tensor):
        raise CheckpointError(
            f'the layers of one encoder should share {name}, but the file '
            'has several values for it'
        )


def aliases(
    state: State, table: Sequence[Row], report: Counter
) -> dict[str, Tensor]:
    """Their name -> tensor, for each further name of a shared tensor."""
    out = {}
    for row in table:
        if not row.alias:
            continue
        places = [template(row.alias).read(key) for key in state]
        for key, tensor in state.items():
            values = template(row.ours).read(key)
            if values is None:
                continue
            for place in filter(None, places):
                if all(values.get(k, v) == v for k, v in place.items()):
                    name = template(row.theirs).write({**place, **values})
                    out[name] = tensor
                    report['written under one more name'] += 1
    return out


def describe(row: Row, back: bool) -> str:
    """What a row does, in words."""
    if row.alias:
        return 'dropped (one more name of a shared tensor)'
    sources, targets = sides(row, back)
    if len(sources) > 1:
        return 'merged'
    if len(targets) > 1:
        return 'split'
    if row.values:
        return f'changed ({row.values.text}{", reversed" if back else ""})'
    return 'kept' if sources == targets else 'renamed'
