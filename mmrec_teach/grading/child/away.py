"""While a function is graded, the course's package is not there: its names exist, and asking anything of them says so."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

PACKAGE = "mmrec_teach"


class BorrowedError(Exception):
    """The student's function asks the course's package for the answer."""


def borrowed(name: str) -> str:
    """The sentence a learner reads."""
    return f"your function calls the package's own `{name}`; write the answer yourself, with torch and numpy."


class Away:
    """Stands for anything of the package: may be imported and passed around, and refuses to be used."""

    def __init__(self, name: str):
        self._name = name

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise BorrowedError(borrowed(self._name))

    def __getattr__(self, name: str) -> Away:
        if name.startswith("__"):
            raise AttributeError(name)
        return Away(name)

    __call__ = __iter__ = __len__ = __getitem__ = __setitem__ = __contains__ = __enter__ = _refuse
    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __rsub__ = __matmul__ = __rmatmul__ = __truediv__ = __neg__ = _refuse
    __bool__ = __float__ = __int__ = __array__ = _refuse


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name == PACKAGE or name.startswith(PACKAGE + "."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = Away  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__all__ = []  # type: ignore[attr-defined]


def install() -> None:
    """From now on, importing the package or any part of it gives stand-ins."""
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())
