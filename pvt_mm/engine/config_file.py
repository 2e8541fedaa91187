"""Read a config file."""

import os
import re
import warnings
from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config

from ..home import config_path
from .errors import UsageError


def load_config(name: str) -> Config:
    """Read a config file: a path, or the name of one of ours."""
    path = name if Path(name).is_file() else config_path(name)
    # mmengine asks pkg_resources for every inherited file, which warns
    warnings.filterwarnings('ignore', '.*pkg_resources is deprecated.*')
    try:
        return Config.fromfile(path)
    except ImportError as error:
        # mmengine's own message lists all of sys.path
        reason = error.__cause__ or error.__context__ or error
        remedy = 'python -m pvt_mm.doctor says what is missing'
        raise UsageError(f'{path}: {reason}; {remedy}') from error
    except Exception as error:  # a config is a program: it may raise any
        reason = str(error).split('\n')[0] or type(error).__name__
        near = nearest_file(reason)
        raise UsageError(
            f'{path} is not a usable config: {reason}{near}'
        ) from error


def nearest_file(reason: str) -> str:
    """For a missing file that a config inherits, the nearest that is there."""
    missing = re.search(r"""['"](.+\.py)['"]""", reason)
    if not missing or os.path.exists(missing[1]):
        return ''
    path = Path(missing[1])
    there = [p.name for p in path.parent.glob('*.py')]
    near = get_close_matches(path.name, there, n=3, cutoff=0.5)
    return f'; nearest: {", ".join(near) or "none"}'
