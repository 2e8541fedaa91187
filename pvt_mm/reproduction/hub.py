"""Get a config or a model by name, with its published weights."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..checkpoints import load_model
from ..config.loading import load_config
from ..config.paths import config_path
from ..errors import CheckpointError
from .evaluate import find_weights
from .plan import plan
from .results import all_results


def get_config(name: str, pretrained: bool = False) -> Config:
    """The config of a name.

    Args:
        name: as :func:`pvt_mm.list_configs` gives it; ``pvt_mm::`` before it
            and ``.py`` after it do not matter.
        pretrained: set ``model_path`` to the published weights: a file that
            is here, or their address.

    Raises:
        UsageError: there is no such config, or nothing was published for
            it; the nearest names are listed.
        CheckpointError: no weights were published, or they cannot be
            downloaded.
    """
    cfg = load_config(config_path(name))
    if pretrained:
        cfg.model_path = weights_of(cfg, fetch=False)
    return cfg


def get_model(
    name: str, pretrained: bool = False, **options: Any
) -> nn.Module:
    """The model of a config, in training mode.

    Args:
        name: as :func:`pvt_mm.list_configs` gives it; ``pvt_mm::`` before it
            and ``.py`` after it do not matter.
        pretrained: load the published weights of the whole model; all of
            them or an error.
        options: arguments of the model in place of the config's; dicts are
            merged: ``backbone=dict(with_cp=True)``.

    Raises:
        UsageError: there is no such config, or nothing was published for
            it; the nearest names are listed.
        CheckpointError: there are no weights, or they do not fit.
    """
    cfg = load_config(config_path(name))
    weights = weights_of(cfg, fetch=True) if pretrained else ''
    if 'data_preprocessor' in cfg:
        cfg.model.data_preprocessor = cfg.data_preprocessor
    cfg.merge_from_dict({'model': options})
    scope = cfg.get('default_scope', 'mmengine')
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
    if weights:
        load_model(model, weights)
    return model


def weights_of(cfg: Config, *, fetch: bool) -> str:
    """The published weights of a config: a file, or a URL unless fetch.

    Raises:
        UsageError: nothing was published for this config.
        CheckpointError: no weights were, or they cannot be downloaded.
    """
    job = plan(all_results(), [Path(cfg.filename).stem])[0]
    try:
        return find_weights(job, fetch=fetch)
    except CheckpointError as error:
        raise CheckpointError(f'{job.name}: {error}') from error
