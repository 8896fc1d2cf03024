"""The watch on what a learner's function makes."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from mmrec_teach.grading.child.telling import LearnerError
from mmrec_teach.grading.exercise import RefusedError
from mmrec_teach.grading.watch import Effort, ask_large, large_tasks, watching


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
        raise LearnerError("exception", "RuntimeError: no")

    def too_long(x):
        raise LearnerError("timeout", "not done")

    assert ask_large(torch.sum, torch.sum, make, "one by one") == (1999000, 1999000)
    with pytest.raises(RefusedError, match="one by one .a larger task took 1000.0 seconds"):
        ask_large(slow, torch.sum, make, "one by one")
    with pytest.raises(RefusedError, match="ended so: RuntimeError: no"):
        ask_large(too_large, torch.sum, make, "one by one")
    with pytest.raises(LearnerError, match="not done"):
        ask_large(too_long, torch.sum, make, "one by one")


def test_it_does_not_import_the_compiler():
    code = "import sys, torch; from mmrec_teach.grading import grade\n"
    code += "grade('project', lambda f, m, i, E, o: (f[i] @ E.T + o).masked_fill(m[i][:, None], 0.0))\n"
    code += "assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_large_task_is_asked_of_right_answers_alone():
    def refuse(x):
        raise AssertionError("called")

    with large_tasks(False), pytest.raises(LearnerError) as caught:
        ask_large(refuse, torch.sum, lambda: (torch.ones(2),), "one by one")
    assert caught.value.kind == "untried"


def test_shapes_are_compared_before_values():
    """(n, 1) beside (n,) would broadcast to n times n numbers."""
    with pytest.raises(RefusedError, match=r"the answer to a larger task is \(100, 1\); expected is \(100,\)"):
        ask_large(lambda x: x.sum(-1, keepdim=True), lambda x: x.sum(-1), lambda: (torch.ones(100, 2),), "one by one")
    with pytest.raises(RefusedError, match="the answer to a larger task is list"):
        ask_large(torch.Tensor.tolist, torch.Tensor.double, lambda: (torch.ones(3),), "one by one")
    answer, right = ask_large(torch.Tensor.double, torch.clone, lambda: (torch.ones(3),), "one by one")
    assert answer.dtype == right.dtype == torch.float32


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux alone")
def test_a_large_task_has_bounded_memory_in_a_notebook_too():
    def greedy(x):
        try:
            return torch.empty(8 * 2**30, dtype=torch.uint8)
        except RuntimeError as error:
            raise LearnerError("exception", str(error)) from None

    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(RefusedError, match="makes a table far larger than its inputs"):
        ask_large(greedy, torch.sum, lambda: (torch.ones(3),), "one by one")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
