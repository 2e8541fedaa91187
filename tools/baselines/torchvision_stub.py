"""Import timm where no torchvision is installed."""

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


class StubFinder(MetaPathFinder, Loader):
    """Finds a stub of torchvision, which timm's PVT v2 does not call."""

    def find_spec(self, name: str, *args: object) -> ModuleSpec | None:
        """Its spec, if the name is torchvision or below it."""
        if name.split('.')[0] == 'torchvision':
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An AnyModule."""
        return AnyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """A stub has no code."""


@contextmanager
def stub_torchvision() -> Iterator[None]:
    """Imports inside find a stub of torchvision, unless it is installed."""
    finder = StubFinder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if isinstance(sys.modules[name], AnyModule):
                del sys.modules[name]
