"""The autograder for Gradescope: a zip file with the package, the plan of one lesson, and two scripts."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from mmrec_teach.classroom.edition import locked_requirements, whole_edition, zipped
from mmrec_teach.classroom.plan import PLAN_NAME, Plan, choose_plan, load_plans, plans_text
from mmrec_teach.course.master import course_root
from mmrec_teach.errors import InputError
from mmrec_teach.files import write_bytes

SETTINGS_NAME = "settings.json"

SETUP = """#!/usr/bin/env bash
# Run once by Gradescope, while it builds the image.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
root="${AUTOGRADER_ROOT:-/autograder}"
cd "$root/source"

apt-get update -qq
# bubblewrap is the strongest wall around students' code; without it the next one is taken.
apt-get install -y -qq --no-install-recommends bubblewrap || echo "bubblewrap could not be installed"

new_enough() { command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }
find_python() { for name in python3 python3.13 python3.12 python3.11; do if new_enough "$name"; then echo "$name"; return; fi; done; }
python="$(find_python)"
if [ -z "$python" ]; then
  apt-get install -y -qq --no-install-recommends python3.11
  python="$(find_python)"
fi
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
"$python" -c 'import ensurepip, venv' 2>/dev/null || apt-get install -y -qq --no-install-recommends "python$version-venv"

"$python" -m venv "$root/venv"
"$root/venv/bin/python" -m pip install --quiet -r requirements.txt
"$root/venv/bin/python" -m pip install --quiet --no-deps ./mmrec_teach-*.whl
"$root/venv/bin/python" -c 'from mmrec_teach.grading.sandbox import strongest_wall; print("Isolation:", *strongest_wall())'
"""

RUN = """#!/usr/bin/env bash
# Run by Gradescope for each submission. Whatever happens, results.json says something.
root="${AUTOGRADER_ROOT:-/autograder}"
python="${AUTOGRADER_PYTHON:-$root/venv/bin/python}"
results="$root/results/results.json"
mkdir -p "$root/results"
rm -f "$results"
# A folder that no student wrote to: Python must not import a module from the submission.
cd "$root/source" || exit 1
"$python" -P -m mmrec_teach.classroom.autograder
if [ ! -s "$results" ]; then
  echo '{"score": 0, "output": "The autograder could not start. It is no fault of your submission: please tell your teacher."}' \\
    > "$results.new" && mv "$results.new" "$results"
fi
"""


def write_bundle(
    lesson: str, out: Path, *, salt: int | None = None, again: bool = False, root: Path | None = None
) -> tuple[Plan, int]:
    """Write the zip file; returns the plan of its lesson, and the number that its random cases follow from.

    Args:
        lesson: such as ``01`` or ``bpr``.
        out: the file.
        salt: the teacher's own number that goes into the random cases; drawn by default.
        again: replace a file that is there.
        root: the course's folder; found from the working directory by default.
    Raises:
        InputError: no such lesson, a file that is there, or one that is not called ``.zip``.
    """
    if out.suffix.lower() != ".zip":
        raise InputError("the bundle is a zip file", where="--out", found=out.name, expected="a name that ends in .zip")
    if out.is_dir():
        raise InputError("a folder stands there", where=str(out), fix="Name a file")
    if out.exists() and not again:
        raise InputError("a file of that name is there", where=str(out), fix="Name another, or replace it with --again")
    root = course_root(root)
    plan = choose_plan(lesson, load_plans(root), root)
    salt = secrets.randbelow(2**31) if salt is None else salt
    write_bytes(out, zipped(bundle_files(plan, root, salt), executable=("setup.sh", "run_autograder")))
    return plan, salt


def bundle_files(plan: Plan, root: Path, salt: int = 0) -> dict[str, bytes]:
    """Every file of the bundle: name → content."""
    wheel = whole_edition()
    return {
        "setup.sh": SETUP.encode(),
        "run_autograder": RUN.encode(),
        "requirements.txt": "".join(f"{line}\n" for line in locked_requirements(root)).encode(),
        PLAN_NAME: plans_text([plan]).encode(),
        SETTINGS_NAME: (json.dumps({"lesson": plan.lesson, "salt": salt}) + "\n").encode(),
        wheel.name: wheel.content,
    }
