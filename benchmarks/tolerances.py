"""What the exercises' tolerances rest on: the noise of right answers, and how far off the nearest wrong one is.

    python benchmarks/tolerances.py [--seeds 20] [--save benchmarks/results/tolerances.json]

For each exercise, the course's own solution answers every case in float32 and in float64, with one thread and with two, for
several draws of the random cases. `noise` is its largest error against the oracle (float64 numpy), relative to
max(1, |expected|), as the grader compares. `nearest_wrong` is the error of that wrong solution which comes closest over all
cases of a draw; wrong solutions whose answers have another shape, or which are wrong in another way, have none.
A tolerance should be ten times the noise or more, and a tenth of the nearest wrong answer or less.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmrec_teach.course.lint import defined_function
from mmrec_teach.course.master import load_masters
from mmrec_teach.files import write_text
from mmrec_teach.grading.arrays import for_learner, plain
from mmrec_teach.grading.exercise import Case, Exercise, load_exercises

ROOT = Path(__file__).resolve().parent.parent


def solutions() -> dict[str, Callable]:
    """The course's own solution of every exercise, by name."""
    return {
        exercise.id: defined_function(master, exercise, solved=True)
        for master in load_masters(ROOT)
        for exercise in master.exercises
    }


def error_of(exercise: Exercise, function: Callable, case: Case, dtype: torch.dtype = torch.float32) -> float | None:
    """The largest error of ``function`` in a case, relative to max(1, |expected|); None when its answer cannot be compared."""
    given = [_as_type(for_learner(value, exercise.arrays), dtype) for value in case.inputs.values()]
    wanted = exercise.expected(case)
    try:
        answer = function(*given)
    except Exception:  # a wrong solution may be one that raises
        return None
    if not isinstance(wanted, tuple):
        return _error(answer, wanted)
    if not isinstance(answer, tuple) or len(answer) != len(wanted):
        return None
    parts = [_error(*pair) for pair in zip(answer, wanted, strict=True)]
    return None if None in parts else max(parts)  # type: ignore[type-var]


def _error(answer: Any, wanted: Any) -> float | None:
    expected = np.asarray(wanted, dtype=np.float64)
    answer = plain(answer)
    if answer is None or answer.shape != expected.shape:
        return None
    answer = answer.astype(np.float64)
    with np.errstate(invalid="ignore"):
        errors = np.where(answer == expected, 0.0, np.abs(answer - expected) / np.maximum(1, np.abs(expected)))
    return float(np.nan_to_num(errors, nan=math.inf, posinf=math.inf).max(initial=0.0))


def _as_type(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.to(dtype)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and dtype == torch.float32:
        return value.astype(np.float32)
    return value


def noise(exercise: Exercise, solution: Callable, seeds: range) -> float:
    """The largest error of the right solution over draws, types of number and numbers of threads."""
    before, worst = torch.get_num_threads(), 0.0
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for dtype in (torch.float32, torch.float64):
                for seed in seeds:
                    for case in exercise.all_cases(seed):
                        error = error_of(exercise, solution, case, dtype)
                        worst = max(worst, math.inf if error is None else error)
    finally:
        torch.set_num_threads(before)
    return worst


def nearest_wrong(exercise: Exercise, seeds: range) -> tuple[float, str]:
    """The smallest error with which a wrong solution could pass, over draws, and its name; infinite when none errs in values."""
    nearest, name = math.inf, ""
    for seed in seeds:
        cases = exercise.all_cases(seed)
        for wrong, function in exercise.wrongs.items():
            errors = [error_of(exercise, function, case) for case in cases]
            if any(error is None for error in errors):
                continue
            worst = max(errors)  # type: ignore[type-var]
            if exercise.tolerance < worst < nearest:
                nearest, name = worst, wrong
    return nearest, name


def main() -> None:
    """Measure all exercises, print a table, and save it when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="draws of the random cases (default 20)")
    parser.add_argument("--save", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    exercises, rows = load_exercises(), {}
    for name, solution in solutions().items():
        exercise = exercises[name]
        found, (nearest, wrong) = noise(exercise, solution, range(options.seeds)), nearest_wrong(exercise, range(options.seeds))
        rows[name] = {
            "tolerance": exercise.tolerance,
            "noise": float(f"{found:.2g}"),
            "nearest_wrong": float(f"{nearest:.2g}") if math.isfinite(nearest) else None,
            "which": wrong,
        }
        print(f"{name:22} tolerance {exercise.tolerance:.0e}  noise {found:.1e}  nearest wrong {nearest:.1e}  {wrong}")
    if options.save:
        report = {
            "command": f"python benchmarks/tolerances.py --seeds {options.seeds} --save {options.save}",
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "exercises": rows,
        }
        write_text(options.save, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
