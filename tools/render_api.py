#!/usr/bin/env python3
"""Write docs/api.md from the docstrings of the public names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pvt_mm.engine.ending import run  # noqa: E402
from pvt_mm.reference import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(run(main))
