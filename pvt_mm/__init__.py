"""Pyramid vision transformers for the OpenMMLab libraries.

Importing this package registers ``PVT``, ``PVTv2``, ``MPViT`` and a
classifier in mmengine's root registry, and what mmengine writes into
checkpoints as safe to load. That is all that
``custom_imports = dict(imports=['pvt_mm'])`` needs.
"""

import sys

__version__ = '0.1.0'

# The doctor must run where importing anything else fails, or even crashes.
if 'pvt_mm.doctor' not in sys.orig_argv:
    try:
        from .backbones import PVT, MPViT, PVTv2
        from .classifier import PyramidClassifier
        from .engine.safe_load import register_safe_globals
    except ImportError as error:
        raise ImportError(
            f'pvt_mm cannot be imported: {error}. '
            'Run "python -m pvt_mm.doctor" to see what to mend.'
        ) from error
    register_safe_globals()

__all__ = ['MPViT', 'PVT', 'PVTv2', 'PyramidClassifier']
