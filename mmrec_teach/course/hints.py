"""`hint("bpr_loss")`: three hints, one after the other, then where the solution is."""

from __future__ import annotations

import html
from pathlib import Path

from mmrec_teach.course.ask import show
from mmrec_teach.course.master import Exercise, course_root, exercises_of, read_percent
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.grading.engine import in_notebook
from mmrec_teach.grading.record import current_record


def find_hints(name: str, directory: Path | None = None) -> tuple[Exercise, str]:
    """The exercise of that name and the stem of its lesson.

    Looks in ``directory`` (default: the working directory, where a learner's notebook runs), then in the course's lessons.

    Raises:
        OptionError: no lesson has such an exercise; lists those there are.
    """
    known: list[str] = []
    for folder in _folders(directory or Path.cwd()):
        for path in sorted(folder.glob("[0-9][0-9]_*.py")):
            try:
                text = path.read_text(encoding="utf-8")
                if '"id":' not in text:
                    continue
                for exercise in exercises_of(read_percent(text, where=path.name), where=path.name):
                    if exercise.id == name:
                        return exercise, path.stem
                    known.append(exercise.id)
            except (OSError, UnicodeDecodeError, InputError):
                continue  # a learner's file may be in any state; the course's own copy is tried next
    listed = ", ".join(sorted(set(known))) or "none here"
    raise OptionError(f"no exercise is called {name!r}", expected=f"one of: {listed}")


def _folders(directory: Path) -> list[Path]:
    folders = [directory]
    try:
        root = course_root()
        folders += [root / "lessons", root / "solutions"]
    except InputError:
        pass
    return folders


def hint(name: str) -> None:
    """Show the hints of an exercise step by step.

    In a notebook: a button that shows one hint more at each press. In a script or a terminal, IPython's included: each call
    prints the next one. How many were asked for is noted in the learner's progress file.

    Args:
        name: the exercise.
    Raises:
        OptionError: no exercise of that name, or it has no hints.
    """
    exercise, stem = find_hints(name)
    total = len(exercise.hints)
    if not total:
        raise OptionError("this exercise has no hints", where=f"hint({name!r})")
    last = f"That was the last hint. The worked solution is in solutions/{stem}.ipynb."
    record = current_record()
    if not in_notebook():
        given = min(int(record.get("hints", name) or 0) + 1, total)
        print(f"Hint {given} of {total}: {exercise.hints[given - 1]}")
        if given == total:
            print(last)
        record.put("hints", name, given)
        return
    import ipywidgets as widgets

    # A hint asked for once is shown again when the notebook is opened anew.
    given = min(int(record.get("hints", name) or 0), total)
    shown = widgets.HTML()
    button = widgets.Button(layout=widgets.Layout(width="auto", align_self="flex-start"), icon="lightbulb-o")

    def refresh() -> None:
        items = "".join(f"<li><b>Hint {number}.</b> {html.escape(text)}</li>" for number, text in _upto(exercise, given))
        end = f"<p>{html.escape(last)}</p>" if given == total else ""
        shown.value = f"<ul style='list-style:none;padding:0;margin:.3em 0;max-width:60em'>{items}</ul>{end}" if given else ""
        button.disabled = given == total
        button.description = f"Show hint {given + 1} of {total}" if given < total else f"All {total} hints are shown"

    def more(_: object) -> None:
        nonlocal given
        given = min(given + 1, total)
        refresh()
        record.put("hints", name, given)

    button.on_click(more)
    refresh()
    show(widgets.VBox([button, shown]))


def _upto(exercise: Exercise, count: int) -> list[tuple[int, str]]:
    return list(enumerate(exercise.hints[:count], start=1))
