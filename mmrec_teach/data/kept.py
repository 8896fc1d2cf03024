"""Features made once are kept in the user's cache, so that the second load of a data set is quick.

A file's name is a hash of everything its numbers depend on: the pictures or texts, the encoder and its settings, the source of
the recipe, the versions of the libraries. So nothing there is ever out of date, and the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mmrec_teach.files import write_bytes

MOST = 200
"""So many tables are kept, the newest."""


def cache_dir() -> Path | None:
    """Return the folder: ``$MMREC_TEACH_CACHE``, else ``mmrec_teach/features`` in the user's cache; None if that is set to ''."""
    if (chosen := os.environ.get("MMREC_TEACH_CACHE")) is not None:
        return Path(chosen).expanduser() if chosen else None
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).expanduser() / "mmrec_teach" / "features"


def kept(make: Callable[[], np.ndarray], recipe: str, inputs: Iterable[np.ndarray | str]) -> np.ndarray:
    """Return ``make()``, or the table it gave before for the same recipe and inputs.

    A kept file that is damaged counts as absent; a folder that cannot be written is no error.

    Args:
        make: computes the table, a numeric array.
        recipe: encoder and settings in words.
        inputs: all that the table is made from.
    """
    folder = cache_dir()
    if folder is None:
        return make()
    file = folder / f"{_key(recipe, inputs)}.npy"
    if (table := _read(file)) is None:
        table = make()
        buffer = io.BytesIO()
        np.save(buffer, table, allow_pickle=False)
        content = buffer.getvalue()
        try:
            write_bytes(file, hashlib.sha256(content).digest() + content)
            for old in sorted(folder.glob("*.npy"), key=lambda p: p.stat().st_mtime, reverse=True)[MOST:]:
                old.unlink(missing_ok=True)
        except OSError:  # no such place, no room, or another process was tidying up: then it is not kept
            pass
    return table


def _read(file: Path) -> np.ndarray | None:
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    return np.load(io.BytesIO(content[32:]), allow_pickle=False)


def _key(recipe: str, inputs: Iterable[np.ndarray | str]) -> str:
    """Return a hash in which no two different inputs can run together."""
    versions = [importlib.metadata.version(name) for name in ("numpy", "scipy", "scikit-learn")]
    source = Path(__file__).with_name("encode.py").read_bytes()
    digest = hashlib.sha256("\n".join([recipe, *versions, hashlib.sha256(source).hexdigest()]).encode())
    for value in inputs:
        if isinstance(value, str):
            head, content = "text", value.encode()
        else:
            value = np.ascontiguousarray(value)
            head, content = f"{value.dtype.str}{value.shape}", value.data if value.size else b""
        digest.update(hashlib.sha256(content).digest() + head.encode())
    return digest.hexdigest()
