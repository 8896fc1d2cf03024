"""Which of a notebook's variables a function reads: fine while its cells have run, and a trap when it is judged alone."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

_CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial, np.ufunc)
_CONSTANT = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), torch.dtype, torch.device, np.dtype, np.generic)
_DEEPEST = 3


def variables_read(function: Callable[..., Any]) -> list[str]:
    """Names of the global variables that ``function`` reads, itself or through functions that stand beside it.

    Modules, functions, classes and plain constants do not count: those a submission brings along. Nor does a name that is not
    defined (the call itself will tell).

    Args:
        function: the learner's.
    """
    function = inspect.unwrap(function)
    if not isinstance(function, types.FunctionType):
        return []
    home = function.__globals__
    found, seen, waiting = [], {function.__code__}, [function.__code__]
    while waiting:
        for name in _globals_of(waiting.pop(0)):
            value = home.get(name)
            inner = inspect.unwrap(value) if callable(value) else value
            if isinstance(inner, types.FunctionType) and inner.__globals__ is home and inner.__code__ not in seen:
                seen.add(inner.__code__)
                waiting.append(inner.__code__)
            if name in home and name not in found and not _brought_along(value):
                found.append(name)
    return found


def reading_notes(function: Callable[..., Any]) -> list[str]:
    """A sentence about the variables of the notebook that ``function`` reads; none when it reads none."""
    names = variables_read(function)
    if not names:
        return []
    listed = ", ".join(f"`{name}`" for name in names)
    many = len(names) > 1
    return [
        f"Reads the notebook's variable{'s' if many else ''} {listed}: when a teacher grades, only what the function needs is "
        f"run; pass {'them as arguments' if many else 'it as an argument'}."
    ]


def _globals_of(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _brought_along(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (*_CODE, *_CONSTANT)) or hasattr(value, "__wrapped__"):
        return True
    if depth == _DEEPEST or type(value) not in (tuple, list, set, frozenset, dict, range):
        return False
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return isinstance(value, range) or (len(value) <= 100 and all(_brought_along(part, depth + 1) for part in parts))
