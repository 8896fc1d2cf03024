"""Learn multimodal recommendation by writing it."""

import os

# OpenMP threads that have nothing to do keep a core busy by default, ready for the next small table. On two cores shared with a
# browser that makes training ten times slower; asleep they cost next to nothing. Read when torch is first imported, here or in
# a process started from here (the lab's kernels).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
