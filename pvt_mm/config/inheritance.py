"""Find what a config file sets itself, and what of it has no effect."""

import ast
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from .paths import SCOPE, config_path
from .saved import literals
from .schema import bare, read_by_runner, walk


def unused_names(path: str) -> set[str]:
    """Top-level names that a Python config assigns and does not use."""
    if not path.endswith('.py'):
        return set()
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    targets = [n.targets for n in tree.body if isinstance(n, ast.Assign)]
    return {ast.unparse(target) for (target, *_) in targets} - used


def find_config(
    name: str, filename: str, find: Callable
) -> tuple[str, str | None]:
    """Path and scope of a config in ``_base_``; no scope for ours.

    Args:
        name: a path, or ``PACKAGE::PATH``.
        filename: the config that inherits it.
        find: mmengine's own function, for what is not found here.
    """
    package, mark, path = name.partition('::')
    if name.startswith(SCOPE):
        # ours name their scopes themselves, like files beside filename
        return config_path(name), None
    spec = find_spec(package) if mark else None
    if spec and spec.origin:
        found = Path(spec.origin).parent / '.mim/configs' / path
        if found.is_file():
            return str(found), package
    return find(name, filename)


def inherited_files(path: str) -> Iterator[str]:
    """What a Python config names in ``_base_`` or imports in read_base()."""
    text = Path(path).read_text(encoding='utf-8')
    given = literals(text).get('_base_') or []
    for name in [given] if isinstance(given, str) else given:
        beside = str(Path(path).parent / name)
        yield find_config(name, path, lambda *_, it=beside: (it, None))[0]
    for block in ast.parse(text).body:
        for node in block.body if isinstance(block, ast.With) else []:
            if node.level:
                folder = Path(path).absolute().parents[node.level - 1]
                yield str(folder / f'{node.module.replace(".", "/")}.py')
            elif spec := find_spec(node.module):
                yield spec.origin


def places_of(cfg: Config, name: str) -> list[str]:
    """The keys that were set from a name of the config file.

    They are found by their values: those of the same name, else all.
    """
    old = bare(cfg[name])
    begin = old if isinstance(old, str) and len(old) > 1 else None
    places = [
        key
        for key, value in walk(cfg)
        if read_by_runner(cfg, key.split('.')[0])
        and (
            bare(value) == old
            or (begin and isinstance(value, str) and value.startswith(begin))
        )
    ]
    alike = [key for key in places if key.split('.')[-1] == name]
    return alike or ([] if old in (None, 0, 1) else places)


def warn_of_names_without_effect(
    cfg: Config, load: Callable[[str], Config]
) -> None:
    """Print the names of a file whose inherited values were used before.

    Args:
        cfg: the config.
        load: reads an inherited config, by its path or PACKAGE::NAME.
    """
    names = [n for n in unused_names(cfg.filename) if n in cfg]
    names = sorted(n for n in names if not read_by_runner(cfg, n))
    if not names:
        return
    files = filter(os.path.isfile, inherited_files(cfg.filename))
    bases, now = list(map(load, files)), dict(walk(cfg))
    for name in names:
        for base in bases:
            if name not in base or bare(base[name]) == bare(cfg[name]):
                continue
            before = dict(walk(base))
            places = [
                key
                for key in places_of(base, name)
                if key in now and bare(now[key]) == bare(before[key])
            ]
            if places and os.environ.get('RANK', '0') == '0':
                print(
                    f'warning: {cfg.filename}: {name} has no effect here, '
                    'because an inherited file has used its own value: set '
                    f'{" and ".join(places[:4])}',
                    file=sys.stderr,
                )
