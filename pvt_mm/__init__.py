"""Pyramid vision transformers for the OpenMMLab libraries.

Importing this package registers ``PVT``, ``PVTv2``, ``MPViT`` and a
classifier in mmengine's root registry, what mmengine writes into checkpoints
as safe to load, and our configs as ``pvt_mm::NAME``. That is all that
``custom_imports = dict(imports=['pvt_mm'])`` needs.
"""

import re
import sys
from pathlib import Path

__version__ = '0.1.0'

# The doctor must run where importing anything else fails, or even crashes.
if not re.search(r'\bpvt_mm[. ]doctor\b', ' '.join(sys.orig_argv)):
    try:
        from .backbones import PVT, MPViT, PVTv2, build_backbone
        from .classifier import PyramidClassifier
        from .engine.safe_load import register_safe_globals
        from .home import config_path, list_configs
        from .hub import join_mmengine
    except ImportError as error:
        message = (
            f'pvt_mm cannot be imported: {error}. '
            'Run "python -m pvt_mm.doctor" to see what to mend.'
        )
        if Path(sys.argv[0]).name in ('-m', 'pvt_mm'):  # started as a program
            sys.exit(f'error: {message}')
        raise ImportError(message) from error
    register_safe_globals()
    join_mmengine()

__all__ = [
    'MPViT',
    'PVT',
    'PVTv2',
    'PyramidClassifier',
    'build_backbone',
    'config_path',
    'list_configs',
]
