"""Learn multimodal recommendation by writing it."""

import os

# OpenMP threads that have nothing to do keep a core busy for milliseconds by default, ready for the next small table. On two cores
# shared with a browser that makes training ten times slower. Letting them sleep at once costs half the speed on an idle machine;
# some ten microseconds of waiting first keep both. Read when torch is first imported, here or in a process started from here
# (the lab's kernels).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
