"""The learner's own copy of the lessons: started, updated and reset without ever losing a line of the learner's."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mmrec_teach.course.master import course_root, find_lesson
from mmrec_teach.course.pairing import inputs_digest, sync_pair
from mmrec_teach.errors import InputError
from mmrec_teach.files import atomic_path, write_json
from mmrec_teach.grading.record import STATE_NAME

SUFFIXES = (".ipynb", ".py")


@dataclass
class Report:
    """What `start` did, by lesson."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One readable line per event; empty when there was nothing to do."""
        out = []
        if self.added:
            out.append(f"New in your copy: {', '.join(self.added)}.")
        if self.updated:
            out.append(f"Updated (you had not changed them): {', '.join(self.updated)}.")
        out += [
            f"{stem} has a new version; yours has your work in it and is kept. "
            f"`mmrec-teach course reset {stem[:2]}` takes the new one and keeps a backup of yours."
            for stem in self.kept
        ]
        return out + self.notes


def default_directory(root: Path) -> Path:
    """``my_lessons`` in the course's folder."""
    return root / "my_lessons"


def lesson_stems(root: Path) -> list[str]:
    """Names of the lessons in ``lessons/``, in order."""
    return sorted(path.stem for path in (root / "lessons").glob("[0-9][0-9]_*.ipynb"))


def start(directory: Path | None = None, root: Path | None = None) -> Report:
    """Copy the lessons that are not in the learner's copy yet, and refresh those the learner has not touched.

    A lesson whose text the learner has changed is never written to. Outputs alone do not count as a change.

    Args:
        directory: the learner's copy; ``my_lessons`` in the course's folder by default.
        root: the course's folder; found from the working directory by default.
    Raises:
        InputError: no course here, no lessons in it, or the directory cannot be written.
    """
    root = root or course_root()
    directory = directory or default_directory(root)
    stems = lesson_stems(root)
    if not stems:
        raise InputError("there are no lessons", where=str(root / "lessons"), fix="Run `mmrec-teach course build`")
    if directory.resolve() in ((root / "lessons").resolve(), (root / "solutions").resolve()):
        raise InputError("the learner's copy cannot be the course's own folder", where=str(directory))
    state = _read_state(directory)
    report = Report()
    try:
        for stem in stems:
            _bring(stem, root, directory, state, report)
        write_json(directory / STATE_NAME, state)
    except OSError as error:
        raise InputError("your copy of the lessons cannot be written", where=str(directory), found=error.strerror) from error
    for stem in stems:
        if note := sync_pair(directory / f"{stem}.ipynb"):
            report.notes.append(note)
    return report


def _bring(stem: str, root: Path, directory: Path, state: dict, report: Report) -> None:
    """Add, refresh or keep one lesson, and note in ``state`` what the learner was given."""
    source = root / "lessons" / f"{stem}.ipynb"
    wanted = inputs_digest(source)
    mine = [directory / f"{stem}{suffix}" for suffix in SUFFIXES]
    given = state["lessons"].get(stem)
    there = [path for path in mine if path.exists()]
    if not there:
        _copy(stem, root, directory)
        state["lessons"][stem] = wanted
        report.added.append(stem)
        return
    digests = {inputs_digest(path) for path in there}
    if digests == {wanted}:
        # the same text; a missing half of the pair is put back
        if len(there) < len(mine):
            _copy(stem, root, directory)
        state["lessons"][stem] = wanted
    elif given is not None and digests == {given}:
        _copy(stem, root, directory)
        state["lessons"][stem] = wanted
        report.updated.append(stem)
    elif given != wanted:
        report.kept.append(stem)


def reset(name: str, directory: Path | None = None, root: Path | None = None) -> tuple[str, Path | None]:
    """Put one lesson back as it was given, after moving the learner's version into ``backups/``.

    Args:
        name: the lesson, e.g. ``01`` or ``bpr``.
        directory, root: as in `start`.
    Returns:
        The lesson's name, and the folder of the backup (None when there was nothing to keep).
    Raises:
        InputError: no such lesson; lists those there are.
    """
    root = root or course_root()
    directory = directory or default_directory(root)
    stem = find_lesson(name, lesson_stems(root))
    mine = [path for suffix in SUFFIXES if (path := directory / f"{stem}{suffix}").exists()]
    backup = None
    if mine:
        stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
        backup = directory / "backups" / f"{stem}-{stamp}"
        count = 1
        while backup.exists():
            count += 1
            backup = directory / "backups" / f"{stem}-{stamp}-{count}"
        with atomic_path(backup) as temporary:
            temporary.mkdir()
            for path in mine:
                shutil.copy2(path, temporary / path.name)
    _copy(stem, root, directory)
    state = _read_state(directory)
    state["lessons"][stem] = inputs_digest(root / "lessons" / f"{stem}.ipynb")
    write_json(directory / STATE_NAME, state)
    return stem, backup


def _copy(stem: str, root: Path, directory: Path) -> None:
    # The text last: jupytext wants it no older than its notebook.
    for suffix in SUFFIXES:
        with atomic_path(directory / f"{stem}{suffix}") as temporary:
            shutil.copyfile(root / "lessons" / f"{stem}{suffix}", temporary)
            os.chmod(temporary, 0o644)


def _read_state(directory: Path) -> dict:
    """What the learner was given: stem → digest. A lost or broken state makes every changed lesson count as the learner's."""
    try:
        state = json.loads((directory / STATE_NAME).read_text(encoding="utf-8"))
        lessons = state["lessons"]
        if isinstance(lessons, dict):
            return {"version": 1, "lessons": lessons}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"version": 1, "lessons": {}}
