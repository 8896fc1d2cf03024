"""What one student got for one lesson, as it is stored between grading and reporting."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmrec_teach.classroom.plan import Plan
from mmrec_teach.errors import InputError
from mmrec_teach.files import write_json
from mmrec_teach.grading.submission import Graded
from mmrec_teach.grading.verdict import CaseResult, Verdict

FORMAT = 1


@dataclass(frozen=True)
class ExerciseResult:
    """One exercise of one student.

    Attributes:
        name, title: of the exercise.
        points: what it is worth.
        score: what was earned: points x credit, to the hundredth.
        verdict: everything that was found.
    """

    name: str
    title: str
    points: float
    score: float
    verdict: Verdict


@dataclass(frozen=True)
class StudentResult:
    """One student, one lesson.

    Attributes:
        student: as the file or folder is called.
        file: what was graded, relative to the class's folder.
        lesson: the lesson's stem.
        digest: of what was handed in; a result is up to date as long as it and ``graded_with`` do not change.
        exercises: one result each, in the lesson's order.
        wall: behind which the code ran.
        seconds: what grading took; differs from run to run, and nothing depends on it.
        notes: sentences on the submission as a whole.
        graded_with: version of the package, digest of the exercises, the teacher's salt.
    """

    student: str
    file: str
    lesson: str
    digest: str
    exercises: tuple[ExerciseResult, ...]
    wall: str
    seconds: float
    notes: tuple[str, ...] = ()
    graded_with: dict[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Points earned."""
        return round(sum(exercise.score for exercise in self.exercises), 2)

    @property
    def points(self) -> float:
        """Points there are."""
        return sum(exercise.points for exercise in self.exercises)


def result_of(student: str, file: str, plan: Plan, graded: Graded, salt: int = 0) -> StudentResult:
    """The result that follows from the verdicts on a submission."""
    exercises = []
    for task in plan.tasks:
        verdict = graded.verdicts[task.name]
        exercises.append(ExerciseResult(task.name, task.title, task.points, round(task.points * verdict.credit, 2), verdict))
    return StudentResult(
        student=student,
        file=file,
        lesson=plan.lesson,
        digest=graded.submission.digest,
        exercises=tuple(exercises),
        wall=graded.wall,
        seconds=round(graded.seconds, 3),
        notes=graded.notes,
        graded_with=grader_mark(salt),
    )


def grader_mark(salt: int = 0) -> dict[str, Any]:
    """What a result depends on besides the submission: when it changes, a submission is graded again."""
    import hashlib

    from mmrec_teach.grading import exercises

    digest = hashlib.sha256()
    for folder in (
        Path(exercises.__file__).parent,
        Path(exercises.__file__).parents[1],
        Path(exercises.__file__).parents[1] / "child",
    ):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return {"package": importlib.metadata.version("mmrec_teach"), "exercises": digest.hexdigest()[:16], "salt": salt}


def write_result(path: Path, result: StudentResult) -> None:
    """Store a result, atomically."""
    write_json(path, {"format": FORMAT, **asdict(result)})


def read_result(path: Path) -> StudentResult:
    """Read what `write_result` wrote.

    Raises:
        InputError: it is not that.
    """
    try:
        return result_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("not the result of a student", where=str(path), found=f"{type(error).__name__}: {error}") from error


def result_from(stored: dict[str, Any]) -> StudentResult:
    """The result that a mapping of plain values stands for (as `write_result` stores it, or ``dataclasses.asdict`` makes it)."""
    stored = {key: value for key, value in stored.items() if key != "format"}
    exercises = []
    for one in stored.pop("exercises"):
        verdict = dict(one["verdict"])
        cases = tuple(CaseResult(**case) for case in verdict.pop("cases"))
        verdict["notes"] = tuple(verdict.get("notes", ()))
        exercises.append(ExerciseResult(**{**one, "verdict": Verdict(**verdict, cases=cases)}))
    stored["notes"] = tuple(stored.get("notes", ()))
    return StudentResult(**stored, exercises=tuple(exercises))
