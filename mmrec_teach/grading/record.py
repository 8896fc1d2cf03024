"""What a learner has passed, predicted, answered and asked for: one small JSON file beside the lessons.

The file is ``.progress.json`` in the learner's copy (``my_lessons/``), found from the working directory: a notebook runs in the
folder it lies in. Anywhere else (the solved lessons, a script) nothing is written and the record lives in memory. The
environment variable MMREC_TEACH_PROGRESS names another file, or ``off``.
A record never stops a lesson: a file that cannot be read is set aside, one that cannot be written is left alone.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrec_teach.files import write_json

if TYPE_CHECKING:
    from mmrec_teach.grading.verdict import Verdict

FILE_NAME = ".progress.json"
STATE_NAME = ".course.json"
SECTIONS = ("exercises", "predictions", "quizzes", "hints", "solutions")


class Record:
    """The learner's record, in memory and (with a path) on disk.

    Args:
        path: the file; None keeps everything in memory.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self._memory: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}

    def read(self) -> dict[str, dict[str, Any]]:
        """The whole record: section → name → entry. Entries of this process win over the file where it could not be written."""
        stored: Any = {}
        if self.path is not None:
            try:
                stored = json.loads(self.path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                pass
            except (OSError, ValueError):
                self._set_aside()
        if not isinstance(stored, dict):
            self._set_aside()
            stored = {}
        merged = {}
        for section in SECTIONS:
            entries = stored.get(section)
            merged[section] = {**(entries if isinstance(entries, dict) else {}), **self._memory[section]}
        return merged

    def get(self, section: str, name: str) -> Any:
        """One entry, or None."""
        return self.read()[section].get(name)

    def put(self, section: str, name: str, entry: Any) -> None:
        """Store one entry; on disk too where that is possible. Reads the file first: two notebooks may be open."""
        self._memory[section][name] = entry
        if self.path is None:
            return
        try:
            write_json(self.path, {"version": 1, **self.read()})
        except (OSError, TypeError, ValueError):
            return
        # on disk now: let another notebook's later entry be seen
        self._memory = {part: {} for part in SECTIONS}

    def note_check(self, verdict: Verdict) -> None:
        """Note an attempt; once passed stays passed. A stub or a function not found is no attempt."""
        if verdict.status in ("blank", "missing"):
            return
        old = self.get("exercises", verdict.exercise) or {}
        entry = {
            "passed": bool(verdict) or bool(old.get("passed")),
            "attempts": int(old.get("attempts", 0)) + 1,
            "last": f"{verdict.passed} of {verdict.total}",
            "first_passed": old.get("first_passed") or (now() if verdict else None),
        }
        self.put("exercises", verdict.exercise, entry)

    def _set_aside(self) -> None:
        if self.path is None:
            return
        try:
            os.replace(self.path, self.path.with_name(self.path.name + ".unreadable"))
        except OSError:
            return


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_records: dict[Path | None, Record] = {}


def current_record() -> Record:
    """The record that belongs to the working directory (see the module's text)."""
    path = record_path(Path.cwd())
    if path not in _records:
        _records[path] = Record(path)
    return _records[path]


def record_path(directory: Path) -> Path | None:
    """Where a notebook running in ``directory`` keeps its record; None for in memory."""
    chosen = os.environ.get("MMREC_TEACH_PROGRESS")
    if chosen:
        return None if chosen == "off" else Path(chosen).resolve()
    for folder in (directory, *directory.parents):
        if (folder / STATE_NAME).is_file():
            return folder / FILE_NAME
    return None
