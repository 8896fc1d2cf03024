"""What a check found, told in words: as text, and as HTML that does not depend on colour."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
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
_WORDS = {"pass": ("✓ pass", "Pass"), "fail": ("✗ fail", "Fail"), "untried": ("… not tried", "Not tried")}
FEW = 6  # results that are shown one by one
EVERYTHING = "everything that was tried"

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
        lines += [f"  {_WORDS[row.word][0]}  {row.text}" for row in self.rows() if row.text != EVERYTHING]
        lines += [f"  {text}" for text in (self.advice, *self.notes) if text]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        ink, tint = _COLOURS[self.status]
        rows = "".join(_item(row) for row in self.rows())
        advice = f"<p style='margin:.4em 0'><b>{_marked_up(self.advice)}</b></p>" if self.advice else ""
        notes = "".join(f"<p style='margin:.4em 0 0'>{_marked_up(text)}</p>" for text in self.notes if text)
        listed = f"<ul style='margin:.3em 0 0;padding-left:1.4em'>{rows}</ul>" if rows else ""
        return (
            f"<div role='status' style='border-left:6px solid {ink};background:{tint};color:#1a1a1a;padding:.6em .9em;"
            f"border-radius:4px;max-width:60em'><b style='color:{ink}'>{html.escape(self.headline)}</b>{advice}{listed}{notes}</div>"
        )

    def rows(self) -> list[Row]:
        """What to say about the cases: each in a row of its own while they are few.

        Of many, those that fail come first, told once where several fail for one reason; those that pass share a row.
        """
        if self.status in ("blank", "missing"):
            return []
        if self.total <= FEW:
            return [Row("pass" if case.passed else "fail", case.name + _after(case.message)) for case in self.cases]
        reasons: dict[tuple[str, str], list[str]] = {}
        for case in self.cases:
            if not case.passed:
                reasons.setdefault(("untried" if case.kind == "untried" else "fail", case.message), []).append(case.name)
        rows = [
            Row(word, (names[0] if len(names) == 1 else f"{names[0]}, and {len(names) - 1} more") + _after(message), names[1:])
            for (word, message), names in reasons.items()
        ]
        failed = [row for row in rows if row.word == "fail"]
        rest = [name for row in failed[FEW:] for name in (row.text, *row.names)]
        out = failed[:FEW] + ([Row("fail", f"{len(rest)} more", rest)] if rest else [])
        out += [row for row in rows if row.word == "untried"]
        passed = [case.name for case in self.cases if case.passed]
        if passed:
            out.append(Row("pass", f"{len(passed)} more" if out else EVERYTHING, passed))
        return out


@dataclass(frozen=True)
class Row:
    """A line of a verdict: "pass", "fail" or "untried", the text, and the names that the text only counts."""

    word: str
    text: str
    names: Sequence[str] = ()


def _item(row: Row) -> str:
    """A row as an item of a list; names it only counts can be unfolded."""
    text = f"<b>{_WORDS[row.word][1]}</b>: {_marked_up(row.text)}"
    if not row.names:
        return f"<li style='margin:.2em 0'>{text}</li>"
    listed = "".join(f"<li>{html.escape(name)}</li>" for name in row.names)
    # the triangle stands in place of the bullet
    return (
        f"<li style='margin:.2em 0 .2em -1em;list-style:none'><details><summary style='cursor:pointer'>{text}</summary>"
        f"<ul style='margin:0;padding-left:2.2em'>{listed}</ul></details></li>"
    )


def _marked_up(text: str) -> str:
    """Escaped text with its `code` in a code font, in the verdict's own colours whatever the theme."""
    return re.sub(r"`([^`]+)`", r"<code style='background:none;color:inherit;padding:0'>\1</code>", html.escape(text))


def _after(message: str) -> str:
    return f": {message}" if message else ""
