"""A picture leaves torch's threads alone: numba and torch may share one OpenMP library."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import numpy as np, torch
torch.set_num_threads(1)
from mmrec_teach.views import Projector
Projector(seed=0).fit(np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))
print(torch.get_num_threads())
"""


def test_the_first_picture_of_a_process_leaves_torchs_threads_alone():
    # a process of its own: numba launches its threads only once
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["1"]
