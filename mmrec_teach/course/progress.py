"""How far a learner has come: the course's exercises beside the learner's record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrec_teach.course.master import Exercise, exercises_of, read_percent
from mmrec_teach.course.workspace import default_directory, lesson_stems
from mmrec_teach.grading.record import FILE_NAME, Record


@dataclass(frozen=True)
class LessonProgress:
    """One lesson's exercises, each with the learner's entry (None when never tried).

    Attributes:
        stem: the lesson.
        exercises: each with its entry.
        read_first: ids of exercises whose worked solution was opened before they were passed.
    """

    stem: str
    exercises: tuple[tuple[Exercise, dict[str, Any] | None], ...]
    read_first: frozenset[str] = frozenset()

    @property
    def points(self) -> int:
        """Points reached."""
        return sum(exercise.points for exercise, entry in self.exercises if entry and entry.get("passed"))

    @property
    def possible(self) -> int:
        """Points there are."""
        return sum(exercise.points for exercise, _ in self.exercises)


def progress(root: Path, directory: Path | None = None) -> list[LessonProgress]:
    """Progress in every lesson of the course, from the record in the learner's copy.

    Args:
        root: the course's folder.
        directory: the learner's copy; ``my_lessons`` by default. It need not exist.
    """
    record = Record((directory or default_directory(root)) / FILE_NAME).read()
    opened = {
        name for name, entry in record["solutions"].items() if isinstance(entry, dict) and entry.get("passed_before") is False
    }
    out = []
    for stem in lesson_stems(root):
        path = root / "lessons" / f"{stem}.py"
        found = exercises_of(read_percent(path.read_text(encoding="utf-8"), where=path.name), where=path.name)
        entries = tuple((exercise, record["exercises"].get(exercise.id)) for exercise in found)
        out.append(LessonProgress(stem, entries, frozenset(one.id for one in found if one.id in opened)))
    return out
