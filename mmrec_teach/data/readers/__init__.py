"""Opening real data: one call, three forms, and a clear sentence for everything that is wrong with the input."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmrec_teach.data.dataset import Dataset
from mmrec_teach.data.readers import mmrec
from mmrec_teach.data.readers.safety import MAX_TEXT_BYTES, checked_file
from mmrec_teach.errors import DataError, OptionError

FORMATS = ("mmrec", "atomic", "raw")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def open_path(path: str | os.PathLike, *, format: str | None = None, **options: Any) -> Dataset:
    """Open the data set at ``path``, a folder or its interaction file.

    Args:
        path: a folder, or the file with the interactions in it.
        format: "mmrec", "atomic" or "raw"; by default it is told from the files.
        options: of the reader: see :func:`mmrec_teach.data.readers.mmrec.read`, ``atomic.read`` and ``raw.read``.

    Returns:
        The validated data set; nothing is half-loaded.

    Raises:
        DataError: the files are not what they should be.
        OptionError: an option the format does not have, or an unknown value.
    """
    path = Path(path).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise DataError("there is no such file or folder", where=str(path), expected='"bazaar", or the path of a data set')
    if format is not None and format not in FORMATS:
        raise OptionError("unknown format", where="format", found=repr(format), expected=", ".join(FORMATS))
    file = None if path.is_dir() else path
    folder = path if file is None else path.parent
    format = format or _detect(folder, file)
    read = _reader(format)
    known = [p for p in inspect.signature(read).parameters if p != "folder"]
    for option in options:
        if option not in known:
            raise OptionError("unknown option", where=f"{format} reader", found=repr(option), expected=", ".join(known))
    if file is not None:
        options["interactions"] = file
    return read(folder, **options)


def _reader(format: str) -> Callable[..., Dataset]:
    if format == "mmrec":
        return mmrec.read
    if format == "atomic":
        from mmrec_teach.data.readers import atomic

        return atomic.read
    from mmrec_teach.data.readers import raw

    return raw.read


def _detect(folder: Path, file: Path | None) -> str:
    """Tell the format from names and, for a .inter file, from its first line: typed columns hold a colon."""
    inter = [file] if file is not None else sorted(folder.glob("*.inter"))
    inter = [p for p in inter if p.suffix == ".inter"]
    if inter:
        checked_file(inter[0], MAX_TEXT_BYTES, kind="file of interactions")  # a pipe would keep us waiting for ever
        with inter[0].open("rb") as handle:
            first = handle.readline(4096)
        return "atomic" if b":" in first else "mmrec"
    if file is not None:
        if file.suffix.lower() in TABLE_SUFFIXES:
            return "raw"
        raise DataError(
            "not a file of interactions",
            where=str(file),
            found=f"suffix {file.suffix!r}",
            expected=".inter, " + ", ".join(TABLE_SUFFIXES),
        )
    if any(p.suffix.lower() in TABLE_SUFFIXES for p in folder.iterdir()):
        return "raw"
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "an empty folder"
    raise DataError(
        "no interactions found",
        where=str(folder),
        found=found,
        expected="a .inter file, or a table (.csv, .tsv, .jsonl, .parquet)",
        fix="Save who took what as a .csv with a first line such as user,item",
    )
