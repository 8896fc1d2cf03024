"""Masters → notebooks and blanks. The same masters give the same bytes, on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mmrec_teach.course.furnish import furnished
from mmrec_teach.course.master import Master, load_masters, read_percent
from mmrec_teach.errors import InputError
from mmrec_teach.files import write_text

if TYPE_CHECKING:
    from nbformat import NotebookNode

FORMATS = "ipynb,py:percent"
NOTEBOOK_METADATA = {
    "jupytext": {"formats": FORMATS},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def cell_ids(notebook: NotebookNode, stem: str) -> list[str]:
    """Stable ids for the cells of one lesson.

    An exercise keeps ``exercise-NAME`` for good. Every other id is a hash of the lesson and the cell's own text (with a count
    for cells that say the same), so editing, adding or removing one cell leaves the ids of all others alone.
    """
    ids, seen = [], {}
    for cell in notebook.cells:
        exercise = cell.metadata.get("exercise")
        if exercise:
            base = f"exercise-{exercise['id']}"[:56]
        else:
            digest = hashlib.sha256(f"{stem}\0{cell.cell_type}\0{cell.source}".encode()).hexdigest()
            base = f"{cell.cell_type}-{digest[:12]}"
        seen[base] = seen.get(base, 0) + 1
        ids.append(base if seen[base] == 1 else f"{base}-{seen[base]}")
    return ids


def notebook_text(text: str, stem: str, ids: list[str] | None = None) -> str:
    """The ``.ipynb`` of a percent script: no outputs, fixed metadata, stable cell ids, keys sorted.

    Args:
        text: the percent script.
        stem: the lesson's name, part of every id.
        ids: ids to use instead of this text's own; a blank takes those of its master.
    """
    notebook = read_percent(text, where=f"{stem}.py")
    own = ids or cell_ids(notebook, stem)
    if len(own) != len(notebook.cells):
        raise InputError(
            "blanking changed the number of cells", where=f"{stem}.py", found=len(notebook.cells), expected=str(len(own))
        )
    cells = []
    for cell, identity in zip(notebook.cells, own, strict=True):
        entry: dict = {
            "cell_type": cell.cell_type,
            "id": identity,
            "metadata": dict(cell.metadata),
            "source": cell.source.splitlines(keepends=True),
        }
        if cell.cell_type == "code":
            entry |= {"execution_count": None, "outputs": []}
        cells.append(entry)
    whole = {"cells": cells, "metadata": NOTEBOOK_METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def generated_files(master: Master) -> dict[str, str]:
    """Everything made from one master: path relative to the course's root → text."""
    ids = cell_ids(master.notebook, master.stem)
    return {
        f"solutions/{master.stem}.ipynb": notebook_text(master.text, master.stem, ids),
        f"lessons/{master.stem}.py": master.blank,
        f"lessons/{master.stem}.ipynb": notebook_text(master.blank, master.stem, ids),
    }


def build(root: Path, stems: Iterable[str] | None = None) -> list[str]:
    """Furnish the masters, write all generated files that are not up to date, and remove lessons that have no master any more.

    Args:
        root: the folder that holds ``solutions/`` and ``lessons/``.
        stems: build these lessons only (and remove nothing).
    Returns:
        One line per file written or removed.
    """
    masters = load_masters(root)
    wanted = None if stems is None else set(stems)
    done = []
    for master in masters:
        if wanted is not None and master.stem not in wanted:
            continue
        if (text := furnished(master.text)) != master.text:
            write_text(master.path, text)
            done.append(f"furnished solutions/{master.path.name}")
            master = Master(master.path, text)
        for name, text in generated_files(master).items():
            if _read(root / name) != text:
                write_text(root / name, text)
                done.append(f"wrote {name}")
    if wanted is None:
        for name in orphans(root, masters):
            (root / name).unlink()
            done.append(f"removed {name} (it has no master)")
    return done


def differences(root: Path) -> list[str]:
    """What `build` would change, one readable line each; empty when masters and generated files agree."""
    found = []
    masters = load_masters(root)
    for master in masters:
        if furnished(master.text) != master.text:
            found.append(f"solutions/{master.path.name}: an exercise lacks its heading, or a quiz or reveal is not folded")
        for name, text in generated_files(master).items():
            there = _read(root / name)
            if there is None:
                found.append(f"{name}: missing")
            elif there != text:
                found.append(f"{name}: differs from solutions/{master.stem}.py, first at line {_first_difference(there, text)}")
    return found + [f"{name}: has no master in solutions/" for name in orphans(root, masters)]


def orphans(root: Path, masters: list[Master]) -> list[str]:
    """Generated files whose master is gone."""
    stems = {master.stem for master in masters}
    candidates = [*(root / "lessons").glob("[0-9][0-9]_*.py"), *(root / "lessons").glob("[0-9][0-9]_*.ipynb")]
    candidates += (root / "solutions").glob("[0-9][0-9]_*.ipynb")
    return sorted(path.relative_to(root).as_posix() for path in candidates if path.stem not in stems)


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""


def _first_difference(a: str, b: str) -> int:
    lines_a, lines_b = a.splitlines(), b.splitlines()
    for number, (one, other) in enumerate(zip(lines_a, lines_b, strict=False), start=1):
        if one != other:
            return number
    return min(len(lines_a), len(lines_b)) + 1
