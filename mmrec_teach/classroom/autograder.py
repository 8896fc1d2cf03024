"""Grade one submission where Gradescope puts it: ``python -m mmrec_teach.classroom.autograder``.

Reads ``submission/`` and ``source/``, writes ``results/results.json``, all under ``$AUTOGRADER_ROOT`` (``/autograder``). A results file
is there whatever happens: when something goes wrong it holds no points and a sentence.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmrec_teach.classroom.bundle import SETTINGS_NAME
from mmrec_teach.classroom.plan import PLAN_NAME, Plan, read_plans
from mmrec_teach.files import write_json
from mmrec_teach.grading.submission import SUFFIXES, Submission, read_submission

MOST_FILES = 200
_SKIPPED = ("__MACOSX", "__pycache__", "node_modules", "site-packages")


def main() -> int:
    """Grade, write the results, and return 0."""
    root = Path(os.environ.get("AUTOGRADER_ROOT", "/autograder"))
    target = root / "results" / "results.json"
    # Stands if this process is stopped from outside.
    write_json(target, nothing("The autograder did not finish. It is no fault of your submission: please tell your teacher."))
    try:
        results = grade_submitted(root)
    except Exception:
        traceback.print_exc()  # for the teacher alone: students do not see what is printed
        results = nothing("The autograder failed. It is no fault of your submission: please tell your teacher.")
    write_json(target, results)
    return 0


def grade_submitted(root: Path) -> dict[str, Any]:
    """The results of the submission in ``root/submission``, by the plan and settings in ``root/source``."""
    from mmrec_teach.classroom.gradescope import gradescope_results
    from mmrec_teach.classroom.result import result_from
    from mmrec_teach.classroom.worker import close_sandboxes, grade_file
    from mmrec_teach.grading.sandbox import WORDS, strongest_wall

    settings = json.loads((root / "source" / SETTINGS_NAME).read_text(encoding="utf-8"))
    plan = read_plans(root / "source" / PLAN_NAME)[settings["lesson"]]
    wall, why = strongest_wall()
    print(f"Isolation: {WORDS[wall]}" + (f" ({why})" if why else ""))
    submission = find_submission(root / "submission", plan)
    if submission is None:
        return nothing(f"There is no notebook and no Python file in your submission: hand in {plan.lesson}.ipynb.")
    try:
        graded = grade_file(submission, submission.name, plan, student="submission", wall=wall, salt=int(settings["salt"]))
    finally:
        close_sandboxes()
    return gradescope_results(result_from(graded))


def find_submission(folder: Path, plan: Plan) -> Submission | None:
    """The file to grade: the one that defines most of the lesson's functions; None when there is no notebook and no Python file.

    Among equals a file with the lesson's name wins, then a notebook, then the one that lies highest. Links are not followed.
    """
    paths: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        here = [Path(where) / name for name in sorted(names) if not name.startswith(".")]
        paths += [path for path in here if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink()]
    if not paths:
        return None
    paths.sort(key=lambda path: (not _named(path, plan), path.suffix.lower() != ".ipynb", len(path.parts), path))
    found = [read_submission(path) for path in paths[:MOST_FILES]]
    best = max(found, key=lambda submission: _written(submission, plan))  # the first of equals
    if len(paths) == 1:
        return best
    left = ", ".join(path.name for path, one in zip(paths[:6], found[:6]) if one is not best)
    return replace(best, notes=(*best.notes, f"{best.name} was graded, and not {left}{' …' if len(paths) > 6 else ''}."))


def nothing(sentence: str) -> dict[str, Any]:
    """Results without a point."""
    return {"score": 0, "output": sentence, "visibility": "visible", "stdout_visibility": "hidden"}


def _named(path: Path, plan: Plan) -> bool:
    return plan.lesson in path.stem or plan.lesson[3:] in path.stem.lower()


def _written(submission: Submission, plan: Plan) -> int:
    defined = set(re.findall(r"^def\s+(\w+)", "\n".join(submission.cells), re.MULTILINE))
    return sum(task.name in defined for task in plan.tasks)


if __name__ == "__main__":
    sys.exit(main())
