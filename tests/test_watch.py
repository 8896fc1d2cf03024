"""The watch on what a learner's function makes."""

from __future__ import annotations

import subprocess
import sys

import torch

from mmrec_teach.grading.watch import Largest


def test_it_sees_the_largest_table_and_no_views():
    x, rows = torch.ones(100, 4), torch.tensor([3, 5])
    with Largest(x, rows) as largest:
        (x.T[:, :50].T)[rows] @ torch.ones(4, 3)
    assert largest.numel == 12, "the small matrix of ones; transposes and slices of x are views"
    with Largest(x, rows) as largest:
        (x * 2)[rows]
    assert largest.numel == 400


def test_it_sees_what_is_made_by_methods_operators_and_lists():
    x = torch.ones(10, 4)
    made = {
        20: lambda: x.split(5)[0] + 1,
        100: lambda: torch.einsum("ij,kj->ik", x, x),
        40: lambda: x.index_add(0, torch.tensor([0]), x[:1]),
    }
    for numel, make in made.items():
        with Largest(x) as largest:
            make()
        assert largest.numel == numel


def test_it_does_not_import_the_compiler():
    code = "import sys, torch; from mmrec_teach.grading import grade\n"
    code += "grade('project', lambda f, m, i, E, o: (f[i] @ E.T + o).masked_fill(m[i][:, None], 0.0))\n"
    code += "assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
