"""Which exercises a lesson has, and what each is worth: read from the course's notebooks, or from a plan written earlier."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import mmrec_teach
from mmrec_teach.course.master import course_root, exercises_of, find_lesson, read_percent
from mmrec_teach.errors import InputError
from mmrec_teach.files import write_text

PLAN_NAME = "plan.json"
_EXERCISES = Path(mmrec_teach.__file__).resolve().parent / "grading" / "exercises"
_LESSONS = "[0-9][0-9]_*.py"
_KEYS = {"id", "title", "points", "minutes", "difficulty", "hints"}


@dataclass(frozen=True)
class Task:
    """One exercise as a teacher sees it.

    Attributes:
        name: of the function to write.
        title: what it is, in a few words.
        points: what it is worth.
    """

    name: str
    title: str
    points: float


@dataclass(frozen=True)
class Plan:
    """A lesson and its exercises in their order.

    Attributes:
        lesson: its stem, ``01_bpr``.
        tasks: its exercises.
    """

    lesson: str
    tasks: tuple[Task, ...]

    @property
    def points(self) -> float:
        """The sum of all points."""
        return sum(task.points for task in self.tasks)


def load_plans(root: Path | None = None) -> dict[str, Plan]:
    """Every lesson that has exercises, by stem.

    Args:
        root: a course's folder, or one with a ``plan.json``. By default the course that the package lies in; without one (a
            hand-out), the ``plan.json`` of the working directory, or the course found from there: a folder of submissions must not
            say what is graded.
    Raises:
        InputError: no course and no plan there.
    """
    place = _place(root)
    if place.name == PLAN_NAME:
        return read_plans(place)
    plans = {}
    known = _Known()
    for path in sorted(place.glob(_LESSONS)):
        tasks = tuple(task for task in _tasks(path.read_text(encoding="utf-8"), path.name) if task.name in known)
        if tasks:
            plans[path.stem] = Plan(path.stem, tasks)
    return plans


def _place(root: Path | None) -> Path:
    """The ``plan.json``, or the folder of lessons, that `load_plans` reads."""
    home = Path(__file__).resolve().parents[2]
    if root is None and any((home / "lessons").glob(_LESSONS)):
        root = home
    here = Path.cwd() if root is None else Path(root)
    if (here / PLAN_NAME).is_file():
        return here / PLAN_NAME
    root = course_root(root)
    return root / "lessons" if (root / "lessons").is_dir() else root / "solutions"


def exercise_lessons() -> dict[str, str]:
    """The lesson's number ("01") of each exercise, by name.

    It is read from the text of ``grading/exercises``: importing that takes seconds, and a wrong word on the command line is to be
    told at once. Exercises made in another way than ``Exercise("name", lesson="01")`` are not seen; `load_exercises` sees them.
    """
    found: dict[str, str] = {}
    for path in sorted(_EXERCISES.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "Exercise":
                continue
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            name, lesson = (node.args[0] if node.args else named.get("name")), named.get("lesson")
            if isinstance(name, ast.Constant) and isinstance(lesson, ast.Constant):
                found[str(name.value)] = str(lesson.value)
    if any(_EXERCISES.glob("*.npz")):  # a hand-out's examples
        found |= _loaded()
    return found


class _Known:
    """Names of exercises; those that the text does not tell are looked for by importing."""

    def __init__(self) -> None:
        self._names: set[str] = set(exercise_lessons())
        self._loaded = False

    def __contains__(self, name: str) -> bool:
        if name not in self._names and not self._loaded:
            self._loaded = True
            self._names |= set(_loaded())
        return name in self._names


def _loaded() -> dict[str, str]:
    from mmrec_teach.grading.exercise import load_exercises

    return {name: exercise.lesson for name, exercise in load_exercises().items()}


def _tasks(text: str, where: str) -> list[Task]:
    """The exercises of a lesson's text, by their marker lines; a line that is not quite as usual is left to jupytext to judge."""
    found = []
    for line in text.splitlines():
        if not line.startswith("# %%") or not ('"exercise"' in line or " exercise=" in line):
            continue
        before, mark, _ = line.partition(" exercise={")
        try:
            told = json.JSONDecoder().raw_decode(line, len(before) + len(mark) - 1)[0] if mark else {}
        except ValueError:
            told = {}
        if not isinstance(told.get("id"), str) or set(told) - _KEYS:
            return [
                Task(one.id, one.title, float(one.points)) for one in exercises_of(read_percent(text, where=where), where=where)
            ]
        found.append(Task(told["id"], str(told.get("title", "")), float(int(told.get("points", 0)))))
    return found


def choose_plan(name: str, plans: dict[str, Plan], root: Path | None = None) -> Plan:
    """The plan of the lesson a teacher means by ``1``, ``01`` or ``bpr``.

    Args:
        name: what was typed.
        plans: the lessons to choose from.
        root: where `load_plans` found them.
    Raises:
        InputError: none or several fit, or the lesson that fits has no exercises.
    """
    try:
        return plans[find_lesson(name, list(plans))]
    except InputError:
        bare = _without_exercises(name, plans, root)
        if bare is None:
            raise
    raise InputError(
        f"lesson {bare} has no exercises: there is nothing to hand out and nothing to grade",
        expected=f"one of: {', '.join(plans)}",
    )


def _without_exercises(name: str, plans: dict[str, Plan], root: Path | None) -> str | None:
    """The one lesson of that name that has no plan, or None."""
    try:
        place = _place(root)
        if place.name == PLAN_NAME:
            return None
        stem = find_lesson(name, sorted(path.stem for path in place.glob(_LESSONS)))
    except InputError:
        return None
    return None if stem in plans else stem


def write_plans(path: Path, plans: dict[str, Plan]) -> None:
    """Store plans for a place without the course's notebooks (an autograder)."""
    write_text(path, plans_text(plans.values()))


def plans_text(plans: Iterable[Plan]) -> str:
    """What `write_plans` stores."""
    stored = {"version": 1, "lessons": [asdict(plan) for plan in plans]}
    return json.dumps(stored, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_plans(path: Path) -> dict[str, Plan]:
    """Read what `write_plans` wrote; InputError when the file is not that."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        plans = [Plan(one["lesson"], tuple(Task(**task) for task in one["tasks"])) for one in stored["lessons"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("not a plan of lessons", where=str(path), found=str(error)) from error
    return {plan.lesson: plan for plan in plans}
