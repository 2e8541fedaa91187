"""Build the config of a run from a file and the command line."""

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from ..checkpoints import locate
from ..config.cfg_options import merge_options
from ..config.loading import load_config
from ..config.schema import bare, check_names
from ..errors import UsageError

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
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.before = bare(cfg.to_dict())
        self.found: list[Change] = []

    def note(self, step: str) -> None:
        """Attribute what changed since the last note to a step."""
        now = bare(self.cfg.to_dict())
        self.found += [
            Change(key, old, new, step)
            for key, old, new in differences(self.before, now)
        ]
        self.before = now

    def log(self) -> None:
        """Write all changes into the log of the run."""
        lines = ['Changes of the config:', *map(str, self.found)]
        if not self.found:
            lines = ['The config is used as it is in the file.']
        print_log('\n  '.join(lines), 'current')


def differences(old: Any, new: Any, key: str = '') -> Iterator[tuple]:
    """(key, old value, new value) of each part of two configs that differs."""
    below = f'{key}.' if key else ''
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = dict.fromkeys([*old, *new])
        pairs = [(n, old.get(n, ABSENT), new.get(n, ABSENT)) for n in names]
    elif is_list(old) and is_list(new) and len(old) <= len(new):
        longer = [*old, *[ABSENT] * (len(new) - len(old))]
        pairs = list(zip(range(len(new)), longer, new, strict=True))
    else:
        if old is ABSENT or new is ABSENT or old != new:
            yield key, old, new
        return
    for name, a, b in pairs:
        yield from differences(a, b, f'{below}{name}')


def is_list(value: Any) -> bool:
    """Whether a value of a config is a list."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def read_run_config(args: Namespace) -> tuple[Config, ConfigChanges]:
    """Read the config file, and merge --cfg-options and --work-dir into it.

    Raises:
        UsageError: the file or an option cannot be used.
    """
    cfg = load_config(args.config)
    changes = ConfigChanges(cfg)
    merge_options(cfg, args.cfg_options or {})
    changes.note('--cfg-options')
    check_names(cfg)
    if not isinstance(cfg.get('model'), Mapping):
        raise UsageError(
            f'{args.config}: model={cfg.get("model")!r} must be a dict with '
            'a type'
        )
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    changes.note('--work-dir')
    return cfg, changes


def allow_partial_weights(cfg: Config) -> None:
    """Let the backbone start from weights that miss some parameters."""
    weights = cfg.model.get('backbone', {}).get('init_cfg')
    if not weights:
        raise UsageError(
            '--allow-partial-weights: the config of the backbone names no '
            'weights (model.backbone.init_cfg)'
        )
    weights.allow_partial = True


def start_from(cfg: Config, *, partial: bool) -> None:
    """Start from a checkpoint of a whole model, if the config names one.

    Args:
        cfg: the config; ``load_from`` becomes a local file.
        partial: the checkpoint may miss parameters of the backbone, which
            then keeps its own weights.
    """
    if not cfg.get('load_from'):
        return
    cfg.load_from = str(locate(cfg.load_from))
    # every weight comes from there: download no others for nothing
    if not partial and cfg.model.get('backbone', {}).get('init_cfg'):
        cfg.model.backbone.init_cfg = None
