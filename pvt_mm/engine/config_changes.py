"""Record what the steps of a run change in the user's config."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from ..config.schema import bare

ABSENT = object()  # in place of the value of a key that is not there


class Change(NamedTuple):
    """A key of the config that a step of the run changed.

    Attributes:
        key: with dots.
        old: its value before; ABSENT for a new key.
        new: its value after; ABSENT for a removed key.
        step: name of the step.
    """

    key: str
    old: Any
    new: Any
    step: str

    def __str__(self) -> str:
        if self.old is ABSENT:
            return f'{self.key}: added {self.new!r} ({self.step})'
        if self.new is ABSENT:
            return f'{self.key}: removed {self.old!r} ({self.step})'
        return f'{self.key}: {self.old!r} -> {self.new!r} ({self.step})'


class ConfigChanges:
    """The changes of a config since it was read, by the steps that made them.

    Args:
        cfg: the config; it is compared with itself as it is now.

    Attributes:
        found: the changes that were noted.
        remarks: sentences of the steps for the log of the run, which does
            not exist yet.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.before = bare(cfg.to_dict())
        self.found: list[Change] = []
        self.remarks: list[str] = []

    def note(self, step: str) -> None:
        """Attribute what changed since the last note to a step."""
        now = bare(self.cfg.to_dict())
        self.found += [
            Change(key, old, new, step)
            for key, old, new in differences(self.before, now)
        ]
        self.before = now

    def log(self) -> None:
        """Write all changes and remarks into the log of the run."""
        lines = ['Changes of the config:', *map(str, self.found)]
        if not self.found:
            lines = ['The config is used as it is in the file.']
        for text in ('\n  '.join(lines), *self.remarks):
            print_log(text, 'current')


def differences(old: Any, new: Any, key: str = '') -> Iterator[tuple]:
    """(key, old value, new value) of each part of two configs that differs.

    Args:
        old: a config, or part of one, as :func:`bare` gives it.
        new: the same, later.
        key: dotted name of the part.
    """
    below = f'{key}.' if key else ''
    lists = isinstance(old, list) and isinstance(new, list)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = dict.fromkeys([*old, *new])
        pairs = [(n, old.get(n, ABSENT), new.get(n, ABSENT)) for n in names]
    elif lists and len(old) <= len(new):
        longer = [*old, *[ABSENT] * (len(new) - len(old))]
        pairs = list(zip(range(len(new)), longer, new, strict=True))
    else:
        if old is ABSENT or new is ABSENT or old != new:
            yield key, old, new
        return
    for name, a, b in pairs:
        yield from differences(a, b, f'{below}{name}')
