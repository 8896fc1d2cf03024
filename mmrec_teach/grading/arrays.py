"""Values on their way to the learner's function, to the oracle, and back into a comparison."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmrec_teach.grading.exercise import Fresh


def for_learner(value: Any, arrays: str = "torch") -> Any:
    """A fresh copy of a case's input as the learner's function receives it (see `mmrec_teach.grading.exercise`)."""
    import scipy.sparse

    if isinstance(value, Fresh):
        return value.make()
    if scipy.sparse.issparse(value):
        return _sparse_tensor(value) if arrays == "torch" else value.copy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return _tensor(value) if arrays == "torch" else value.copy()
    if isinstance(value, Mapping):
        return {key: for_learner(part, arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(for_learner(part, arrays) for part in value)
    if type(value).__module__.startswith("torch"):
        return value.clone()
    return copy.deepcopy(value)


def for_oracle(value: Any) -> Any:
    """A fresh copy of a case's input for the oracle: floats in float64 numpy, all else as written."""
    import scipy.sparse

    if isinstance(value, Fresh):
        return value.make()
    if type(value).__module__.startswith("torch"):
        value = value.detach().cpu().numpy()
    if scipy.sparse.issparse(value) or isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value.copy()
    if isinstance(value, Mapping):
        return {key: for_oracle(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(for_oracle(part) for part in value)
    return copy.deepcopy(value)


def _tensor(value: np.ndarray) -> Any:
    import torch

    if value.dtype.kind == "f":
        value = value.astype(np.float32)
    elif value.dtype.kind in "iu":
        value = value.astype(np.int64)
    return torch.from_numpy(value.copy())


def _sparse_tensor(value: Any) -> Any:
    import torch

    from mmrec_teach.ops.graph import csr

    entries = value.tocoo()
    entries.sum_duplicates()
    rows, columns = (torch.from_numpy(index.astype(np.int64)) for index in (entries.row, entries.col))
    return csr(rows, columns, torch.from_numpy(entries.data.astype(np.float32)), entries.shape)


def plain(value: Any) -> np.ndarray | None:
    """A learner's number, tensor or array as numpy (sparse ones dense); None for anything else.

    Types are taken exactly: a subclass may claim anything of itself.
    """
    import scipy.sparse

    kind = type(value)
    if kind.__module__.startswith("scipy.sparse") and scipy.sparse.issparse(value):
        return value.toarray()
    if kind.__module__.startswith("torch") and kind.__name__ in ("Tensor", "Parameter"):
        import torch

        value = value.detach().cpu()
        if value.layout != torch.strided:
            value = value.to_dense()
        return value.resolve_conj().numpy() if value.dtype != torch.bfloat16 else value.float().numpy()
    if kind in (bool, int, float, np.ndarray) or (kind.__module__ == "numpy" and isinstance(value, np.generic)):
        found = np.asarray(value)
        return None if found.dtype == object else found
    if kind.__module__.startswith("pandas") and kind.__name__ in ("Series", "DataFrame"):
        found = np.asarray(value.to_numpy())
        return None if found.dtype == object else found
    return None


def same_inputs(before: Any, after: Any) -> bool:
    """Whether a call left its input as it was."""
    if isinstance(before, Mapping):
        return (
            isinstance(after, Mapping)
            and before.keys() == after.keys()
            and all(same_inputs(before[k], after[k]) for k in before)
        )
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(same_inputs, before, after))
    one, other = plain(before), plain(after)
    if one is None or other is None:
        return True  # nothing we could compare (a generator is meant to change)
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    )


def describe(value: Any, limit: int = 6) -> str:
    """A value in few words: small arrays in full, large ones by shape and first entries."""
    found = plain(value)
    if found is None:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{key!r}: {describe(part)}" for key, part in list(value.items())[:limit]) + "}"
        if isinstance(value, list | tuple):
            parts = ", ".join(describe(part) for part in value[:limit]) + (", …" if len(value) > limit else "")
            return f"[{parts}]" if isinstance(value, list) else f"({parts})"
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:77]}…"
    if found.ndim == 0:
        return _number(found[()])
    if found.size <= limit * 2:
        return str(np.array2string(found, precision=4, separator=", ", suppress_small=True)).replace("\n", "")
    first = ", ".join(_number(entry) for entry in found.ravel()[:limit])
    return f"an array of shape {shape_words(found.shape)} beginning {first}, …"


def shape_words(shape: tuple[int, ...]) -> str:
    """``(3, 4)``; a scalar is named, since ``()`` says nothing to a beginner."""
    return "() (a single number)" if shape == () else str(tuple(int(n) for n in shape))


def _number(value: Any) -> str:
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(value)
    return f"{value:.5g}"
