"""What a check found, told in words: as text, and as HTML that does not depend on colour."""

from __future__ import annotations

import html
from dataclasses import dataclass

from mmrec_teach.grading.exercise import CORE_SHARE

STATUS_WORDS = {
    "passed": "Passed",
    "failed": "Not yet",
    "blank": "Not written yet",
    "missing": "Not found",
    "error": "Stopped with an error",
}
_SIGNS = {"passed": "✓", "failed": "✗", "blank": "…", "missing": "?", "error": "!"}
# Dark enough for 4.5:1 on white and on the light tint; a dark theme keeps the tint, so the text colour is set with it.
_COLOURS = {
    "passed": ("#0b5d3b", "#e9f5ee"),
    "failed": ("#8a3b00", "#fdf1e7"),
    "blank": ("#4a4a4a", "#f2f2f2"),
    "missing": ("#8a3b00", "#fdf1e7"),
    "error": ("#8a1c2b", "#fbeaec"),
}


GROUPS = ("examples", "random", "hidden", "core", "gradient", "inputs", "steady", "rules")
CORE = ("examples", "random", "steady", "core")


@dataclass(frozen=True)
class CaseResult:
    """One case or rule.

    Attributes:
        name: of the case or rule.
        passed: whether it held.
        kind: why it did not: "value", "shape", "dtype", "type", "mutation", "gradient", "rule", "exception", "timeout", "blank",
            "borrowed" (asks the package for the answer), "crash" (ended or broke its process), "untried"; "" when passed.
        message: one or two sentences for the learner; "" when passed.
        group: one of `GROUPS`: what is paid together.
    """

    name: str
    passed: bool
    kind: str = ""
    message: str = ""
    group: str = "examples"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check. True in a condition when everything passed.

    Attributes:
        exercise: its name.
        status: "passed", "failed", "blank" (still the stub), "missing" (no such function) or "error" (an exception every time).
        cases: one result per case and rule.
        advice: a sentence about the whole: what the answers look like, or what to do.
        notes: what else a reader may want to know (lines left out, cells that failed); never costs a point.
    """

    exercise: str
    status: str
    cases: tuple[CaseResult, ...] = ()
    advice: str = ""
    notes: tuple[str, ...] = ()

    @property
    def credit(self) -> float:
        """The share of the points earned, from 0 to 1 (see `mmrec_teach.grading.exercise`, "Credit goes by groups")."""
        if self.status in ("blank", "missing") or not self.cases:
            return 0.0
        whole = {group: all(case.passed for case in self.cases if case.group == group) for group in GROUPS}
        there = {case.group for case in self.cases}
        if not all(whole[group] for group in CORE):
            return 0.0
        others = [whole[group] for group in GROUPS if group in there and group not in CORE]
        if all(others):
            return 1.0
        if not there & set(CORE):
            return 0.0
        return CORE_SHARE + (1 - CORE_SHARE) * sum(others) / len(others)

    @property
    def passed(self) -> int:
        """How many cases and rules hold."""
        return sum(case.passed for case in self.cases)

    @property
    def total(self) -> int:
        """How many cases and rules there are."""
        return len(self.cases)

    def __bool__(self) -> bool:
        return self.status == "passed"

    @property
    def headline(self) -> str:
        """One line: the status in words, the exercise, and how many cases pass."""
        line = f"{_SIGNS[self.status]} {STATUS_WORDS[self.status]}: {self.exercise}"
        if self.status in ("passed", "failed", "error") and self.total:
            count = f"all {self.total}" if self.passed == self.total else f"{self.passed} of {self.total}"
            line += f" ({count} cases pass)" if self.total != 1 else f" ({self.passed} of 1 case passes)"
        return line

    def __str__(self) -> str:
        lines = [self.headline]
        lines += [f"  {'✓ pass' if case.passed else '✗ fail'}  {case.name}" + _after(case.message) for case in self._shown()]
        lines += [f"  {text}" for text in (self.advice, *self.notes) if text]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        ink, tint = _COLOURS[self.status]
        rows = "".join(
            f"<li style='margin:.2em 0'><b>{'Pass' if case.passed else 'Fail'}</b>: {html.escape(case.name)}"
            f"{html.escape(_after(case.message))}</li>"
            for case in self._shown()
        )
        said = [text for text in (self.advice, *self.notes) if text]
        advice = "".join(f"<p style='margin:.4em 0 0'>{html.escape(text)}</p>" for text in said)
        listed = f"<ul style='margin:.3em 0 0;padding-left:1.4em'>{rows}</ul>" if rows else ""
        return (
            f"<div role='status' style='border-left:6px solid {ink};background:{tint};color:#1a1a1a;padding:.6em .9em;"
            f"border-radius:4px;max-width:60em'><b style='color:{ink}'>{html.escape(self.headline)}</b>{listed}{advice}</div>"
        )

    def _shown(self) -> tuple[CaseResult, ...]:
        """A stub or a missing function needs no list of cases."""
        return () if self.status in ("blank", "missing") else self.cases


def _after(message: str) -> str:
    return f": {message}" if message else ""
