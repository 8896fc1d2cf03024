"""`check("bpr_loss")` as a lesson knows it: the verdict, and beside it what helps to go on."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from mmrec_teach.course.hints import Help, HelpPanel, widgets_work
from mmrec_teach.errors import OptionError
from mmrec_teach.grading.engine import in_ipython, verdict_on
from mmrec_teach.grading.quiet import few_prints
from mmrec_teach.grading.reads import reading_notes
from mmrec_teach.grading.record import current_record
from mmrec_teach.grading.verdict import Verdict


@dataclasses.dataclass(frozen=True, repr=False)
class Checked(Verdict):
    """A verdict that offers help where it shows itself: buttons in a notebook, a line of text elsewhere.

    Attributes:
        help: the exercise's hints and solution; None when there is nothing to offer.
    """

    help: Help | None = dataclasses.field(default=None, compare=False)

    def __str__(self) -> str:
        offer = self.help.offer() if self.help is not None else ""
        return f"{super().__str__()}\n  {offer}" if offer else super().__str__()

    def __repr__(self) -> str:
        return super().__str__() if widgets_work() else str(self)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if not widgets_work():
            # IPython's terminal, or a notebook without ipywidgets: `display` picks the text or the markup
            offer = self.help.offer() if self.help is not None else ""
            spelled_out = dataclasses.replace(self, notes=(*self.notes, offer), help=None)
            display({"text/plain": str(self), "text/html": spelled_out._repr_html_()}, raw=True)
            return
        display({"text/plain": repr(self), "text/html": self._repr_html_()}, raw=True)
        if self.help is not None and self.status != "blank":
            display(HelpPanel(self.help, earlier="folded").box)


def check(name: str | Callable, function: Callable | None = None) -> Verdict:
    """Check your function ``name`` against its cases and rules.

    The function is looked for where `check` is called: among the caller's variables (in a notebook: all cells run so far). A check
    that fails offers the next hint; after the last hint, or once the check passes, it offers the worked solution.

    Args:
        name: the exercise, e.g. ``"bpr_loss"``; or the function itself, when it has kept its name.
        function: check this one instead of looking it up.
    Returns:
        The verdict, true when all passed; a notebook shows it when it is the last line of a cell. Outside IPython it is printed
        as well. The outcome is noted in your progress file.
    Raises:
        OptionError: no exercise of that name; lists those there are.
    """
    if callable(name):
        name, function = getattr(name, "__name__", type(name).__name__), name
    if function is None:
        frame = sys._getframe(1)
        function = frame.f_locals.get(name, frame.f_globals.get(name))
    with few_prints():
        verdict = verdict_on(name, function)
    current_record().note_check(verdict)
    notes = verdict.notes
    if verdict.status in ("passed", "failed", "error"):
        notes += tuple(reading_notes(function))
    parts = {field.name: getattr(verdict, field.name) for field in dataclasses.fields(Verdict)}
    checked = Checked(**{**parts, "notes": notes}, help=_help(verdict, function))
    if not in_ipython():
        print(checked)
    return checked


def _help(verdict: Verdict, function: Any) -> Help | None:
    """What can be offered after a verdict; None where there is nothing."""
    if verdict.status == "missing":
        return None
    try:
        help = Help(verdict.exercise, solved=bool(verdict))
    except OptionError:  # checked outside its lesson
        return None
    return None if bool(verdict) and help.worked is not None and _bare(function) == _words(help.worked) else help


def _bare(function: Any) -> list[str]:
    """The words of a function's definition, whatever its markers: to see that it is the worked solution itself."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, IndentationError):
        return []
    return _words("\n".join(line for line in source.splitlines() if not line.strip().startswith("### ")))


def _words(text: str) -> list[str]:
    return text.split()
