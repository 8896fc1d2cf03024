"""Help with an exercise: three hints, one after the other, then the worked solution.

`hint("bpr_loss")` shows the hints, `solution("bpr_loss")` the solution; a failed `check` offers both by itself.
"""

from __future__ import annotations

import functools
import html
import json
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmrec_teach.course.ask import show
from mmrec_teach.course.master import BEGIN, END, Exercise, course_root, exercises_of
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.grading.engine import in_notebook
from mmrec_teach.grading.record import current_record, now

KEPT_BACK = "The worked solution is with whoever handed out this lesson."
_CODE = (
    "<pre tabindex='0' style='background:#f6f6f6;color:#1a1a1a;border-left:6px solid #0b5d3b;border-radius:4px;padding:.6em .9em;"
    "margin:.3em 0;max-width:60em;overflow-x:auto;line-height:1.4'>{}</pre>"
)
_BOX = (
    "background:#eaf1f8;color:#1a1a1a;border-left:6px solid #1d4e89;border-radius:4px;padding:.5em .9em;margin:.3em 0;"
    "max-width:60em;line-height:1.4;font-size:var(--jp-content-font-size1,14px)"
)


def find_hints(name: str, directory: Path | None = None) -> tuple[Exercise, str]:
    """The exercise of that name and the stem of its lesson.

    Looks in ``directory`` (default: the working directory, where a learner's notebook runs), then in the course's lessons.

    Raises:
        OptionError: no lesson has such an exercise; lists those there are.
    """
    known: list[str] = []
    for folder in _folders(directory or Path.cwd()):
        for exercise, stem, _ in _exercises_in(folder):
            if exercise.id == name:
                return exercise, stem
            known.append(exercise.id)
    listed = ", ".join(sorted(set(known))) or "none here"
    raise OptionError(f"no exercise is called {name!r}", expected=f"one of: {listed}")


def find_solution(name: str, directory: Path | None = None) -> tuple[str, str] | None:
    """The worked cell of an exercise, without its markers, and the stem of its lesson; None where no solution is at hand.

    A checkout of the course has its solutions; a lesson handed out to a class may come without.

    Args:
        name: the exercise.
        directory: where to look from; the working directory by default.
    """
    for folder in _folders(directory or Path.cwd()):
        for exercise, stem, source in _exercises_in(folder) if folder.name == "solutions" else ():
            if exercise.id == name and exercise.solutions:
                lines = [line for line in source.splitlines() if not BEGIN.match(line) and not END.match(line)]
                return "\n".join(lines).strip(), stem
    return None


def _exercises_in(folder: Path) -> Iterator[tuple[Exercise, str, str]]:
    """Exercises of the lessons in a folder, each with its lesson's stem and its cell; files that cannot be read are left out."""
    stems = {path.stem for suffix in (".py", ".ipynb") for path in folder.glob(f"[0-9][0-9]_*{suffix}")}
    for stem in sorted(stems):
        for path in (folder / f"{stem}.py", folder / f"{stem}.ipynb"):
            try:
                state = path.stat()
                found = _exercises_of(path, state.st_mtime_ns, state.st_size)
            except (OSError, ValueError, LookupError, TypeError, AttributeError, InputError):
                continue  # a learner's file may be in any state; the course's own copy is tried next
            yield from found
            break


