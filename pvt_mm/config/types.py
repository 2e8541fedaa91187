"""Write the types of a config as the names of the registries."""

from contextlib import suppress
from importlib import import_module
from typing import Any

from mmengine import registry as mm
from mmengine.config import Config

from .schema import find_class, walk

# Libraries whose classes are compared by name; SCOPES have registries.
SCOPES = ('mmdet', 'mmseg', 'mmengine')
NAMED = tuple(f'{n}.' for n in (*SCOPES, 'mmcv', 'torch', 'pvt_mm'))
ALL = [r for r in vars(mm).values() if isinstance(r, mm.Registry)]


def name_types(cfg: Config) -> Config:
    """A config whose types are the registries' names, where they have one.

    A class of a new-style config, its dotted name in one that mmengine
    wrote, and a name with the config's own scope become ``RetinaNet``;
    a class of another scope becomes ``mmseg.FCNHead``. The user's own
    classes, and those of no registry, become dotted names, which mmengine
    imports. A config of such types without default_scope gets its model's.

    Raises:
        ImportError: a new-style config imports what is not there.
    """
    for _ in walk(cfg):  # mmengine imports the classes now
        pass
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    scope = cfg.get('default_scope')
    found = {
        key: (value, owner)
        for key, value in walk(cfg)
        if key.split('.')[-1] in ('type', 'constructor')
        and isinstance(value, str)
        and value.startswith(NAMED)
        and (owner := find_object(value))
    }
    if not scope and 'model.type' in found:
        scope = cfg.default_scope = scope_of(found['model.type'][1])
    for key, (value, owner) in found.items():
        cfg.merge_from_dict({key: short_name(owner, scope) or value})
    modules = {v.rpartition('.')[0] for v, _ in found.values()}
    if ours := {name for name in modules if name.startswith('pvt_mm')}:
        known = cfg.get('custom_imports') or {}
        imports = dict.fromkeys([*known.get('imports', []), *sorted(ours)])
        cfg.custom_imports = {**known, 'imports': list(imports)}
    return cfg


def find_object(name: str) -> Any:
    """The class or function of a dotted name; None if there is none."""
    module, _, attribute = name.rpartition('.')
    with suppress(ImportError):
        # mmengine takes a function for the module of the same name
        if found := getattr(import_module(module), attribute, None):
            return found
    return find_class(name, 'mmengine')


def scope_of(owner: Any) -> str:
    """The library of a class, or of the first of its parents that has one."""
    packages = [part.__module__.split('.')[0] for part in owner.__mro__]
    return next(name for name in packages if name in SCOPES)


def short_name(owner: Any, scope: str | None) -> str | None:
    """The name under which a scope finds a class; None if nothing does."""
    for root in ALL:
        own = root.children.get(scope, root)
        own.import_from_location()
        for registry in (own, root, *root.children.values()):
            for name, value in registry.module_dict.items():
                if value is owner:
                    near = own.module_dict.get(name, owner) is owner
                    near = near and registry in (own, root)
                    return name if near else f'{registry.scope}.{name}'
    if owner.__module__.startswith('mmcv.ops.'):
        return owner.__name__  # of NMS: mmcv evaluates its name there
    return None
