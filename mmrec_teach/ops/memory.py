"""Keep freed memory in the process, so that the next step's tables do not cost page faults."""

from __future__ import annotations

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc not to hand freed tables of a few MB back to the kernel after every step; return whether it listened.

    A training step allocates and frees the same propagated tables again and again. By default each of them is mapped, zeroed
    page by page and unmapped anew, which costs as much as the sparse products themselves. Elsewhere than on Linux with glibc
    nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    limit = 1 << 30
    return bool(mallopt(_M_MMAP_THRESHOLD, limit)) and bool(mallopt(_M_TRIM_THRESHOLD, limit))
