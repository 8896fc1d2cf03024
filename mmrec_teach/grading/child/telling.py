"""What a learner's code raised, in the words a learner reads."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable
from types import TracebackType

if __package__ == "child":  # inside the sandbox
    from child.away import BorrowedError
    from child.patience import OutOfTimeError
else:
    from mmrec_teach.grading.child.away import BorrowedError
    from mmrec_teach.grading.child.patience import OutOfTimeError


class LearnerError(Exception):
    """The learner's function did not answer.

    Attributes:
        kind: "exception", "timeout", "blank", "mutation", "borrowed" or "crash".
        message: for the learner.
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind, self.message = kind, message


def told(error: BaseException, function: Callable, seconds: float) -> LearnerError:
    """An exception of the learner's code: kind and sentence, with the learner's own line."""
    if isinstance(error, LearnerError):
        return error
    line = learner_line(error.__traceback__, function)
    if isinstance(error, OutOfTimeError):
        return too_slow(seconds, line)
    if isinstance(error, NotImplementedError) and (
        line is None or "`" not in line or "raise" in line
    ):  # torch raises some, too
        text = _text(error)
        if text and not text.startswith("Write "):  # a learner's own words are told as such
            text = f"The function raises NotImplementedError: {text[:120]!r}."
        return LearnerError("blank", text or "The function still raises NotImplementedError.")
    if isinstance(error, BorrowedError):
        return LearnerError("borrowed", _text(error))
    summary = (_text(error).splitlines() or [""])[0].rstrip(".")
    if "in-place operation" in summary and "leaf Variable" in summary:
        place = f" (line {line})." if line else "."
        return LearnerError("mutation", "your function changes an input in place; work on a copy" + place)
    name = type(error).__name__
    name = name if name.isidentifier() and len(name) <= 60 else "Exception"
    words = f"{name}: {summary}" if summary else name
    if line is None and isinstance(error, TypeError):
        return LearnerError("exception", f"{words} (do the arguments in your `def` line still have their places?)")
    return LearnerError("exception", words + (f", at your line {line}" if line else ""))


def too_slow(seconds: float, line: str | None = None) -> LearnerError:
    """A call that was stopped after ``seconds``."""
    return LearnerError(
        "timeout",
        f"not done after {seconds:g} seconds, and was stopped{f' at your line {line}' if line else ''}. "
        "If there is a loop: does what it waits for change inside it, and can it ever come true?",
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)[:1000]
    except Exception:  # a learner's own exception may have any __str__
        return ""


def learner_line(trace: TracebackType | None, function: Callable) -> str | None:
    """``3: `return x @ y` `` for the innermost line of the file (or notebook cells) that defines ``function``.

    The number counts from the function's ``def`` line as 1, as a learner counts in a cell.
    """
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__init__", None), "__code__", None)
    if code is None:
        return None
    frames = [
        (frame, number)
        for frame, number in traceback.walk_tb(trace)
        if _same_source(frame.f_code.co_filename, code.co_filename)
    ]
    if not frames:
        return None
    frame, number = frames[-1]
    text = linecache.getline(frame.f_code.co_filename, number).strip()
    shown = number - code.co_firstlineno + 1 if frame.f_code is code else number
    return f"{shown}" + (f": `{text}`" if text else "")


def _same_source(one: str, other: str) -> bool:
    """The same file, or two cells of one notebook."""
    notebook = ("ipykernel_", "<ipython-input-", "<submission ")
    return one == other or all(any(mark in name for mark in notebook) for name in (one, other))
