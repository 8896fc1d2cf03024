"""A limit on how long a learner's function may take: a loop that never ends is told, not waited for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 10.0  # a case takes milliseconds: only a loop without end, or one far too slow, comes here


class OutOfTimeError(BaseException):
    """The call took too long. No ``Exception``, so that a learner's own ``except Exception`` does not swallow it."""


@contextmanager
def time_limit(seconds: float | None = None) -> Iterator[None]:
    """Raise :class:`OutOfTimeError` inside the block after ``seconds`` (default: :data:`SECONDS`) of wall time.

    Works in a process's main thread on Unix, where a notebook's cells run; elsewhere there is no limit. A timer somebody else had
    set goes on afterwards. A single long call into C code is interrupted only when it returns.
    """
    seconds = SECONDS if seconds is None else seconds
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    over = False

    def ring(number: int, frame: FrameType | None) -> None:
        if not over:
            raise OutOfTimeError

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    # It rings again and again: an exception raised inside a destructor or a garbage collector's callback is lost.
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - start), 0.01), interval)
