"""What every lesson says in the same words, put into the masters by the builder: a heading above each exercise, and answers
whose code is folded away."""

from __future__ import annotations

import re

from mmrec_teach.course.master import MARKER, marker_exercise

HEADING = '# %% [markdown] tags=["exercise-heading"]'
FOLDED = 'jupyter={"source_hidden": true}'
# A call at the left margin: the code around it spells out the answers, and a learner would read it before the question.
TELLING = re.compile(r"^(?:quiz|reveal)\(")


def furnished(text: str) -> str:
    """A master's text with a heading cell before every exercise, and with the code of `quiz` and `reveal` cells folded.

    The heading is made from the exercise's metadata, and made anew when they change. A cell is folded by the metadata that
    JupyterLab itself writes for "Collapse Selected Code". Doing it twice changes nothing; all other lines stay as they are.

    Args:
        text: a percent script.
    """
    out: list[str] = []
    for cell in _cells(text):
        if cell[0].startswith(HEADING):
            continue  # an earlier one; it is made anew below
        exercise = marker_exercise(cell[0])
        if exercise and exercise.get("id"):
            out += heading(exercise)
        elif _is_code(cell[0]) and any(TELLING.match(line) for line in cell[1:]) and "source_hidden" not in cell[0]:
            cell = [f"{cell[0].rstrip()} {FOLDED}", *cell[1:]]
        out += cell
    return "\n".join(out) + "\n"


def heading(exercise: dict) -> list[str]:
    """The lines of the cell above an exercise: what to write, how long, how hard, and what to do."""
    points = int(exercise.get("points", 0))
    worth = f"{points} point{'' if points == 1 else 's'}"
    return [
        HEADING,
        f"# ### Exercise · {exercise.get('minutes', '?')} min · {worth} · difficulty {exercise.get('difficulty', '?')} of 3",
        f"# Write `{exercise['id']}`: {exercise.get('title', '')}.",
        "# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*",
        "",
    ]


def _cells(text: str) -> list[list[str]]:
    """The lines of the text, cut before every cell marker; what stands before the first marker is a cell of its own."""
    cells: list[list[str]] = [[]]
    for line in text.splitlines():
        if MARKER.match(line):
            cells.append([])
        cells[-1].append(line)
    return [cell for cell in cells if cell]


def _is_code(marker: str) -> bool:
    return bool(MARKER.match(marker)) and "[markdown]" not in marker
