"""One student's result in the form Gradescope reads: ``results.json``.

The form: https://gradescope-autograders.readthedocs.io/en/latest/specs/ (score, execution_time, output, visibility, tests …).
"""

from __future__ import annotations

from typing import Any

from mmrec_teach.classroom.parts import Part, for_student, has_hidden, parts_of, untried
from mmrec_teach.classroom.result import ExerciseResult, StudentResult
from mmrec_teach.errors import OptionError
from mmrec_teach.grading.verdict import STATUS_WORDS

VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")


def gradescope_results(result: StudentResult, *, hidden: str = "after_published") -> dict[str, Any]:
    """The mapping to store as ``/autograder/results/results.json``.

    Each exercise gives one test for each part that is paid as a whole (the answers, hidden cases, gradients, inputs, rules).
    The tests' scores add up to the exercise's score, their ``max_score`` to its points.

    Args:
        result: of the student.
        hidden: when students see the tests of hidden cases: "hidden" (never), "after_due_date", "after_published" or "visible".
            Inputs and expected answers of hidden cases are left out whatever is chosen here.
    Raises:
        OptionError: an unknown ``hidden``.
    """
    if hidden not in VISIBILITIES:
        raise OptionError("unknown visibility", where="hidden", found=hidden, expected=", ".join(VISIBILITIES))
    tests = []
    for number, exercise in enumerate(result.exercises, start=1):
        parts = parts_of(exercise)
        for place, part in enumerate(parts, start=1):
            tests.append(
                {
                    "score": part.score,
                    "max_score": part.points,
                    "status": "passed" if part.holds and part.score == part.points else "failed",
                    "name": exercise.name if part.key == "all" else f"{exercise.name}: {part.title}",
                    "name_format": "text",
                    "number": f"{number}.{place}",
                    "output": _output(exercise, part, first=place == 1),
                    "output_format": "text",
                    "tags": [exercise.name, part.key],
                    "visibility": hidden if part.key == "hidden" else "visible",
                }
            )
    words = [f"Lesson {result.lesson}: {result.score:g} of {result.points:g} points.", *result.notes]
    return {
        "score": result.score,
        "execution_time": round(result.seconds, 3),
        "output": "\n".join(words),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def _output(exercise: ExerciseResult, part: Part, first: bool) -> str:
    """What is said of one part; what is said of the exercise as a whole stands in its first."""
    lines = []
    if first:
        lines.append(f"{STATUS_WORDS[exercise.verdict.status]}: {exercise.title}" if exercise.title else exercise.name)
        lines += [text for text in (exercise.verdict.advice, *exercise.verdict.notes) if text]
    if exercise.verdict.status in ("blank", "missing"):
        return "\n".join(lines)
    if part.holds and part.score < part.points:
        lines.append("This holds, but is paid only once the answers are right.")
    if waiting := [case.name for case in part.cases if untried(case)]:
        lines.append(f"not tried, because of what fails before: {'; '.join(waiting)}")
    for case in part.cases:
        if untried(case):
            continue
        said = for_student(case, has_hidden(exercise))
        lines.append(f"{'pass' if case.passed else 'fail'}  {case.name}" + (f": {said}" if said else ""))
    return "\n".join(lines)
