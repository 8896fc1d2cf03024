"""How many isolated submissions of one lesson are graded in a minute, beside a fresh process for each, in one run.

    python benchmarks/bench_grading.py --out benchmarks/results/grading.json

The class is a mix of solved, blank and wrong submissions of lesson 01. "warm" is `mmrec-teach grade` itself with 1 and with 2
processes: each imports torch once and forks for every exercise. Both figures are given: with starting the processes and without
(from the first stored result to the last). "cold" is a new Python process, with a sandbox of its own, for every submission: what a
grader does that calls one script a student. Speed means something on an otherwise idle machine only: the load average is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COLD = """
import sys
from pathlib import Path
from mmrec_teach.classroom.plan import load_plans
from mmrec_teach.classroom.worker import grade_file
path = Path(sys.argv[1])
wall = sys.argv[2] or None
result = grade_file(path.read_bytes(), path.name, load_plans(Path(sys.argv[3]))["01_bpr"], student=path.stem, wall=wall)
print(sum(exercise["score"] for exercise in result["exercises"]))
"""


def make_class(folder: Path, count: int) -> None:
    """Write ``count`` submissions, no two alike: a third solved, a third blank, a third wrong in one of two ways."""
    solved = (ROOT / "solutions" / "01_bpr.py").read_text(encoding="utf-8")
    blank = (ROOT / "lessons" / "01_bpr.py").read_text(encoding="utf-8")
    wrong = solved.replace("softplus(neg - pos)", "softplus(pos - neg)")
    axis = solved.replace("(user_vectors * item_vectors).sum(-1)", "(user_vectors * item_vectors).sum(0)")
    assert len({solved, blank, wrong, axis}) == 4
    kinds = [("solved", solved), ("blank", blank), ("wrong", wrong), ("solved", solved), ("blank", blank), ("wrong", axis)]
    for number in range(count):
        kind, text = kinds[number % len(kinds)]
        (folder / f"{kind}{number:03d}_01_bpr.py").write_text(f"{text}\n# {number}\n", encoding="utf-8")


def warm(folder: Path, jobs: int, wall: str | None, count: int) -> dict[str, Any]:
    """Time `mmrec-teach grade`."""
    from mmrec_teach.classroom.grade import RESULTS, grade_class

    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        results = grade_class(folder, out, ["01"], jobs, wall, progress=False)
        whole = time.perf_counter() - start
        written = sorted(path.stat().st_mtime for path in Path(out, RESULTS).rglob("*.json"))
    assert len(results) == count, "every submission has a result"
    check([(result.student, result.score) for result in results])
    return {
        "jobs": jobs,
        "wall": results[0].wall,
        "seconds": round(whole, 2),
        "per_minute_with_start": round(60 * count / whole, 1),
        "per_minute": round(60 * (count - 1) / (written[-1] - written[0]), 1),
    }


def cold(folder: Path, wall: str | None, count: int) -> dict[str, Any]:
    """Time a fresh process for each of ``count`` submissions, one after the other."""
    found = []
    start = time.perf_counter()
    for path in sorted(folder.glob("*.py"))[:: max(1, len(list(folder.glob("*.py"))) // count)][:count]:
        done = subprocess.run(
            [sys.executable, "-c", COLD, str(path), wall or "", str(ROOT)], capture_output=True, text=True, check=True
        )
        found.append((path.stem, float(done.stdout)))
    seconds = time.perf_counter() - start
    check(found)
    return {"submissions": len(found), "seconds": round(seconds, 2), "per_minute": round(60 * len(found) / seconds, 1)}


def check(scores: list[tuple[str, float]]) -> None:
    """Speed without right verdicts is worth nothing."""
    for student, score in scores:
        right = score == 6 if student.startswith("solved") else score == 0 if student.startswith("blank") else 0 < score < 6
        assert right, f"{student} got {score}"


def main() -> None:
    """Run, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=60, metavar="N")
    parser.add_argument("--cold", type=int, default=6, metavar="N", help="how many of them with a fresh process each")
    parser.add_argument("--isolation", choices=("bubblewrap", "landlock", "limits"))
    parser.add_argument("--out", type=Path, metavar="FILE", help="store the figures as JSON")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_class(folder, arguments.submissions)
        baseline = cold(folder, arguments.isolation, arguments.cold)
        print(f"cold: a fresh process for each      {baseline['per_minute']:7.1f} a minute")
        runs = []
        for jobs in (1, 2):
            run = warm(folder, jobs, arguments.isolation, arguments.submissions)
            run["times_cold"] = round(run["per_minute"] / baseline["per_minute"], 1)
            runs.append(run)
            print(
                f"warm: {jobs} process{'es' if jobs > 1 else '  '}, {run['wall']:<10}        {run['per_minute']:7.1f} a minute"
                f" ({run['per_minute_with_start']:.1f} with starting them), {run['times_cold']:.1f} x cold"
            )
    cores = os.cpu_count() or 1
    if load > 0.5:
        print(
            f"This machine was busy when the run began (load average {load:.1f} on {cores} cores): run it again when it is idle."
        )
    if arguments.out:
        figures = {
            "command": f"python benchmarks/bench_grading.py --submissions {arguments.submissions} --out {arguments.out}",
            "lesson": "01_bpr",
            "submissions": arguments.submissions,
            "mix": "a third solved, a third blank, a third wrong",
            "cold": baseline,
            "warm": runs,
            "cores": cores,
            "load_average_before": round(load, 2),
            "python": platform.python_version(),
            "system": platform.platform(),
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
