"""Read a config file, with configs of this and other packages in _base_."""

import os
import re
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from ..compat import config_finder
from ..errors import UsageError
from .paths import SCOPE, config_path

# Modules of version 0.1 that configs import -> where their parts are now.
MOVED = {
    'pvt_mm.heads': 'pvt_mm.models.decode_heads',
    'pvt_mm.classification': 'pvt_mm.datasets and pvt_mm.evaluation',
    'pvt_mm.engine.hooks.first_score': 'pvt_mm.engine.hooks',
}
# Every other one was added to the config in a work dir by a run.
ADDED = ('pvt_mm.engine.', 'pvt_mm.data_check.')


def load_config(name: str | os.PathLike) -> Config:
    """Read a config file.

    Args:
        name: a path, or the name of one of ours. What it inherits may be
            ``pvt_mm::NAME``, or ``PACKAGE::PATH`` of any installed package
            that has its configs in ``.mim/configs``.

    Raises:
        UsageError: there is no such file, or it is no usable config.
    """
    path = str(name) if Path(name).is_file() else config_path(str(name))
    try:
        with config_finder(find_config), warnings.catch_warnings():
            # mmengine asks pkg_resources for inherited files, which warns
            warnings.filterwarnings('ignore', '.*pkg_resources is deprecated')
            return Config.fromfile(path)
    except ImportError as error:
        # mmengine's own message lists all of sys.path
        reason = error.__cause__ or error.__context__ or error
        fix = import_fix(str(reason))
        raise UsageError(f'{path}: {reason}; {fix}') from error
    except Exception as error:  # a config is a program: it may raise any
        reason = str(error).split('\n')[0] or type(error).__name__
        near = nearest_file(reason)
        raise UsageError(
            f'{path} is not a usable config: {reason}{near}'
        ) from error


def find_config(
    name: str, filename: str, find: Callable
) -> tuple[str, str | None]:
    """Path and scope of a config in ``_base_``.

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


def import_fix(reason: str) -> str:
    """What to do about a module that a config imports and nobody has."""
    found = re.search(r'pvt_mm\.[\w.]+', reason)
    module = found[0] if found else ''
    if module in MOVED:
        return (
            f'since pvt_mm 0.2 it is {MOVED[module]}, and CHANGELOG.md lists '
            'the classes with new names'
        )
    if module.startswith(ADDED):
        return (
            'a run of pvt_mm 0.1 wrote this file: give the config that it '
            'was made from; checkpoints of that run are still resumed'
        )
    return 'python -m pvt_mm.doctor says what is missing'


def nearest_file(reason: str) -> str:
    """For a missing file that a config inherits, the nearest that is there."""
    missing = re.search(r"""['"](.+\.py)['"]""", reason)
    if not missing or os.path.exists(missing[1]):
        return ''
    path = Path(missing[1])
    there = [p.name for p in path.parent.glob('*.py')]
    near = get_close_matches(path.name, there, n=3, cutoff=0.5)
    return f'; nearest: {", ".join(near) or "none"}'
