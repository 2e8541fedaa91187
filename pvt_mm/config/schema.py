"""Walk over the keys of a config, and tell which keys it could have."""

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine import registry as mm
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..compat import config_dict
from ..errors import UsageError

# Where a config's types are looked up, in this order: to import the models
# takes longest.
REGISTRIES = (
    mm.DATASETS,
    mm.TRANSFORMS,
    mm.MODELS,
    mm.OPTIMIZERS,
    mm.OPTIM_WRAPPERS,
    mm.PARAM_SCHEDULERS,
    mm.HOOKS,
    mm.METRICS,
    mm.LOOPS,
    mm.DATA_SAMPLERS,
    mm.VISUALIZERS,
    mm.VISBACKENDS,
    mm.TASK_UTILS,
    mm.WEIGHT_INITIALIZERS,
    mm.LOG_PROCESSORS,
)
# Read from the config by mmengine's Runner or by our tools, not arguments.
TOP_LEVEL = {
    'compile',
    'custom_imports',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'strategy',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
# What mmengine reads from a dict, beside its constructor's arguments.
LOOP = {'by_epoch', 'max_epochs', 'max_iters', 'val_interval', 'val_begin'}
LOADER = {'num_batch_per_epoch', 'disable_subprocess_warning'}
PARAMWISE = {
    *('custom_keys', 'bypass_duplicate', 'bias_lr_mult', 'bias_decay_mult'),
    *('norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult'),
    'dcn_offset_lr_mult',
}
EXTRA = {
    'optim_wrapper': {'constructor', 'paramwise_cfg'},
    # decay_rate: of our layer-wise decay
    'optim_wrapper.paramwise_cfg': PARAMWISE | {'decay_rate'},
    'randomness': {'seed', 'deterministic', 'diff_rank_seed'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'default_hooks': {'runtime_info', 'visualization', 'early_stopping'},
    'train_cfg': LOOP,
}


def walk(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every dotted key of a config with its value, from the top down."""
    if isinstance(node, Config):
        node = config_dict(node)
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    else:
        return
    for key, value in items:
        name = f'{path}.{key}' if path else str(key)
        yield name, value
        yield from walk(value, name)


def bare(node: Any) -> Any:
    """A part of a config as plain dicts and lists, without ``_scope_``."""
    if isinstance(node, Mapping):
        return {k: bare(v) for k, v in node.items() if k != '_scope_'}
    if isinstance(node, list | tuple):
        return [bare(value) for value in node]
    return node


def read_by_runner(cfg: Config, name: str) -> bool:
    """Whether mmengine's Runner or our tools read a top-level name."""
    if name == 'data_preprocessor':
        return name not in cfg.get('model', {})
    return name in parameters(Runner) | TOP_LEVEL


def known_keys(
    path: list[str], node: Mapping, scope: str | None
) -> set[str] | None:
    """The keys that may be added to a dict of the config.

    Args:
        path: keys to the dict.
        node: the dict.
        scope: default_scope.

    Returns:
        None: its type is unknown, any key is allowed.
    """
    if not path:
        return parameters(Runner) | TOP_LEVEL
    if path[-1] == 'custom_keys':
        return None  # parts of the names of parameters
    known = {'_delete_', 'type'} | EXTRA.get('.'.join(path), set())
    if len(path) == 1 and path[0].endswith('_dataloader'):
        known |= parameters(DataLoader) | LOADER
    if path[-2:-1] == ['custom_keys']:
        known |= {'lr_mult', 'decay_mult'}
    if path[-1] == 'init_cfg':
        known |= {'allow_partial'}  # of our backbones
    owner = node.get('type')
    if isinstance(owner, str):
        owner = find_class(owner, scope or 'mmengine')
        if owner is None:
            return None
    return known | (parameters(owner) if owner else set())


def find_class(name: str, scope: str) -> Any:
    """The class registered under a name; None if no registry has it."""
    for root in REGISTRIES:
        with root.switch_scope_and_registry(scope) as registry:
            found = registry.get(name)
        if found is not None:
            return found
    return None


def parameters(owner: Any) -> set[str]:
    """Names that a constructor takes, and its parents if it has **kwargs."""
    names: set[str] = set()
    inits = [vars(c).get('__init__') for c in getattr(owner, '__mro__', ())]
    for init in filter(None, inits or [owner]):
        arguments = inspect.signature(init).parameters.values()
        names |= {a.name for a in arguments if a.kind is not a.VAR_KEYWORD}
        if all(a.kind is not a.VAR_KEYWORD for a in arguments):
            break
    return names - {'self', 'args'}


def check_names(cfg: Config) -> None:
    """Stop at a top-level name that is almost one that is read.

    Also at any key of paramwise_cfg that mmengine's constructor ignores.

    Raises:
        UsageError: it says which one.
    """
    known = sorted(parameters(Runner))
    for name in cfg:
        letters = [k for k in known if sorted(k) == sorted(name)]
        near = letters or get_close_matches(name, known, n=1, cutoff=0.9)
        if near and name not in known:
            raise UsageError(
                f'{cfg.filename}: nothing reads {name}; write {near[0]}, or '
                'give it a name of another kind if it is not meant'
            )
    wrapper = cfg.get('optim_wrapper') or {}
    default = 'DefaultOptimWrapperConstructor'
    if wrapper.get('constructor', default) == default:
        check_paramwise(default, wrapper.get('paramwise_cfg') or {}, PARAMWISE)


def check_paramwise(
    constructor: str, given: Mapping[str, Any], known: set[str]
) -> None:
    """Stop at a key of paramwise_cfg that the constructor does not read.

    Raises:
        UsageError: with the keys that it reads.
    """
    for key in given:
        if key not in known:
            raise UsageError(
                f'optim_wrapper.paramwise_cfg.{key} is not read by '
                f'optim_wrapper.constructor={constructor!r}, which reads '
                f'{", ".join(sorted(known))}'
            )
