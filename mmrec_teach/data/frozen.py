"""Arrays nobody can change behind a data set's back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np


def frozen(array: np.ndarray) -> np.ndarray:
    """Return ``array`` itself if it is read-only, else a read-only copy: its owner may go on changing it."""
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def frozen_mapping(mapping: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return a read-only mapping of read-only arrays."""
    return MappingProxyType({str(k): frozen(np.ascontiguousarray(v)) for k, v in mapping.items()})
