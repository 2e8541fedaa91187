"""Check the installed libraries; exit status 1 if one is broken."""

import argparse

from .checks import CHECKS
from .examine import examine


def main() -> int:
    """Run the checks named on the command line, or all -> exit status."""
    parser = argparse.ArgumentParser('pvt_mm doctor', description=__doc__)
    parser.add_argument(
        'checks', nargs='*', metavar='CHECK', help=', '.join(CHECKS)
    )
    names = parser.parse_args().checks
    for name in names:
        if name not in CHECKS:
            parser.error(
                f'no check is called {name!r}; there are: ' + ', '.join(CHECKS)
            )
    return examine(names or list(CHECKS))


if __name__ == '__main__':
    raise SystemExit(main())
