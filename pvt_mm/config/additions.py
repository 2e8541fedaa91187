"""Add hooks of this package, and their imports, to a config."""

from mmengine.config import Config

HOOKS = 'pvt_mm.engine.hooks'


def add_hook(cfg: Config, hook: type, **arguments) -> None:
    """Add a hook of this package to a run, once."""
    hooks = list(cfg.get('custom_hooks') or [])
    if any(other.get('type') == hook.__name__ for other in hooks):
        return
    cfg.custom_hooks = [*hooks, dict(type=hook.__name__, **arguments)]
    add_import(cfg, hook)


def add_import(cfg: Config, part: type) -> None:
    """Import the module of a class in the config of the work dir as well.

    Any tool can run that config then.
    """
    module = part.__module__
    module = HOOKS if module.startswith(HOOKS) else module
    known = cfg.get('custom_imports') or {}
    imports = list(known.get('imports', []))
    if module not in imports:
        cfg.custom_imports = {**known, 'imports': [*imports, module]}
