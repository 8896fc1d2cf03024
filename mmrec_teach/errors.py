"""The one way this package says that something is wrong with what it was given.

A message names *what* is wrong and *where*, what was *found*, what was *expected* and, when it helps, what to *do*.
The command line prints that sentence alone; a notebook shows it as the last line of a short traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class MMRecTeachError(Exception):
    """Base of every error the package raises on purpose."""


class InputError(MMRecTeachError, ValueError):
    """Input the package cannot use.

    Args:
        what: what is wrong, in a few words ("duplicate interaction").
        where: file and line, array name, option ("baby.inter line 7").
        found: what stands there.
        expected: what should stand there.
        fix: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str = "", found: object = None, expected: str = "", fix: str = ""):
        self.what, self.where, self.found, self.expected, self.fix = what, where, found, expected, fix
        sentence = f"{where}: {what}" if where else what
        details = []
        if found is not None:
            details.append(f"found {found}")
        if expected:
            details.append(f"expected {expected}")
        if details:
            sentence += " (" + ", ".join(details) + ")"
        sentence += "." if not sentence.endswith(".") else ""
        if fix:
            sentence += f" {fix}" if fix.endswith("?") else f" {fix.rstrip('.')}."
        super().__init__(sentence)


def guess(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean …?" for the known name that is most like ``name``, or "" where none is."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"Did you mean {near[0]}?" if near else ""


class DataError(InputError):
    """A data set that cannot be opened or does not hold together."""


class OptionError(InputError):
    """An option, name or setting outside what is allowed."""


def check_choice(name: str, value: str, choices: Mapping[str, Any] | tuple[str, ...]) -> Any:
    """Return ``choices[value]``, of a plain list of names ``value`` itself.

    Raises:
        OptionError: ``value`` is none of the choices.
    """
    if value not in choices:
        raise OptionError("unknown choice", where=name, found=repr(value), expected=" or ".join(choices))
    return choices[value] if isinstance(choices, Mapping) else value


def check_whole(where: str, value: Any, least: int = 1, problem: str = "out of range") -> int:
    """Return ``value`` if it is a whole number from ``least`` up.

    Raises:
        OptionError: it is not; ``problem`` says so in the message.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(problem, where=where, found=repr(value), expected=f"a whole number, {least} or more")
    return value
