#!/usr/bin/env python3
"""Write the generated pages: ``tools/render_pages.py [NAME ...]``.

A name is api, flops, performance, recipes or results; without one all are
written except flops, which takes minutes.
"""

import sys
from importlib import import_module
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
sys.path[:0] = [str(TOOLS), str(TOOLS.parent)]

PAGES = ('api', 'performance', 'recipes', 'results')

if __name__ == '__main__':
    for name in sys.argv[1:] or PAGES:
        import_module(f'render.{name}').main()
