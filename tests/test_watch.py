"""The watch on what a learner's function makes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mmrec_teach.grading.child.telling import LearnerError
from mmrec_teach.grading.exercise import RefusedError
from mmrec_teach.grading.watch import Effort, ask_large, watching


def test_it_sees_the_largest_table_and_no_views():
    x, rows = torch.ones(100, 4), torch.tensor([3, 5])
    with Effort(x, rows) as effort:
        (x.T[:, :50].T)[rows] @ torch.ones(4, 3)
    assert effort.largest == 12, "the small matrix of ones; transposes and slices of x are views"
    with Effort(x, rows) as effort:
        (x * 2)[rows]
    assert effort.largest == 400


def test_it_sees_what_is_made_by_methods_operators_and_lists():
    x = torch.ones(10, 4)
    made = {
        20: lambda: x.split(5)[0] + 1,
        100: lambda: torch.einsum("ij,kj->ik", x, x),
        40: lambda: x.index_add(0, torch.tensor([0]), x[:1]),
    }
    for numel, make in made.items():
        with Effort(x) as effort:
            make()
        assert effort.largest == numel


def test_it_counts_calls_and_cpu_time():
    x = torch.ones(3)
    with Effort(x) as effort:
        for _ in range(50):
            x = x + 1
    assert effort.calls == 50
    assert effort.seconds > 0


def test_what_a_call_elsewhere_costs_replaces_what_is_seen_here():
    with Effort() as effort:
        (one,) = watching()
        one.add(calls=7, largest=100, seconds=2.5)
        one.add(calls=1, largest=50, seconds=0.5)
        torch.ones(1000)
    assert watching() == []
    assert (effort.calls, effort.largest, effort.seconds) == (8, 100, 3.0)


def test_a_large_task_is_for_the_right_way_only():
    def make():
        return (torch.arange(2000),)

    def slow(x):
        watching()[-1].add(calls=0, largest=0, seconds=1000.0)
        return x.sum()

    def too_large(x):
        raise LearnerError("exception", "RuntimeError: can't allocate memory")

    def too_long(x):
        raise LearnerError("timeout", "not done")

    assert ask_large(torch.sum, torch.sum, make, "one by one") == (1999000, 1999000)
    with pytest.raises(RefusedError, match="one by one .a larger task took 1000.0 seconds"):
        ask_large(slow, torch.sum, make, "one by one")
    with pytest.raises(RefusedError, match="ended so: RuntimeError: can't allocate"):
        ask_large(too_large, torch.sum, make, "one by one")
    with pytest.raises(LearnerError, match="not done"):
        ask_large(too_long, torch.sum, make, "one by one")


def test_it_does_not_import_the_compiler():
    code = "import sys, torch; from mmrec_teach.grading import grade\n"
    code += "grade('project', lambda f, m, i, E, o: (f[i] @ E.T + o).masked_fill(m[i][:, None], 0.0))\n"
    code += "assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
