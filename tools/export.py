#!/usr/bin/env python3
"""Write a model as ONNX or .pt2: tools/export.py CONFIG|ARCH [WEIGHTS]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    from pvt_mm.verbs import start
except ImportError as error:
    sys.exit(f'error: {error} (by {sys.executable}; is .venv activated?)')

if __name__ == '__main__':
    sys.exit(start('export'))
