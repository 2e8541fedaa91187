"""Turn an error while something is built from a config into one sentence."""

import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS

from ..compat import config_dict
from ..errors import UsageError, nearest_names
from .data_files import check_json_files, no_images
from .schema import bare, find_class, known_keys, walk

ARGUMENT = re.compile(r"(\w+)\.__init__\(\) .*keyword argument '(\w+)'")
NOT_THERE = re.compile(r'(\S+) is not in the (\w+)::([\w ]+) registry')
# Packages of the classes that a config names; others are the user's.
LIBRARIES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'torch', 'pvt_mm')
SCOPES = ('mmdet', 'mmseg', 'mmengine')
MOST = 500  # characters of a message; some have a whole file in them
# What a wrong config raises outside the constructors that it names.
FROM_CONFIG = (
    AssertionError,
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
)


class Part(NamedTuple):
    """A dict of the config that something was to be built from.

    Args:
        cfg: the dict.
        registry: where its type is looked up.
    """

    cfg: Mapping
    registry: Any


@contextmanager
def building(cfg: Config, name: str, *, all_errors: bool = True) -> Iterator:
    """Context: an error while a run is built becomes one sentence.

    An exception that passed code outside LIBRARIES is a bug of that code, and
    passes with its traceback.

    Args:
        cfg: the config of the run.
        name: of the config file.
        all_errors: also FROM_CONFIG outside the constructors of the
            config's parts.

    Raises:
        UsageError: something cannot be built.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        if getattr(error, 'name', None) and isinstance(error, ImportError):
            raise  # the doctor may know it
        part = failed_part(error)
        if part is None and not (
            all_errors and isinstance(error, FROM_CONFIG)
        ):
            raise
        if passed_own_code(error):
            raise
        check_json_files(cfg)
        if 'need at least one array' in str(error):  # mmengine's empty set
            raise UsageError(no_images(part.cfg if part else {})) from error
        raise UsageError(
            f'{name} cannot be built: {sentence(cfg, part, error)}'
        ) from error


def failed_part(error: Exception) -> Part | None:
    """The innermost part that mmengine was building; None outside of all."""
    part = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = frame.f_locals
        if frame.f_code.co_name == 'build_from_cfg' and 'registry' in found:
            part = Part(found['cfg'], found['registry'])
    return part


def passed_own_code(error: Exception) -> bool:
    """Whether an error passed code of the user's own."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = frame.f_globals.get('__name__', '').split('.')[0]
        if (
            package not in LIBRARIES
            and package not in sys.stdlib_module_names
            and '-packages' not in frame.f_code.co_filename
        ):
            return True
    return False


def sentence(cfg: Config, part: Part | None, error: Exception) -> str:
    """What failed, where in the config, and what would fit."""
    text = message(error)
    if 'must contain the key "type"' in text and part:
        return f'{key_of(cfg, part)} has no type: name the class to build'
    if unknown := NOT_THERE.search(text):
        return unknown_type(cfg, part, *unknown.groups())
    if 'None is not a callable' in text:  # mmengine looks no further
        optimizer = Part(cfg.optim_wrapper.optimizer, OPTIMIZERS)
        kind, scope = optimizer.cfg.get('type'), cfg.get('default_scope')
        return unknown_type(cfg, optimizer, kind, scope, 'optimizer')
    if argument := ARGUMENT.search(text):
        return unknown_argument(cfg, part, *argument.groups())
    where = key_of(cfg, part) if part else type(error).__name__
    return f'{where}: {first_line(error).rstrip(".:")}{in_xml_file(error)}'


def in_xml_file(error: Exception) -> str:
    """', in FILE' that mmdet's XMLDataset failed to read, or ''."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        info = frame.f_locals.get('img_info')
        if isinstance(info, Mapping) and 'xml_path' in info:
            # 'NoneType' has no attribute 'find': the code says of what
            bare = isinstance(error, AttributeError)
            code = f' ({failed_line(error)})' if bare else ''
            return f', in {info["xml_path"]:.{MOST}}{code}'
    return ''


def key_of(cfg: Config, part: Part) -> str:
    """The dotted name of a part in the config."""
    kind = part.cfg.get('type')
    nodes = [(n, v) for n, v in walk(cfg) if isinstance(v, Mapping)]
    same = [n for n, v in nodes if bare(v) == bare(part.cfg)]
    alike = [n for n, v in nodes if kind and v.get('type') == kind]
    return (same or alike or [str(kind)])[0]


def unknown_type(
    cfg: Config, part: Part | None, kind: str, scope: str, registry: str
) -> str:
    """Sentence on a type that its registry does not have."""
    ends = ('type', 'constructor')
    names = [n for n, v in walk(cfg) if v == kind and n.endswith(ends)]
    key = f'{names[0] if names else "type"}={kind!r}'
    near = nearest_names(kind, known_types(part))
    others = [s for s in SCOPES if s != scope and find_class(kind, s)]
    if not others:
        return f'{key} is no {registry} of {scope}; {near}'
    wanted, given = others[0], cfg.get('default_scope')
    if scope == 'mmengine':
        return (
            f'{key} belongs to {wanted}, but default_scope is {given!r}: '
            f"write default_scope = '{wanted}'"
        )
    return (
        f'{key} belongs to {wanted}, but default_scope is {given!r}: take one '
        f'of {scope} ({near}), or write {wanted}.{kind} if you mean to mix '
        'them'
    )


def known_types(part: Part | None) -> list[str]:
    """The names that a part's type may have, those of all libraries too."""
    names, registry = [], part and part.registry
    while registry is not None:
        names += registry.module_dict
        registry = registry.parent
    return sorted(names)


def unknown_argument(
    cfg: Config, part: Part | None, owner: str, argument: str
) -> str:
    """Sentence on an argument that a constructor does not take."""
    inside = key_of(cfg, part) if part else ''
    nodes = {'': config_dict(cfg)} | dict(walk(cfg))
    keys = [key for key in nodes if key.split('.')[-1] == argument]
    keys.sort(key=lambda key: not key.startswith(inside))
    if not keys:
        return f'{inside or owner}: {owner} takes no {argument}'
    path = keys[0].split('.')[:-1]
    known = known_keys(path, nodes['.'.join(path)], cfg.get('default_scope'))
    near = nearest_names(argument, {*(known or ())} - {argument})
    if path and near == 'nearest: none':
        near += (
            '; if it is inherited, replace the whole dict: write '
            f'{path[-1]}=dict(_delete_=True, ...)'
        )
    return f'{keys[0]}: {owner} takes no {argument}; {near}'


def message(error: Exception) -> str:
    """An error's message; a KeyError's without quotes around it."""
    quoted = isinstance(error, KeyError) and error.args
    text = str(error.args[0] if quoted else error).strip()
    return f'{text[:MOST]} ...' if text[MOST:] else text


def first_line(error: Exception) -> str:
    """First line of an error's message; without one, the code that failed."""
    if text := message(error):
        return text.splitlines()[0]
    return f'expected {failed_line(error).removeprefix("assert ")}'


def failed_line(error: Exception) -> str:
    """The line of code that raised an error."""
    return traceback.extract_tb(error.__traceback__)[-1].line