@functools.lru_cache(maxsize=256)
def _exercises_of(path: Path, changed: int, size: int) -> list[tuple[Exercise, str, str]]:
    """As `_exercises_in`, for one file; read once until it changes. Without jupytext, whose import alone takes a second."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [
            SimpleNamespace(metadata=cell.get("metadata", {}), source="".join(cell["source"]))
            for cell in json.loads(text)["cells"]
        ]
    else:
        cells = [_percent_cell(part) for part in re.split(r"^(?=# %%(?:\s|$))", text, flags=re.MULTILINE)]
    found = exercises_of(SimpleNamespace(cells=cells), where=path.name)
    return [(one, path.stem, cells[one.cell].source) for one in found]


def _percent_cell(part: str) -> SimpleNamespace:
    """A cell of a percent script: its text, and of its metadata what is said about an exercise."""
    marker, _, source = part.partition("\n")
    _, there, said = marker.partition("exercise={")
    exercise = json.JSONDecoder().raw_decode("{" + said)[0] if marker.startswith("# %%") and there else None
    return SimpleNamespace(metadata={"exercise": exercise} if exercise else {}, source=source)


def _folders(directory: Path) -> list[Path]:
    folders = [directory]
    try:
        root = course_root()
        folders += [root / "lessons", root / "solutions"]
    except InputError:
        pass
    return folders


class Help:
    """How far a learner has been helped with one exercise, and what comes next.

    Args:
        name: the exercise.
        solved: whether the learner's own answer passes; then the solution is offered at once.
    Raises:
        OptionError: no exercise of that name, or it has no hints.

    Attributes:
        exercise: what its lesson says about it.
        stem: of its lesson.
        total: how many hints it has.
        worked: its worked cell; None where there is none at hand.
    """

    def __init__(self, name: str, *, solved: bool = False):
        self.exercise, self.stem = find_hints(name)
        self.total = len(self.exercise.hints)
        if not self.total:
            raise OptionError("this exercise has no hints", where=f"hint({name!r})")
        self.solved = solved
        found = find_solution(name)
        self.worked = found[0] if found else None

    @property
    def given(self) -> int:
        """How many hints have been shown, now or earlier."""
        return min(int(current_record().get("hints", self.exercise.id) or 0), self.total)

    @property
    def solution_due(self) -> bool:
        """Whether the solution is offered without being asked for."""
        return self.solved or self.given == self.total

    def next_hint(self) -> int:
        """Give one hint more (the last one again when there is no other); its number."""
        number = min(self.given + 1, self.total)
        current_record().put("hints", self.exercise.id, number)
        return number

    def hint_text(self, number: int) -> str:
        """``Hint 1 of 3: …``"""
        return f"Hint {number} of {self.total}: {self.exercise.hints[number - 1]}"

    def last_words(self) -> str:
        """What stands under the last hint."""
        if self.worked is None:
            return "That was the last hint."
        return f'That was the last hint. solution("{self.exercise.id}") shows the worked solution.'

    def offer(self) -> str:
        """One line for a script or a terminal: what to call for help."""
        if self.solution_due:
            if self.worked is None:
                return KEPT_BACK if self.solved else ""
            word = "To compare:" if self.solved else "Stuck?"
            return f'{word} solution("{self.exercise.id}") shows the worked solution.'
        return f'Stuck? hint("{self.exercise.id}") shows hint {self.given + 1} of {self.total}.'

    def note_solution(self) -> None:
        """Note that the solution was shown, and whether the learner had passed by then."""
        name, record = self.exercise.id, current_record()
        if record.get("solutions", name) is None:
            passed = bool((record.get("exercises", name) or {}).get("passed"))
            record.put("solutions", name, {"at": now(), "passed_before": passed or self.solved})


# Panels of one exercise in a notebook: a hint asked for in one of them is not offered again by another.
_panels: weakref.WeakSet[HelpPanel] = weakref.WeakSet()


class HelpPanel:
    """Buttons that give one hint more at each press, then the solution, and below them what they gave.

    Args:
        help: of one exercise.
        earlier: how hints of earlier presses are shown: "open", or "folded" where another panel may show them already.
    """

    def __init__(self, help: Help, earlier: str = "open"):
        import ipywidgets as widgets

        self.help, self._earlier = help, earlier
        self._from, self._upto, self._worked = help.given, help.given, False
        # a layout each: one that is shared would hide both buttons at once
        self.more = widgets.Button(layout=widgets.Layout(width="auto"), icon="lightbulb-o")
        self.worked = widgets.Button(layout=widgets.Layout(width="auto"), icon="eye")
        self.shown = widgets.HTML()
        self.more.on_click(self._more)
        self.worked.on_click(self._solution)
        self.box = widgets.VBox([widgets.HBox([self.more, self.worked]), self.shown])
        _panels.add(self)
        self.box._panel = self  # lives as long as its widgets
        self.refresh()

    def refresh(self) -> None:
        """Make the buttons and the text say where the learner stands."""
        help, given = self.help, self.help.given
        solved = help.solved
        done, told = given == help.total, self._upto == help.total
        self.more.layout.display = "none" if solved or (told and self._earlier == "folded") else None
        self.more.disabled = told
        self.more.description = (
            f"Show hint {given + 1} of {help.total}"
            if not done
            else f"All {help.total} hints are shown"
            if told
            else f"Show all {help.total} hints"
        )
        self.worked.layout.display = None if help.solution_due and help.worked is not None else "none"
        self.worked.description = "Hide the worked solution" if self._worked else "Show the worked solution"
        self.shown.value = "" if solved and not self._worked and help.worked is not None else self._html()

    def _html(self) -> str:
        help = self.help
        parts = []
        if not help.solved:
            old = _listed(help, range(1, self._from + 1))
            if old and self._earlier == "folded":
                old = f"<details><summary style='cursor:pointer'>Hints you have seen ({self._from})</summary>{old}</details>"
            parts = [old, _listed(help, range(self._from + 1, self._upto + 1))]
            if self._upto == help.total and (self._earlier == "open" or self._from < help.total):
                parts.append(f"<p style='margin:.3em 0'>{html.escape(help.last_words())}</p>")
        elif help.worked is None:
            parts.append(f"<p style='margin:.3em 0'>{html.escape(KEPT_BACK)}</p>")
        if self._worked:
            parts.append(_CODE.format(html.escape(help.worked or "")))
        return "".join(parts)

    def _more(self, _: Any) -> None:
        self._upto = self.help.next_hint()
        for panel in list(_panels):
            if panel.help.exercise.id == self.help.exercise.id:
                panel.refresh()

    def _solution(self, _: Any) -> None:
        self._worked = not self._worked
        if self._worked:
            self.help.note_solution()
        self.refresh()


def _listed(help: Help, numbers: range) -> str:
    items = "".join(f"<li><b>Hint {number}.</b> {html.escape(help.exercise.hints[number - 1])}</li>" for number in numbers)
    return f"<ul role='status' style='list-style:none;{_BOX}'>{items}</ul>" if items else ""


def hint(name: str) -> None:
    """Show the hints of an exercise step by step.

    In a notebook: a button that shows one hint more at each press, and after the last one a button for the solution. In a script or
    a terminal, IPython's included: each call prints the next one. How many were asked for is noted in the learner's progress file.

    Args:
        name: the exercise.
    Raises:
        OptionError: no exercise of that name, or it has no hints.
    """
    help = Help(name)
    if widgets_work():
        # A hint asked for once is shown again when the notebook is opened anew.
        show(HelpPanel(help).box)
        return
    number = help.next_hint()
    print(help.hint_text(number))
    if number == help.total:
        print(help.last_words())


def solution(name: str) -> None:
    """Show the worked solution of an exercise, whether it has been passed or not.

    Args:
        name: the exercise.
    Raises:
        OptionError: no exercise of that name.
    """
    help = Help(name)
    if help.worked is None:
        print(KEPT_BACK)
        return
    help.note_solution()
    if in_notebook():
        from IPython.display import HTML

        show(HTML(_CODE.format(html.escape(help.worked))))
    else:
        print(help.worked)


def widgets_work() -> bool:
    """Whether buttons can be shown: in a notebook, with ipywidgets installed."""
    if not in_notebook():
        return False
    try:
        import ipywidgets  # noqa: F401 - whether it is there is the question
    except ImportError:
        return False
    return True
