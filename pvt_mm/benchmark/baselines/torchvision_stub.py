"""A torchvision that timm can import where there is none to install."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class AnyClass(type):
    """A class with every attribute, each a class like it."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith('__'):
            raise AttributeError(name)
        return AnyClass(name, (), {})


class AnyModule(ModuleType):
    """A package in which every name is a class."""

    __path__ = ()

    def __getattr__(self, name: str) -> type:
        return getattr(AnyClass('Any', (), {}), name)


class StandIn(MetaPathFinder, Loader):
    """Finds torchvision, which timm imports and these models do not use."""

    def find_spec(self, name: str, *args: object) -> ModuleSpec | None:
        if name.split('.')[0] == 'torchvision':
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return AnyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """Only what is imported inside sees a torchvision; a real one stays."""
    finder = StandIn()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if isinstance(sys.modules[name], AnyModule):
                del sys.modules[name]
