"""Find the configs, tools and results of the checkout or of the wheel."""

from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from ..errors import UsageError
from ..families import split_name

SCOPE = 'pvt_mm::'  # what an inherited config of ours begins with
# pvt_mm/.mim links to the folders of a checkout; a wheel has copies there.
CONFIGS = Path(__file__).parents[1].joinpath('.mim/configs').resolve()
HOME = CONFIGS.parent


def checkout(what: str) -> Path:
    """The root of the checkout, for what a wheel does not have.

    Raises:
        UsageError: this package was installed from a wheel.
    """
    if HOME.name == '.mim':
        raise UsageError(
            f'{what} needs a checkout of the project (git clone), but pvt_mm '
            f'is installed in {HOME.parent}'
        )
    return HOME


def list_configs(pattern: str = '*') -> list[str]:
    """Names of our configs, for example ``list_configs('retinanet_*')``.

    Args:
        pattern: as of a shell; '*' and '?' stand for anything.
    """
    names = sorted(path.stem for path in CONFIGS.glob('*.py'))
    return [name for name in names if fnmatch(name, pattern)]


def config_path(name: str) -> str:
    """The file of a config, for Config.fromfile or ``_base_``.

    Args:
        name: as :func:`list_configs` gives it; ``configs/`` or ``pvt_mm::``
            before it and ``.py`` after it do not matter.

    Raises:
        UsageError: there is none; the nearest names are listed.
    """
    stem = str(name).removeprefix(SCOPE).removeprefix('configs/')
    stem = stem.removesuffix('.py')
    path = CONFIGS / f'{stem}.py'
    if not path.is_file():
        near = get_close_matches(stem, list_configs(), n=3, cutoff=0.3)
        near = ', '.join(f'configs/{other}.py' for other in near)
        backbone = f'; pvt_mm.build_backbone({stem!r}) is a backbone alone'
        raise UsageError(
            f'there is no config file {name}; nearest: {near or "none"}'
            f'{backbone if split_name(stem) else ""}'
        )
    return str(path)
