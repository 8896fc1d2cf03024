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
INCIDENTS = {
    "timeout": "not done in time",
    "crash": "ended its process",
    "borrowed": "asked the package for the answer",
}
_SHORT = 160  # letters of a reason in a table
_FIRST = re.compile(r"(?P<first>.+?)[.!?](?=\s+[A-Z`]|\s*$)", re.DOTALL)
_LINE = re.compile(r", at your line (\d{1,4})\b")
_KNOWN_EXCEPTIONS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
} - {"Exception"}


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


def untried(case: CaseResult) -> bool:
    """Whether a case or rule was not tried, because of what failed before it: it tells nothing of its own."""
    return not case.passed and case.kind == "untried"


def standing(exercise: ExerciseResult) -> str:
    """Where an exercise stands, in the words of a table.

    Returns:
        "solved", "partly", "nothing" (tried in vain), "not written" (still the stub), "not found" (no such function, or no readable
        file) or "not graded" (by a fault of the grader).
    """
    verdict = exercise.verdict
    if verdict.status in ("blank", "missing"):
        return "not written" if verdict.status == "blank" else "not found"
    if verdict.status == "passed":
        return "solved"
    if verdict.status == "error" and not verdict.cases:
        return "not graded"
    return "partly" if exercise.score > 0 else "nothing"


def reasons_of(result: StudentResult) -> list[str]:
    """Why exercises earned nothing, a short sentence for each reason, the exercises' names in front."""
    why: dict[str, list[str]] = {}
    for exercise in result.exercises:
        if not exercise.score and exercise.points:
            why.setdefault(_reason(exercise), []).append(exercise.name)
    everything = len(result.exercises) > 1
    return [
        (_capital(said) if everything and len(names) == len(result.exercises) else f"{', '.join(names)}: {said}")
        + ("" if said.endswith("…") else ".")
        for said, names in why.items()
    ]


def _reason(exercise: ExerciseResult) -> str:
    """Why an exercise earned nothing, in one short sentence without its full stop."""
    verdict = exercise.verdict
    if verdict.status == "blank":
        return "not written"
    if standing(exercise) == "not graded":
        return "not graded, by a fault of the grader: run `mmrec-teach grade` again"
    kinds = {case.kind for case in verdict.cases}
    for kind, words in INCIDENTS.items():
        if kind in kinds:
            return words
    if not verdict.advice:
        failed = [case for case in verdict.cases if not case.passed and not untried(case)]
        failed.sort(key=lambda case: case.group not in CORE)  # the core decides
        words = KIND_WORDS.get(failed[0].kind, "") if failed else ""
        return _lower(words.rstrip(".")) or "nothing to pay"
    advice = " ".join(verdict.advice.split())
    found = _FIRST.match(advice)
    said = (found["first"] if found else advice).rstrip(".")
    return said if len(said) <= _SHORT else said[: _SHORT - 1].rstrip() + "…"


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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
