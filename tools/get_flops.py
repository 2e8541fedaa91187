#!/usr/bin/env python3
"""Count parameters and FLOPs: tools/get_flops.py [CONFIG ...] [--size H W]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pvt_mm.analysis.cli import main  # noqa: E402
from pvt_mm.engine.cli import run  # noqa: E402

if __name__ == '__main__':
    sys.exit(run(main))
