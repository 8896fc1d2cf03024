"""Watch what a function makes, and how often it calls torch, on its way to the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Watch(TorchFunctionMode):
    """Watches the torch functions called inside ``with Watch(inputs…) as watch:``.

    A mode of torch *functions*, not of its dispatcher: the latter imports ``torch._dynamo`` first, which takes seconds.

    Args:
        given: tensors whose views are not counted as made.

    Attributes:
        count: calls so far; a loop over rows shows in it.
        numel: numbers in the largest tensor made (stored ones, if it is sparse).
    """

    def __init__(self, *given: torch.Tensor):
        super().__init__()
        self.count = 0
        self.numel = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in given if tensor.layout == torch.strided}

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += 1
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if not isinstance(tensor, torch.Tensor):
                continue
            if tensor.layout != torch.strided:
                self.numel = max(self.numel, tensor._nnz())
            elif tensor.untyped_storage().data_ptr() not in self._known:
                self.numel = max(self.numel, tensor.numel())
        return out
