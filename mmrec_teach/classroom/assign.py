"""The hand-out: a folder with blank notebooks, the data, and an edition of the package that holds the examples and no more."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrec_teach.classroom.edition import locked_requirements, student_edition
from mmrec_teach.classroom.plan import PLAN_NAME, Plan, choose_plan, load_plans, plans_text
from mmrec_teach.course.master import course_root
from mmrec_teach.errors import InputError
from mmrec_teach.files import atomic_path

STATE_NAME = ".course.json"  # as in grading/record.py, which is not imported before it is needed
_HOW = "**How a lesson works.**"
_PARTS = {
    "examples": "the examples, which you have",
    "random": "random cases of the same kind",
    "hidden": "further cases",
    "gradient": "gradients",
    "inputs": "inputs left as they were",
    "rules": "what the text asks for beyond the values, such as no Python loop",
}


@dataclass(frozen=True)
class HandOut:
    """What was written.

    Attributes:
        folder: where.
        plans: the lessons in it.
        files: paths inside the folder.
        size: bytes altogether.
    """

    folder: Path
    plans: tuple[Plan, ...]
    files: tuple[str, ...]
    size: int


def assign(lessons: Sequence[str], out: Path, *, again: bool = False, root: Path | None = None) -> HandOut:
    """Write the hand-out of some lessons; the folder appears whole or not at all.

    Args:
        lessons: such as ``01`` or ``bpr``.
        out: the folder to make; it must not exist, or be empty.
        again: replace an earlier hand-out there. One that was changed since is not touched.
        root: the course's folder; found from the working directory by default.
    Raises:
        InputError: no such lesson, the folder is in use, or the course's notebooks, data or version list are not here.
    """
    root = course_root(root)
    plans = load_plans(root)
    chosen = tuple(
        sorted({(plan := choose_plan(name, plans, root)).lesson: plan for name in lessons}.values(), key=lambda p: p.lesson)
    )
    if not chosen:
        raise InputError("no lesson was named", expected=f"one or more of: {', '.join(plans)}")
    out = Path(os.path.abspath(out))  # a folder of the working directory, whatever that is later
    _refuse_if_in_use(out, again)
    with atomic_path(out) as temporary:
        files = hand_out_files(chosen, root)
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o644)
        temporary.chmod(0o755)
    return HandOut(out, chosen, tuple(files), sum(map(len, files.values())))


def hand_out_files(plans: Sequence[Plan], root: Path) -> dict[str, bytes]:
    """Every file of a hand-out: path → content. The same course gives the same bytes."""
    # What may be missing comes first: torch is imported further below.
    files = {f"{plan.lesson}.ipynb": _notebook(root, plan.lesson) for plan in plans}
    versions = locked_requirements(root, ["lab"])
    files |= _data(root)

    from mmrec_teach.grading.exercise import find_exercise

    wheel = student_edition([find_exercise(task.name) for plan in plans for task in plan.tasks])
    files[wheel.name] = wheel.content
    files["requirements.txt"] = "".join(f"{line}\n" for line in [*versions, f"./{wheel.name}"]).encode()
    files[PLAN_NAME] = plans_text(plans).encode()  # names and points, for `pytest --submission`
    files["README.md"] = readme(plans, _how_a_lesson_works(root, plans)).encode()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    # Beside it the learner's progress is kept (see grading/record.py); and it tells an earlier hand-out from a folder in use.
    state = {"version": 1, "lessons": {}, "handed_out": digests}
    files[STATE_NAME] = (json.dumps(state, indent=1) + "\n").encode()
    return files


def readme(plans: Sequence[Plan], how: str = "") -> str:
    """The page for students.

    Args:
        plans: the lessons in the hand-out.
        how: a paragraph on how a lesson works, where none of these lessons has it.
    """
    from mmrec_teach.grading.exercise import find_exercise

    first = plans[0]
    rows = "\n".join(
        f"| {plan.lesson} | `{task.name}` | {task.title} | {task.points:g} |" for plan in plans for task in plan.tasks
    )
    exercises = [find_exercise(task.name) for plan in plans for task in plan.tasks]
    groups = {group for exercise in exercises for _, group in exercise.result_names()}
    looked_at = "; ".join(words for group, words in _PARTS.items() if group in groups)
    names = " and ".join(f"`{plan.lesson}.ipynb`" for plan in plans)
    name = first.tasks[0].name
    return f"""# Your lesson{"s" if len(plans) > 1 else ""}: {", ".join(plan.lesson for plan in plans)}

