"""Read a master and blank its solutions.

A master is a notebook in jupytext's percent form. An exercise is a code cell whose marker line carries metadata:

    # %% tags=["exercise"] exercise={"id": "propagate", "title": "one step along the edges", "points": 3, "minutes": 10, ⏎
    "difficulty": 2, "hints": ["…", "…", "…"]}                                          (one line in the file)
    def propagate(adjacency, h):
        \"\"\"One LightGCN layer …\"\"\"
        ### BEGIN SOLUTION
        return adjacency @ h
        ### END SOLUTION

In the blank the region becomes ``raise NotImplementedError("Write `propagate`: one step along the edges")``; everything
outside the markers stays. Words after the marker (``### BEGIN SOLUTION: the layer mean``) replace the title in that region's
message, for exercises with more than one region.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrec_teach.errors import InputError

if TYPE_CHECKING:
    from nbformat import NotebookNode

LESSON_NAME = re.compile(r"(?P<number>\d\d)_(?P<slug>[a-z0-9_]+)")
BEGIN = re.compile(r"^(?P<indent>[ \t]*)### BEGIN SOLUTION(?::\s*(?P<task>.*\S))?\s*$")
END = re.compile(r"^[ \t]*### END SOLUTION\s*$")
MARKER = re.compile(r"^# %%(?:\s|$)")


@dataclass(frozen=True)
class Exercise:
    """What a master says about one exercise.

    Attributes:
        id: the name `check` is called with, and the name of the function to write.
        title: what to write, as it follows "Write `id`: ".
        points, minutes, difficulty: weight, expected time and a level from 1 to 3.
        hints: three hints, from a nudge to nearly the answer.
        cell: index of its cell in the notebook.
        solutions: the text of every solution region, in order.
    """

    id: str
    title: str = ""
    points: int = 0
    minutes: int = 0
    difficulty: int = 0
    hints: tuple[str, ...] = ()
    cell: int = -1
    solutions: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Master:
    """One lesson as its author wrote it: the text of ``solutions/NN_slug.py``."""

    path: Path
    text: str = field(repr=False)

    @property
    def stem(self) -> str:
        """``03_lightgcn``."""
        return self.path.stem

    @property
    def number(self) -> str:
        """``03``."""
        return self.stem[:2]

    @cached_property
    def blank(self) -> str:
        """The text of the learner's version. Raises InputError where a region is not closed or not in an exercise cell."""
        return blank_text(self.text, where=self.path.name)

    @cached_property
    def notebook(self) -> NotebookNode:
        """The solved notebook (jupytext's reading of the text, cell ids not yet set)."""
        return read_percent(self.text, where=self.path.name)

    @cached_property
    def exercises(self) -> tuple[Exercise, ...]:
        """The exercises of this lesson, in order of appearance."""
        return exercises_of(self.notebook, where=self.path.name)


def read_percent(text: str, *, where: str) -> NotebookNode:
    """The notebook a percent script stands for; InputError with the file's name if it cannot be read."""
    import jupytext

    try:
        notebook = jupytext.reads(text, fmt="py:percent")
    except Exception as error:  # jupytext passes on what yaml and json raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("not a notebook in percent form", where=where, found=reason) from error
    for cell in notebook.cells:
        cell.metadata.pop("lines_to_next_cell", None)
        cell.metadata.pop("lines_to_end_of_cell_marker", None)
    return notebook


def exercises_of(notebook: NotebookNode, *, where: str = "notebook") -> tuple[Exercise, ...]:
    """The exercises found in the cell metadata of a notebook, solved or blank.

    Raises InputError when the metadata of a cell does not have the documented keys.
    """
    found = []
    for index, cell in enumerate(notebook.cells):
        meta: Any = cell.metadata.get("exercise")
        if meta is None:
            if "exercise" in cell.metadata.get("tags", []):
                raise InputError("a cell tagged exercise has no exercise={…} metadata", where=f"{where}, cell {index + 1}")
            continue
        if not isinstance(meta, dict) or not isinstance(meta.get("id"), str):
            raise InputError(
                "the exercise metadata cannot be read",
                where=f"{where}, cell {index + 1}",
                found=meta,
                expected='{"id": "name", …}',
            )
        known = {"id", "title", "points", "minutes", "difficulty", "hints"}
        if extra := set(meta) - known:
            raise InputError(
                f"exercise {meta['id']} has unknown keys",
                where=f"{where}, cell {index + 1}",
                found=", ".join(sorted(extra)),
                expected=", ".join(sorted(known)),
            )
        found.append(
            Exercise(
                id=meta["id"],
                title=str(meta.get("title", "")),
                points=int(meta.get("points", 0)),
                minutes=int(meta.get("minutes", 0)),
                difficulty=int(meta.get("difficulty", 0)),
                hints=tuple(str(hint) for hint in meta.get("hints", ())),
                cell=index,
                solutions=tuple(solution_regions(cell.source)),
            )
        )
    return tuple(found)


