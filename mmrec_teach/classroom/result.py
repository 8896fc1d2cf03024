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
from mmrec_teach.grading.verdict import GROUPS, STATUS_WORDS, CaseResult, Verdict

FORMAT = 1
ANEW = "run `mmrec-teach grade` again, it grades this student anew"


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

    @property
    def grader(self) -> str:
        """What it was graded by, in words: the package's version, and the beginning of the digest of the exercises' cases."""
        version, cases = (str(self.graded_with.get(key, "")) for key in ("package", "exercises"))
        return " ".join(filter(None, ("mmrec_teach", version, f"(cases {cases[:8]})" if cases else "")))


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
        InputError: it is not that, or holds what no grader writes (more points than there are, say).
    """
    try:
        result = result_from(json.loads(path.read_text(encoding="utf-8")))
        complaint = _complaint(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"damaged: {ANEW}", where=str(path)) from error
    if complaint:
        raise InputError(f"damaged: {ANEW}", where=str(path), found=complaint)
    return result


def _complaint(result: StudentResult) -> str:
    """What is wrong with a result that can be read as one; "" when nothing is."""
    texts = [result.student, result.file, result.lesson, result.digest, result.wall, *result.notes]
    numbers: list[Any] = [result.seconds]
    for exercise in result.exercises:
        verdict = exercise.verdict
        texts += [exercise.name, exercise.title, verdict.status, verdict.advice, *verdict.notes]
        texts += [text for case in verdict.cases for text in (case.name, case.kind, case.message, case.group)]
        numbers += [exercise.points, exercise.score]
        if verdict.status not in STATUS_WORDS:
            return f"the status {verdict.status!r}"
        if odd := [case.group for case in verdict.cases if case.group not in GROUPS]:
            return f"a case of the group {odd[0]!r}"
    if not all(isinstance(text, str) for text in texts) or not isinstance(result.graded_with, dict):
        return "something else where a text should be"
    if not all(type(number) in (int, float) and 0 <= number < 1e9 for number in numbers):
        return "something else where a number should be"
    if any(exercise.score > exercise.points for exercise in result.exercises):
        return "more points than there are"
    return ""


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