## Set up, once

You need Python 3.11 or newer. In a terminal, in this folder:

    python3 -m venv .venv
    . .venv/bin/activate                     # on Windows: .venv\\Scripts\\activate
    pip install -r requirements.txt          # some minutes

`mmrec-teach doctor` says what works and what to do about the rest.

## Work

    . .venv/bin/activate
    jupyter lab {first.lesson}.ipynb

Start JupyterLab from this folder: the data in `data/` is found from here. Read, run cell by cell, and put your own lines in place
of each `raise NotImplementedError(…)`. Keep the functions' names and their inputs.

`check("{name}")` tells at once whether your function is right on the examples, and what came back where it is not.
`hint("{name}")` gives up to three hints. Both cost nothing, however often you call them. A stub that is not written yet stops the cells
that need it; go on once its check passes.
{how}
## What is graded

| lesson | function | what it does | points |
|---|---|---|---:|
{rows}

Your teacher's grader looks at: {looked_at}. So a passed check means "right on the examples", and not yet all points.

- Only your functions are graded, and what they need: imports, constants and other functions of your notebook. Prints, plots and training
  runs count for nothing and harm nothing.
- A function must compute its answer itself. One that calls this package's own answer earns nothing.
- Speed matters only where the text says so.

## Hand in

{names}, under {"these names" if len(plans) > 1 else "this name"}. Save first. Outputs may stay in.
"""


def _notebook(root: Path, lesson: str) -> bytes:
    """The blank notebook, without its tie to a text file: one file is simpler to hand in."""
    path = root / "lessons" / f"{lesson}.ipynb"
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("the blank lesson cannot be read", where=str(path), fix="Run `mmrec-teach course build`") from error
    notebook["metadata"].pop("jupytext", None)
    return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _how_a_lesson_works(root: Path, plans: Sequence[Plan]) -> str:
    """What lesson 00 says at its top on how a lesson works, and what a lesson means by "lesson 00"; "" where it is handed out."""
    if any(plan.lesson.startswith("00") for plan in plans):
        return ""
    section = """
Where a lesson speaks of another that is not in this folder ("needs lesson 00"), it means that lesson of the public course. You can work
without it.
"""
    for path in sorted((root / "lessons").glob("00_*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown" and _HOW in text:
                told = text.partition(_HOW)[2]
                told = re.split(r"^#", told, maxsplit=1, flags=re.MULTILINE)[0].strip()
                return f"\n## How a lesson works\n\n{told}\n{section}"
    return section


def _data(root: Path) -> dict[str, bytes]:
    from mmrec_teach.data import bazaar, store

    folder = root / "data" if (root / "data" / store.CHECKSUMS).is_file() else store.ensure()
    store.verify(folder)
    names = [store.CHECKSUMS, *(store.file_name(domain) for domain in bazaar.DOMAINS)]
    names += [name for name, _ in store.MODELS.values() if (folder / name).is_file()]
    return {f"data/{name}": (folder / name).read_bytes() for name in names}


def _refuse_if_in_use(out: Path, again: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise InputError("the hand-out needs a folder of its own", where=str(out), found="a file or a link", fix="Name another")
    if Path.cwd().is_relative_to(out.resolve()):
        raise InputError("the hand-out replaces its folder, and you are in it", where=str(out), fix="Name another folder")
    if not any(out.iterdir()):
        return
    try:
        handed_out = dict(json.loads((out / STATE_NAME).read_text(encoding="utf-8"))["handed_out"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            "the folder is not empty, and no hand-out of this course is in it",
            where=str(out),
            fix="Name a folder that does not exist",
        ) from None
    if not again:
        raise InputError("an earlier hand-out is there", where=str(out), fix="Name another folder, or replace it with --again")
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if (path.is_dir() and not path.is_symlink()) or name == STATE_NAME:
            continue
        if path.is_symlink() or handed_out.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
            what = "was changed since" if name in handed_out else "does not belong to it"
            raise InputError(
                f"a file in the earlier hand-out {what}", where=str(path), fix="Move it away, or name another folder"
            )
