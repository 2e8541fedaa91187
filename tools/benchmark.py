#!/usr/bin/env python3
"""Measure speed and memory: tools/benchmark.py [TARGET ...], see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pvt_mm.benchmark.cli import main  # noqa: E402
from pvt_mm.engine.cli import run  # noqa: E402

if __name__ == '__main__':
    sys.exit(run(main))
