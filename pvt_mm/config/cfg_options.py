"""Merge ``--cfg-options`` into a config, and refuse keys that nothing reads.

A key is accepted if the config has it, or if its owner knows it: the
constructor of the owner's ``type``, mmengine's Runner for a key at the top,
torch's DataLoader for a key of a data loader. What lies below a new key is
free, and so is the place after the last entry of a list:
``custom_hooks.1.type=NAME`` adds a second entry to a list of one.
``+KEY=VALUE`` adds any other key.
``data_root=FOLDER`` moves every path that lies below the config's own data
root.
"""

import os
from argparse import ArgumentError
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from ..compat import config_dict
from ..errors import UsageError
from .inheritance import places_of
from .schema import EXTRA, known_keys, read_by_runner, walk


class Options(DictAction):
    """KEY=VALUE pairs of the command line, as a dict."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Store the pairs; refuse what is not KEY=VALUE."""
        for pair in values:
            if '=' not in pair:
                raise ArgumentError(self, f'{pair!r} is not KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge checked options into the config.

    Raises:
        UsageError: a key that nothing would read, with the nearest ones.
    """
    # the data root first, so that a path given beside it is not moved; a dict
    # before what is set in it; its type before the keys that the type knows
    order = sorted(
        options, key=lambda key: (key.count('.'), not key.endswith('type'))
    )
    if 'data_root' in options:
        move_data(cfg, str(options['data_root']))
        order.remove('data_root')
    for key in order:
        plain = key.removeprefix('+')
        if plain == key:
            check(cfg, key)
        make_parents(cfg, plain)
        cfg.merge_from_dict({plain: options[key]})


def check(cfg: Config, key: str) -> None:
    """Stop at a key that nothing reads.

    Raises:
        UsageError: with the nearest keys.
    """
    path = key.split('.')
    if path[0] in cfg and not read_by_runner(cfg, path[0]):
        fail_used(cfg, path)
    node: Any = config_dict(cfg)
    for depth, part in enumerate(path):
        if node is None:
            return
        known: set[str] | None = set()
        if isinstance(node, list | tuple):
            if part.isdigit() and int(part) < len(node):
                node = node[int(part)]
                continue
            if part == str(len(node)) and depth + 1 < len(path):
                return
        elif isinstance(node, Mapping):
            if part in node:
                node = node[part]
                continue
            known = known_keys(path[:depth], node, cfg.get('default_scope'))
        if known is not None and part not in known:
            fail(cfg, key, ['.'.join([*path[:depth], k]) for k in known])
        return


def fail(cfg: Config, key: str, known: list[str]) -> None:
    """Raise UsageError for a key that nothing reads, with the nearest keys.

    Args:
        cfg: the config.
        key: as it was given.
        known: keys that its owner would take.
    """
    names = {name for name, _ in walk(cfg)} | set(known)
    names |= {f'{owner}.{name}' for owner in EXTRA for name in EXTRA[owner]}
    names = {n for n in names if read_by_runner(cfg, n.split('.')[0])}
    near = sorted(n for n in names if n.endswith(f'.{key}'))
    near += get_close_matches(key, sorted(names), n=3, cutoff=0.5)
    raise UsageError(
        f'--cfg-options {key}: nothing in the config reads this key; '
        f'nearest: {", ".join(near[:3]) or "none"}; +{key}=VALUE adds it '
        'anyway'
    )


def fail_used(cfg: Config, path: list[str]) -> None:
    """Raise UsageError for an option that names a variable of the config file.

    The message has the keys that were set from it.
    """
    key = '.'.join(path)
    places = ['.'.join([p, *path[1:]]) for p in places_of(cfg, path[0])]
    places = places or [n for n, _ in walk(cfg) if n.endswith(f'.{key}')]
    raise UsageError(
        f'--cfg-options {key}: {path[0]} is only a name inside '
        'the config file and is not read any more; set '
        f'{" and ".join(places) or "the keys that use it"} instead'
    )


def make_parents(cfg: Config, key: str) -> None:
    """Make the dicts around a new key, in place of None or after a list."""
    node = config_dict(cfg)
    for part in key.split('.')[:-1]:
        if isinstance(node, list | tuple):
            if part == str(len(node)):
                node.append(ConfigDict())
            node = node[int(part)]
            continue
        if node.get(part) is None:
            node[part] = ConfigDict()
        node = node[part]


def move_data(cfg: Config, folder: str) -> None:
    """Put a folder in place of the config's data root, in every path.

    Raises:
        UsageError: the config has no data_root.
    """
    if 'data_root' not in cfg:
        raise UsageError(
            '--cfg-options data_root: this config names no data_root; set '
            'train_dataloader.dataset.data_root and the like'
        )
    old = cfg.data_root.rstrip('/')
    for name, value in list(walk(cfg)):
        if isinstance(value, str) and f'{value}/'.startswith(f'{old}/'):
            rest = value.removeprefix(old).lstrip('/')
            moved = os.path.join(folder, rest) if rest else folder
            cfg.merge_from_dict({name: moved})