def solution_regions(source: str) -> list[str]:
    """The text between each pair of solution markers."""
    regions, current = [], None
    for line in source.splitlines():
        if BEGIN.match(line):
            current = []
        elif END.match(line) and current is not None:
            regions.append("\n".join(current))
            current = None
        elif current is not None:
            current.append(line)
    return regions


def blank_text(text: str, *, where: str = "master") -> str:
    """The master's text with every solution region replaced by a line that raises NotImplementedError.

    Only the regions change: all other lines stay as they are, so a learner's version differs from its master nowhere else.

    Args:
        text: a percent script.
        where: the name to use in errors.
    Raises:
        InputError: a region that is never closed, closed without being opened, nested, or outside an exercise cell.
    """
    out: list[str] = []
    exercise: dict | None = None
    opened_at: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        here = f"{where} line {number}"
        if MARKER.match(line):
            if opened_at is not None:
                raise InputError(
                    "a solution region is still open where the next cell begins", where=f"{where} line {opened_at}"
                )
            exercise = marker_exercise(line)
        begin = BEGIN.match(line)
        if begin:
            if opened_at is not None:
                raise InputError(f"a solution region begins inside the one of line {opened_at}", where=here)
            if exercise is None or not exercise.get("id"):
                raise InputError("a solution region stands in a cell without exercise={…} metadata", where=here)
            opened_at = number
            task = begin["task"] or str(exercise.get("title", "")) or "the lines that are missing here"
            message = f"Write `{exercise['id']}`: {task}"
            out.append(f"{begin['indent']}raise NotImplementedError({_quoted(message)})")
        elif END.match(line):
            if opened_at is None:
                raise InputError("END SOLUTION without a BEGIN SOLUTION", where=here)
            opened_at = None
        elif "## BEGIN SOLUTION" in line or "## END SOLUTION" in line:
            raise InputError(
                "a solution marker that is not exact",
                where=here,
                found=line.strip(),
                expected="### BEGIN SOLUTION or ### END SOLUTION alone on its line",
            )
        elif opened_at is None:
            out.append(line)
    if opened_at is not None:
        raise InputError("a solution region is never closed", where=f"{where} line {opened_at}")
    return "\n".join(out) + "\n"


def marker_exercise(line: str) -> dict | None:
    """The exercise metadata of a ``# %%`` line; None when there is none."""
    if "exercise=" not in line:
        return None
    from jupytext.cell_metadata import parse_key_equal_value

    meta = parse_key_equal_value(line.split("# %%", 1)[1].replace("[markdown]", "").strip())
    exercise = meta.get("exercise")
    return exercise if isinstance(exercise, dict) else None


def _quoted(message: str) -> str:
    """The message as a Python literal, double-quoted as ruff wants it."""
    return '"' + message.replace("\\", "\\\\").replace('"', '\\"') + '"'


def course_root(start: str | Path | None = None) -> Path:
    """The folder that holds ``lessons/``: ``start`` or one above it, else the one the package was installed from.

    Raises:
        InputError: no such folder; says where it looked.
    """
    here = Path(start or Path.cwd()).resolve()
    package_home = Path(__file__).resolve().parents[2]
    for candidate in [here, *here.parents, *([] if start else [package_home])]:
        if (candidate / "solutions").is_dir() and any((candidate / "solutions").glob("[0-9][0-9]_*.py")):
            return candidate
        if (candidate / "lessons").is_dir() and any((candidate / "lessons").glob("[0-9][0-9]_*.ipynb")):
            return candidate
    raise InputError("no course here", where=str(here), expected="a folder with lessons/ or solutions/ in it or above it")


def load_masters(root: Path) -> list[Master]:
    """All masters of a course in order of their number.

    Raises:
        InputError: two lessons with one number, or a file name that is not ``NN_slug.py``.
    """
    masters: list[Master] = []
    for path in sorted((root / "solutions").glob("*.py")):
        if not LESSON_NAME.fullmatch(path.stem):
            raise InputError("not the name of a lesson", where=f"solutions/{path.name}", expected="NN_slug.py")
        if masters and masters[-1].number == path.stem[:2]:
            raise InputError("two lessons have one number", where=f"solutions/{path.name}", found=masters[-1].path.name)
        try:
            masters.append(Master(path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError as error:
            raise InputError("not UTF-8", where=f"solutions/{path.name}", found=str(error)) from error
    return masters


def find_lesson(name: str, available: list[str]) -> str:
    """The lesson a learner means by ``1``, ``01``, ``bpr`` or ``01_bpr(.ipynb)``.

    Args:
        name: what was typed.
        available: stems of the lessons there are.
    Raises:
        InputError: none or several fit; the message lists the lessons.
    """
    wanted = Path(name).name.removesuffix(".ipynb").removesuffix(".py").lower()
    if wanted.isdigit():
        wanted = wanted.zfill(2)
    exact = [stem for stem in available if stem == wanted or stem[:2] == wanted or stem[3:] == wanted]
    fits = exact or [stem for stem in available if wanted and wanted in stem]
    if len(fits) != 1:
        listed = ", ".join(available) if available else "none yet"
        raise InputError(f"{'no' if not fits else 'more than one'} lesson is called {name!r}", expected=f"one of: {listed}")
    return fits[0]
