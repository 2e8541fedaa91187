"""``pvt_mm::NAME`` in mmengine: in ``_base_``, get_config and get_model.

mmengine 0.10 finds the configs of the packages on a list of its own only, by
the names of their upstream distributions. Importing pvt_mm adds this package,
and finds any other by what is imported (``mmseg::`` is there too when
onedl-mmsegmentation brought it, and without pkg_resources).
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmengine.hub
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from .checkpoints import CheckpointError, read_weights
from .checkpoints.dialects import to_ours
from .engine.gate import check_fit
from .home import SCOPE, config_path
from .reproduce.evaluate import NotCheckable, find_weights
from .reproduce.plan import plan
from .results.table import all_results

mmengine_finds = Config._get_cfg_path
mmengine_gets_config = mmengine.hub.get_config
mmengine_gets_model = mmengine.hub.get_model


def join_mmengine() -> None:
    """Let mmengine find our configs by name."""
    Config._get_cfg_path = staticmethod(find_config)
    for module in (mmengine.hub, mmengine.hub.hub):
        module.get_config, module.get_model = get_config, get_model


def find_config(name: str, filename: str) -> tuple[str, str | None]:
    """File and scope of an inherited config.

    Args:
        name: as in ``_base_``: a path, or ``PACKAGE::PATH``.
        filename: the config that inherits it.
    """
    package, mark, path = name.partition('::')
    if name.startswith(SCOPE):
        # ours name their scopes themselves, like files beside filename
        return config_path(name), None
    spec = find_spec(package) if mark else None
    if spec and spec.origin:
        found = Path(spec.origin).parent / '.mim/configs' / path
        if found.is_file():
            return str(found), package
    return mmengine_finds(name, filename)


def get_config(cfg_path: str, pretrained: bool = False) -> Config:
    """mmengine.hub.get_config, which also knows ``pvt_mm::NAME``.

    Args:
        cfg_path: ``PACKAGE::PATH``.
        pretrained: set model_path to the published weights: a file that is
            here, or their address.

    Raises:
        UsageError: we have no such config; the nearest names are listed.
        CheckpointError: nobody published weights, or nobody can fetch them.
    """
    if not cfg_path.startswith(SCOPE):
        return mmengine_gets_config(cfg_path, pretrained)
    cfg = Config.fromfile(config_path(cfg_path))
    if pretrained:
        cfg.model_path = weights_of(cfg, fetch=False)
    return cfg


def weights_of(cfg: Config, *, fetch: bool) -> str:
    """The published weights of one of our configs: a file, or an address."""
    job = plan(all_results(), [Path(cfg.filename).stem])[0]
    try:
        return find_weights(job, fetch=fetch)
    except NotCheckable as error:
        raise CheckpointError(f'{job.name}: {error}') from error


def get_model(
    cfg_path: str, pretrained: bool = False, **options: Any
) -> nn.Module:
    """mmengine.hub.get_model, which also knows ``pvt_mm::NAME``.

    Args:
        cfg_path: ``PACKAGE::PATH``.
        pretrained: load the published weights of the whole model; all of
            them or an error.
        options: further arguments of the model.

    Raises:
        UsageError: we have no such config; the nearest names are listed.
        CheckpointError: the weights are not to be had or do not fit.
    """
    if not cfg_path.startswith(SCOPE):
        return mmengine_gets_model(cfg_path, pretrained, **options)
    cfg = Config.fromfile(config_path(cfg_path))
    weights = weights_of(cfg, fetch=True) if pretrained else ''
    if 'data_preprocessor' in cfg:
        cfg.model.data_preprocessor = cfg.data_preprocessor
    scope = cfg.get('default_scope', 'mmengine')
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model, default_args=options)
    if weights:
        load_whole(model, weights)
    return model


def load_whole(model: nn.Module, file: str) -> None:
    """Give a model the weights of a file of any dialect, or stop."""
    weights = read_weights(file)
    try:
        state = to_ours(weights)[1].state
    except CheckpointError as error:
        raise CheckpointError(f'{file}: {error}') from error
    check_fit(model, file, state=state)
    model.load_state_dict(state, strict=False)
    model._is_init = True  # a Runner would call init_weights
