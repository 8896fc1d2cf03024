"""Files appear whole or not at all: write beside the target, then rename over it."""

from __future__ import annotations

import json
import math
import numbers
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; it replaces ``target`` if the block ends without an error.

    The block may create a file or a directory there. A directory replaces an existing one as a whole.

    Raises:
        OSError: it cannot be written; its ``filename`` is the target's, not that of the temporary path.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    temporary = holder / target.name
    try:
        yield temporary
        if temporary.is_dir() and target.exists():
            os.replace(target, holder / "previous")
        os.replace(temporary, target)
    except OSError as error:
        # of a full disk the system says no name at all
        if error.errno is None or not (error.filename is None or str(error.filename).startswith(str(holder))):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_bytes(target: str | os.PathLike, content: bytes) -> None:
    """Write ``content`` to ``target`` atomically."""
    with atomic_path(target) as path:
        path.write_bytes(content)


def write_text(target: str | os.PathLike, content: str) -> None:
    """Write ``content`` as UTF-8 with Unix line ends, atomically."""
    write_bytes(target, content.encode("utf-8"))


def rounded(value: Any, digits: int = 4) -> Any:
    """Return ``value`` with every number in it at so many significant digits; NaN and infinity, which JSON lacks, become None."""
    if isinstance(value, Mapping):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v, digits) for v in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def write_json(target: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
