"""Read a config file, with configs of this and other packages in _base_."""

import os
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings

from ..compat import config_finder
from ..errors import UsageError, nearest_names
from .build_errors import LIBRARIES
from .cfg_options import merge_options
from .checks import check_config
from .inheritance import find_config, warn_of_names_without_effect
from .paths import config_path
from .types import name_types

# Modules of version 0.1 that configs import -> where their parts are now.
MOVED = {
    'pvt_mm.backbones': 'pvt_mm.models.backbones',
    'pvt_mm.layers': 'pvt_mm.models.layers',
    'pvt_mm.heads': 'pvt_mm.models.decode_heads',
    'pvt_mm.classifier': 'pvt_mm.models.classifiers',
    'pvt_mm.classification': (
        'pvt_mm.datasets, pvt_mm.evaluation and pvt_mm.models.classifiers'
    ),
    'pvt_mm.engine.hooks.first_score': 'pvt_mm.engine.hooks',
}
# mmengine's message where a dict stands over a list.
LIST_IN_BASE = r"(\w+)=.* but is of type <class 'list'> in base config"
# Others, which a run of version 0.1 added to the config in its work dir.
ADDED = ('pvt_mm.engine.', 'pvt_mm.data_check')


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
            cfg = Config.fromfile(path, import_custom_modules=False)
            import_modules(cfg)
            return name_types(cfg)
    except UsageError:
        raise
    except ImportError as error:
        # mmengine's own message lists all of sys.path
        failed = error.__cause__ or error
        reason = failed.__context__ or failed
        said = ': '.join(dict.fromkeys((str(failed), str(reason))))
        raise UsageError(f'{path}: {said}; {import_fix(reason)}') from error
    except Exception as error:  # a config is a program: it may raise any
        if name := re.match(LIST_IN_BASE, str(error)):
            raise UsageError(
                f'{path}: {name[1]} is a list in the config that it inherits '
                f'from: write the whole list, {name[1]}=[dict(...), ...]'
            ) from error
        reason = str(error).split('\n')[0] or type(error).__name__
        near = nearest_file(reason)
        raise UsageError(
            f'{path} is not a usable config: {reason}{near}'
        ) from error


def load_model_config(name: str | os.PathLike) -> Config:
    """Read a config whose model is to be looked at, and not trained.

    In place of mmdet's semi-supervised models, which train two detectors, it
    gets the detector that they are made of.

    Args:
        name: as :func:`load_config` takes it.

    Raises:
        UsageError: as there, or its model has no backbone.
    """
    cfg = load_config(name)
    model = cfg.get('model') or {}
    cfg.model = model.get('detector') or model
    if 'type' not in (cfg.model.get('backbone') or {}):
        raise UsageError(f'{cfg.filename}: model has no backbone')
    return cfg


def import_modules(cfg: Config) -> None:
    """Import custom_imports, from the current and the config's folder too.

    Raises:
        ImportError: a module cannot be imported.
        UsageError: custom_imports is no dict.
    """
    for folder in (os.getcwd(), str(Path(cfg.filename).absolute().parent)):
        if folder not in sys.path:
            sys.path.append(folder)
    given = cfg.get('custom_imports') or {}
    if not isinstance(given, Mapping):
        raise UsageError(
            f'{cfg.filename}: custom_imports={given!r} must be a dict: write '
            'custom_imports = dict(imports=[...])'
        )
    if isinstance(given.get('imports'), str):
        given.imports = [given.imports]
    if given:
        import_modules_from_strings(**given)


def open_config(
    name: str | os.PathLike, options: Mapping[str, Any] | None
) -> Config:
    """Read a config, change it, and make its default scope the current one.

    Args:
        name: a path, or the name of one of ours.
        options: what ``--cfg-options`` gave; None if nothing.

    Raises:
        UsageError: there is no such file, it is no usable config, or nothing
            reads an option.
    """
    cfg = load_config(name)
    merge_options(cfg, options or {})
    check_config(cfg)
    warn_of_names_without_effect(cfg, load_config)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    return cfg


def import_fix(reason: BaseException) -> str:
    """What to do about an error while a config imports a module."""
    missing = isinstance(reason, ModuleNotFoundError)
    module = (missing and reason.name) or ''
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
    if module and module.split('.')[0] not in LIBRARIES:
        return 'install it, or put its folder on PYTHONPATH'
    return 'pvt_mm doctor says what is missing'


def nearest_file(reason: str) -> str:
    """For a message on a missing inherited file: the nearest names, or ''."""
    missing = re.search(r"""['"](.+\.py)['"]""", reason)
    if not missing or os.path.exists(missing[1]):
        return ''
    path = Path(missing[1])
    there = [p.name for p in path.parent.glob('*.py')]
    return f'; {nearest_names(path.name, there)}'
