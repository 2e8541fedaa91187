"""Run the checks and print their findings; standard library only."""

import importlib.util
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

from . import cuda
from .checks import CHECKS, NEEDS
from .conflicts import CONFLICTS, ONEDL, SOURCES, SOURCES_3_13

NEWEST = (3, 13)  # Python
# What is imported -> the distributions that bring it. One may be installed.
DISTRIBUTIONS = {
    'torch': ('torch',),
    'numpy': ('numpy',),
    'setuptools': ('setuptools',),
    'mmengine': ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full', 'onedl-mmcv'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
}


def examine(names: Iterable[str]) -> int:
    """Print versions and the finding of each check -> exit status.

    Args:
        names: of the checks, as in CHECKS.
    """
    print_versions()
    findings = [*mixtures(), *untested()]
    if 'torch' in names:
        found = cuda.findings(cuda.look())
        findings += [broken(*finding) for finding in found]
    findings += run_checks(names)
    print(*findings, sep='\n')
    count = sum(finding.startswith('BROKEN') for finding in findings)
    print(f'{count} broken' if count else 'nothing is broken')
    return int(count > 0)


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """Distribution -> version, of those that are there."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def print_versions() -> None:
    """Print Python's version and those of the libraries, a line each."""
    print(f'{"python":12}{sys.version.split()[0]}  {sys.executable}')
    for name, distributions in DISTRIBUTIONS.items():
        found = installed(distributions).items()
        text = ', '.join(f'{v} ({d})' for d, v in found)
        print(f'{name:12}{text or "not installed"}')


def mixtures() -> Iterator[str]:
    """Findings about distributions that overwrite or ignore each other."""
    forks = {}
    for name, distributions in DISTRIBUTIONS.items():
        found = list(installed(distributions))
        if len(found) > 1:
            yield broken(
                name,
                f'{" and ".join(found)} overwrite each other',
                f'pip uninstall -y {" ".join(found)}, then install one again: '
                'neither is whole',
            )
        elif name.startswith('mm') and found:
            forks[found[0]] = found[0].startswith('onedl-')
    if len(set(forks.values())) > 1:
        yield broken(
            'mmengine',
            f'upstream and the onedl fork are mixed: {", ".join(forks)}',
            'keep one family: pip install pvt_mm[upstream] or [onedl]',
        )


def untested(python: tuple[int, int] = sys.version_info[:2]) -> Iterator[str]:
    """Notes on a Python or MM libraries in versions that were not tested."""
    if not (3, 11) <= python <= NEWEST:
        yield (
            'note    python: tested with 3.11 to {}.{}, '.format(*NEWEST)
            + 'not with {}.{}'.format(*python)
        )
    try:
        lines = metadata.requires('pvt_mm') or ()
    except metadata.PackageNotFoundError:  # run from a folder of sources
        return
    pins = dict(re.findall(r'([\w-]*mm\w+)==([\d.]+);', '\n'.join(lines)))
    for name, distributions in DISTRIBUTIONS.items():
        for there, version in installed(distributions).items():
            if pins.get(there, version) != version:
                yield (
                    f'note    {name}: tested with {there} {pins[there]}, '
                    f'not with {version}'
                )


def run_checks(names: Iterable[str]) -> Iterator[str]:
    """Findings of the checks, in order, two processes at a time."""
    wanted = [name for name in names if not is_absent(name)]
    with ThreadPoolExecutor(2) as pool:
        errors = dict(zip(wanted, pool.map(run_check, wanted), strict=True))
    first = {}
    for name in names:
        if name not in errors:
            yield f'absent  {name}: {NEEDS[name]} is not installed'
        elif not errors[name]:
            yield f'ok      {name}'
        else:
            wrong, fix = diagnose(errors[name])
            again = first.setdefault(wrong, name) != name
            yield broken(name, wrong, f'as {first[wrong]}' if again else fix)


def is_absent(name: str) -> bool:
    """Whether a check is of a library that is not installed.

    Not if mmdet and mmseg are both absent: one of them is needed.
    """
    there = [lib for lib in NEEDS.values() if importlib.util.find_spec(lib)]
    return bool(there) and NEEDS.get(name, there[0]) not in there


def run_check(name: str) -> str:
    """Run one check -> its error output, empty if it passed."""
    process = subprocess.run(
        [sys.executable, '-c', CHECKS[name]], capture_output=True, text=True
    )
    if process.returncode < 0:
        name_of = signal.Signals(-process.returncode).name
        return f'{process.stderr}\n{name} died of {name_of}'
    return process.stderr if process.returncode else ''


def diagnose(error: str) -> tuple[str, str]:
    """Error output of a check -> cause, and the command that fixes it."""
    for pattern, wrong, fix in CONFLICTS:
        match = re.search(pattern, error)
        if match:
            return match.expand(wrong), for_installed(match.expand(fix))
    return error.strip().splitlines()[-1], 'no conflict we know of'


def known_conflict(error: str) -> str | None:
    """Error message -> cause and fix in one sentence; None if unknown."""
    if not any(re.search(pattern, error) for pattern, *_ in CONFLICTS):
        return None
    return '; fix: '.join(diagnose(error))


def for_installed(
    fix: str, python: tuple[int, int] = sys.version_info[:2]
) -> str:
    """A fix for this Python and the distributions that are installed."""
    if python >= (3, 13):
        fix = fix.replace(SOURCES, SOURCES_3_13)
    family = [name for names in DISTRIBUTIONS.values() for name in names]
    if any(name.startswith('onedl-') for name in installed(family)):
        for upstream, fork in ONEDL.items():
            fix = fix.replace(upstream, fork)
    return fix


def broken(name: str, wrong: str, fix: str) -> str:
    """The finding of a failed check, in two lines."""
    return f'BROKEN  {name}: {wrong}\n        fix: {fix}'
