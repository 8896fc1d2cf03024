"""Which exercises a lesson has, and what each is worth: read from the course's notebooks, or from a plan written earlier."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrec_teach.course.master import course_root, exercises_of, find_lesson, read_percent
from mmrec_teach.errors import InputError
from mmrec_teach.files import write_text
from mmrec_teach.grading.exercise import load_exercises

PLAN_NAME = "plan.json"


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
        root: a course's folder, or one with a ``plan.json``; by default the working directory if it has one, else the course found
            from there.
    Raises:
        InputError: no course and no plan there.
    """
    here = Path.cwd() if root is None else Path(root)
    if (here / PLAN_NAME).is_file():
        return read_plans(here / PLAN_NAME)
    root = course_root(root)
    folder = root / "lessons" if (root / "lessons").is_dir() else root / "solutions"
    plans = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.py")):
        found = exercises_of(read_percent(path.read_text(encoding="utf-8"), where=path.name), where=path.name)
        tasks = tuple(Task(one.id, one.title, float(one.points)) for one in found if one.id in load_exercises())
        if tasks:
            plans[path.stem] = Plan(path.stem, tasks)
    return plans


def choose_plan(name: str, plans: dict[str, Plan]) -> Plan:
    """The plan of the lesson a teacher means by ``1``, ``01`` or ``bpr``. Raises InputError when none or several fit."""
    return plans[find_lesson(name, list(plans))]


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
