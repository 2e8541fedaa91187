#!/usr/bin/env python3
"""Evaluate a model: tools/test.py CONFIG CHECKPOINT [options]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    from pvt_mm.cli import start
except ImportError as error:
    sys.exit(f'error: {error} (by {sys.executable}; is .venv activated?)')

if __name__ == '__main__':
    sys.exit(start('test'))
