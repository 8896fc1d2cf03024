"""Watch what a learner's function makes, and how often it calls torch, on its way to the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Largest(TorchFunctionMode):
    """Remembers the largest tensor made inside ``with Largest(inputs…) as largest:``, views of the inputs not counted.

    A mode of torch *functions*, not of its dispatcher: the latter imports ``torch._dynamo`` first, which takes seconds.

    Attributes:
        numel: numbers in the largest tensor (stored ones, if it is sparse).
    """

    def __init__(self, *given: torch.Tensor):
        super().__init__()
        self.numel = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in given}

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if not isinstance(tensor, torch.Tensor):
                continue
            if tensor.layout != torch.strided:
                self.numel = max(self.numel, tensor._nnz())
            elif tensor.untyped_storage().data_ptr() not in self._known:
                self.numel = max(self.numel, tensor.numel())
        return out


class Calls(TorchFunctionMode):
    """Counts the torch functions called inside ``with Calls() as calls:``; a loop over rows shows in it.

    Attributes:
        count: calls so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))
