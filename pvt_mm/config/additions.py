"""What this package adds to a run's config: hooks, and their imports."""

from mmengine.config import Config


def add_hook(cfg: Config, hook: type, **arguments) -> None:
    """Add a hook of this package to a run, once."""
    hooks = list(cfg.get('custom_hooks') or [])
    if any(other.get('type') == hook.__name__ for other in hooks):
        return
    cfg.custom_hooks = [*hooks, dict(type=hook.__name__, **arguments)]
    add_import(cfg, hook)


def add_import(cfg: Config, part: type) -> None:
    """Let any tool run the config that is written to the work dir."""
    known = cfg.get('custom_imports') or {}
    imports = [*known.get('imports', []), part.__module__]
    cfg.custom_imports = {**known, 'imports': imports}
