"""Pyramid vision transformers for the OpenMMLab libraries.

Importing this package registers ``PVT``, ``PVTv2``, ``MPViT`` and a
classifier with its preprocessors in mmengine's root registry, ``pvt://``
addresses of weights in its checkpoint loader, and tells torch which plain
classes mmengine writes into its checkpoints. That is all that
``custom_imports = dict(imports=['pvt_mm'])`` needs.
"""

import re
import sys
from typing import Any

__version__ = '0.2.0'

# The doctor must run where importing anything else fails, or even crashes.
if not re.search(r'\bpvt_mm[. ]doctor\b', ' '.join(sys.orig_argv)):
    try:
        from .compat import add_safe_globals
        from .config.paths import config_path, list_configs
        from .models import (
            PVT,
            MPViT,
            PVTv2,
            PyramidClassifier,
            build_backbone,
        )
    except ImportError as error:
        raise ImportError(
            f'pvt_mm cannot be imported: {error}. Run "python -m '
            'pvt_mm.doctor" to see what to install.',
            name=__name__,
        ) from error
    add_safe_globals()


def __getattr__(name: str) -> Any:
    """get_config and get_model, which read the table of published weights."""
    if name in ('get_config', 'get_model'):
        from .reproduction import hub

        return getattr(hub, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = [
    'MPViT',
    'PVT',
    'PVTv2',
    'PyramidClassifier',
    'build_backbone',
    'config_path',
    'get_config',
    'get_model',
    'list_configs',
]
