"""The two files of a lesson, ``NN_slug.ipynb`` and ``NN_slug.py``: what they say, and keeping them saying the same."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from mmrec_teach.files import write_text

# jupytext refuses to open a pair whose notebook is newer than its text by more than this (its own default, in seconds)
MARGIN = 1.0


def inputs_digest(path: Path) -> str | None:
    """A fingerprint of what a learner can write: kinds and texts of the cells. Outputs, ids and metadata do not count.

    Args:
        path: an ``.ipynb`` or a percent ``.py``.
    Returns:
        A hex string, or None for a file that is missing or is no notebook (which counts as touched).
    """
    import jupytext

    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = [(cell["cell_type"], _joined(cell["source"])) for cell in json.loads(text)["cells"]]
        else:
            cells = [(cell.cell_type, cell.source) for cell in jupytext.reads(text, fmt="py:percent").cells]
    except Exception:  # a half-written or edited file can be anything
        return None
    # An empty cell at the end appears by itself in JupyterLab, and does not survive in a percent script.
    said = [(kind, source.strip()) for kind, source in cells if source.strip()]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def sync_pair(notebook: Path) -> str | None:
    """Make the text of a pair say what its newer notebook says, so that jupytext opens it.

    A notebook edited by a tool that knows nothing of pairing (or checked out later than its text) is newer than its ``.py``;
    the contents manager would refuse it. Where the text is the newer one nothing is to do: it is read when the notebook is
    opened.

    Returns:
        A sentence on what was done, or None.
    """
    text = notebook.with_suffix(".py")
    if not notebook.is_file() or not text.is_file():
        return None
    behind = notebook.stat().st_mtime - text.stat().st_mtime
    if behind <= MARGIN:
        return None
    if inputs_digest(notebook) == inputs_digest(text):
        os.utime(text)
        return None
    import jupytext

    try:
        write_text(text, jupytext.writes(jupytext.read(notebook), fmt="py:percent"))
    except Exception as error:
        return f"{notebook.name} and {text.name} differ and could not be paired again: {error}"
    return f"{text.name} was brought up to {notebook.name}, which is newer"
