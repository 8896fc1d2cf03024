"""How the points of an exercise come about, and what a student may read about each case."""

from __future__ import annotations

import builtins
import re
from dataclasses import dataclass
from fractions import Fraction

from mmrec_teach.classroom.result import ExerciseResult, StudentResult
from mmrec_teach.grading.exercise import CORE_SHARE
from mmrec_teach.grading.verdict import CORE, GROUPS, CaseResult

GROUP_WORDS = {
    "core": "The answers are right",
    "hidden": "Hidden cases",
    "gradient": "Gradients",
    "inputs": "Inputs left alone",
    "rules": "Rules",
}
KIND_WORDS = {
    "value": "A wrong value.",
    "shape": "An answer of the wrong shape.",
    "dtype": "An answer of the wrong kind of numbers.",
    "type": "Not the kind of answer that is expected.",
    "mutation": "An input is changed in place.",
    "gradient": "A wrong gradient.",
    "rule": "What its name says does not hold.",
    "exception": "An exception.",
    "timeout": "Not done in time.",
    "borrowed": "The package is asked for the answer.",
    "crash": "The Python process ended.",
    "untried": "Not tried.",
}
_EXCEPTION = re.compile(r"^([A-Z][A-Za-z]+)\b")
_LINE = re.compile(r", at your line (\d{1,4})\b")
_KNOWN_EXCEPTIONS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}


@dataclass(frozen=True)
class Part:
    """What is paid together: whole or not at all.

    Attributes:
        key: "core", or the group's name; "all" where an exercise was not tried.
        title: in words.
        cases: its cases and rules.
        points: what it is worth.
        score: what was paid.
    """

    key: str
    title: str
    cases: tuple[CaseResult, ...]
    points: float
    score: float

    @property
    def holds(self) -> bool:
        """Whether every case of it passed (whatever was paid)."""
        return bool(self.cases) and all(case.passed for case in self.cases)


def parts_of(exercise: ExerciseResult) -> list[Part]:
    """The parts of an exercise; their points and scores add up to the exercise's, to the hundredth.

    Where equal shares leave a hundredth over, one part is worth a hundredth more.
    """
    points, score = _cents(exercise.points), _cents(exercise.score)
    groups: dict[str, list[CaseResult]] = {}
    for group in GROUPS:
        cases = [case for case in exercise.verdict.cases if case.group == group]
        if cases:
            groups.setdefault("core" if group in CORE else group, []).extend(cases)
    if not groups or exercise.verdict.status in ("blank", "missing"):
        return [Part("all", exercise.title, exercise.verdict.cases, points / 100, score / 100)]
    order = [key for key in GROUP_WORDS if key in groups]
    holds = {key: all(case.passed for case in groups[key]) for key in order}
    paid = [key for key in order if holds[key]] if score else []
    if score == points:
        paid = order
    shares = {key: _share(key, order) for key in order}
    worth = {**_split(score, paid, shares), **_split(points - score, [key for key in order if key not in paid], shares)}
    if sum(worth.values()) != points:  # a stored score that does not follow from its cases: say nothing about parts
        return [Part("all", exercise.title, exercise.verdict.cases, points / 100, score / 100)]
    return [
        Part(key, GROUP_WORDS[key], tuple(groups[key]), worth[key] / 100, worth[key] / 100 if key in paid else 0.0)
        for key in order
    ]


def for_student(case: CaseResult, hidden: bool) -> str:
    """What a student reads about a case that failed: nothing that tells a hidden case's inputs or answers.

    Args:
        case: the case.
        hidden: whether the exercise has hidden cases. If so, the numbers of a wrong gradient are left out, for they may be a
            hidden case's, and so are the words of exceptions raised after the hidden cases: a function that keeps what it is
            called with could put it there.
    """
    if case.passed:
        return ""
    if case.group == "hidden":
        return _kind_words(case)
    if hidden and case.group == "gradient":
        return re.sub(r": got .*", ".", case.message, flags=re.DOTALL)
    if hidden and case.group in ("gradient", "inputs", "steady", "rules", "core") and case.kind == "exception":
        line = _LINE.search(case.message)
        return _kind_words(case).rstrip(".") + (f", at your line {line[1]}." if line else ".")
    if hidden and case.kind == "rule":  # a rule that tells with which exception a larger task ended
        return re.sub(r" ended so: .*", " ended with an error.", case.message, flags=re.DOTALL)
    if hidden and case.group == "steady":
        return re.sub(r" \(.*\)\.?$", ".", case.message, flags=re.DOTALL)
    return case.message


def notes_of(result: StudentResult) -> list[str]:
    """Every note on a submission once; with the exercises' names in front where it does not concern them all."""
    where: dict[str, list[str]] = {}
    for exercise in result.exercises:
        for note in dict.fromkeys(exercise.verdict.notes):
            where.setdefault(note, []).append(exercise.name)
    out = list(dict.fromkeys(result.notes))
    for note, names in where.items():
        if note not in out:
            out.append(note if len(names) == len(result.exercises) else f"{', '.join(names)}: {note}")
    return out


def unreadable(result: StudentResult) -> str:
    """Why nothing of a submission could be graded: the sentence that all its exercises share; "" when there is no such."""
    said = {exercise.verdict.advice for exercise in result.exercises if exercise.verdict.status == "missing"}
    alike = len(said) == 1 and len(result.exercises) > 1
    return said.pop() if alike and all(one.verdict.status == "missing" for one in result.exercises) else ""


def has_hidden(exercise: ExerciseResult) -> bool:
    """Whether an exercise was judged on hidden cases."""
    return any(case.group == "hidden" for case in exercise.verdict.cases)


def _kind_words(case: CaseResult) -> str:
    if case.kind == "exception":
        # only Python's own names: a name made up by the student's code could carry what it saw
        found = _EXCEPTION.match(case.message)
        return f"An exception: {found[1]}." if found and found[1] in _KNOWN_EXCEPTIONS else "An exception."
    return KIND_WORDS.get(case.kind, "It does not hold.")


def _share(key: str, order: list[str]) -> Fraction:
    """The weight of a part."""
    if "core" not in order or len(order) == 1:
        return Fraction(1, len(order))
    core = Fraction(CORE_SHARE).limit_denominator(1000)
    return core if key == "core" else (1 - core) / (len(order) - 1)


def _split(cents: int, keys: list[str], shares: dict[str, Fraction]) -> dict[str, int]:
    """``cents`` by weight over ``keys``, in whole cents that add up."""
    total, reached, given = sum(shares[key] for key in keys), Fraction(0), 0
    out = {}
    for key in keys:
        reached += shares[key]
        upto = round(cents * reached / total)
        out[key], given = upto - given, upto
    return out


def _cents(value: float) -> int:
    return round(100 * float(value))
