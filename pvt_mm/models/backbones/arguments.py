"""Check the arguments of a backbone.

All functions raise ValueError with the argument's name, its value and what
it must be.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, TypeVar

Row = TypeVar('Row')


def resolve_arch(
    family: str, archs: Mapping[str, Row], arch: str | Mapping[str, Any]
) -> Row:
    """The row of a name in the table, or a row made of a dict's fields.

    Args:
        family: name of the backbone, for messages.
        archs: the family's table.
        arch: a name in it, or the fields of a row.

    Raises:
        ValueError: an unknown name (with the nearest ones) or field, or
            fields that describe different numbers of stages.
    """
    row = type(next(iter(archs.values())))
    fields = ', '.join(row._fields)
    if isinstance(arch, str):
        if arch not in archs:
            near = get_close_matches(arch, archs, cutoff=0) or archs
            raise ValueError(
                f'{family} has no arch {arch!r}; nearest: {", ".join(near)}'
            )
        return archs[arch]
    if not isinstance(arch, Mapping):
        raise ValueError(
            f'{family}: arch={arch!r} must be one of {", ".join(archs)}, or a '
            f'dict of {fields}'
        )
    unknown = set(arch) - set(row._fields)
    missing = set(row._fields) - set(row._field_defaults) - set(arch)
    if unknown or missing:
        raise ValueError(
            f'{family} arch {dict(arch)}: unknown {sorted(unknown)}, missing '
            f'{sorted(missing)}; the fields are {fields}'
        )
    custom = row(**arch)
    check_row(family, custom)
    return custom


def check_row(family: str, row: Any) -> None:
    """Require positive whole numbers, one per stage in every field."""
    lengths = {}
    for name, value in row._asdict().items():
        if name == 'linear':
            check_arguments(family, linear=value)
            continue
        if not (
            isinstance(value, list | tuple)
            and all(is_whole(entry) and entry > 0 for entry in value)
        ):
            raise ValueError(
                f'{family} arch: {name}={value!r} must be a list of whole '
                'numbers from 1 on, one per stage'
            )
        lengths[name] = len(value)
    if len(set(lengths.values())) > 1 or not lengths['depths']:
        raise ValueError(
            f'{family} arch: one entry per stage in every field, got {lengths}'
        )


def check_arguments(family: str, **given: Any) -> None:
    """Require that each argument passes its test in CHECKS."""
    for name, value in given.items():
        fits, wanted = CHECKS[name]
        if not fits(value):
            raise ValueError(f'{family}: {name}={value!r} must be {wanted}')


def is_whole(value: Any) -> bool:
    """Whether a value is an integer; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_flag(value: Any) -> bool:
    """Whether a value is True or False."""
    return isinstance(value, bool)


def is_init_cfg(value: Any) -> bool:
    """Whether a value can be mmengine's init_cfg."""
    cfgs = value if isinstance(value, list | tuple) else [value]
    return value is None or all(isinstance(cfg, Mapping) for cfg in cfgs)


FLAG = (is_flag, 'True or False')
# Argument -> a test of its value, and what the value must be.
CHECKS = {
    'in_channels': (
        lambda n: is_whole(n) and n > 0,
        'the number of channels of an image, a whole number from 1 on',
    ),
    'drop_path_rate': (
        lambda rate: isinstance(rate, Real) and 0 <= rate < 1,
        'a probability in [0, 1)',
    ),
    'linear': (lambda on: on is None or is_flag(on), 'True, False or None'),
    'class_token': FLAG,
    'norm_eval': FLAG,
    'with_cp': FLAG,
    'init_cfg': (
        is_init_cfg,
        "None or dict(type='Pretrained', checkpoint='pvt://NAME')",
    ),
}


def check_indices(
    family: str, out_indices: Sequence[int], stages: int
) -> tuple[int, ...]:
    """Require that out_indices rise within the stages -> as a tuple."""
    given = isinstance(out_indices, list | tuple)
    whole = given and all(is_whole(i) for i in out_indices)
    rising = whole and list(out_indices) == sorted(set(out_indices))
    if (
        not rising
        or not out_indices
        or out_indices[0] < 0
        or out_indices[-1] >= stages
    ):
        raise ValueError(
            f'{family}: out_indices={out_indices!r} must rise within '
            f'0..{stages - 1}, for example {tuple(range(stages))}'
        )
    return tuple(out_indices)


def check_frozen(family: str, frozen_stages: int, depth: int) -> None:
    """Require frozen_stages from -1 to the number of stages built, depth."""
    if not (is_whole(frozen_stages) and -1 <= frozen_stages <= depth):
        raise ValueError(
            f'{family}: frozen_stages={frozen_stages!r} is not in -1..{depth}'
            ', the number of stages that out_indices need; -1 freezes none'
        )
