"""A limit on how long a learner's function may take: a loop that never ends is told, not waited for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

SECONDS = 5.0  # of CPU: a case takes milliseconds, so only a loop without end, or one far too slow, comes here
WAITING = 3.0  # times as many seconds by the clock, for a function that sleeps: a busy machine is no fault of the learner's


class OutOfTimeError(BaseException):
    """The call took too long. No ``Exception``, so that a learner's own ``except Exception`` does not swallow it."""


@contextmanager
def time_limit(seconds: float | None = None) -> Iterator[None]:
    """Raise :class:`OutOfTimeError` inside the block after ``seconds`` of CPU time, or `WAITING` times as many by the clock.

    Works in a process's main thread on Unix, where a notebook's cells run; elsewhere there is no limit. A timer somebody else had
    set goes on afterwards. A single long call into C code is interrupted only when it returns.

    Args:
        seconds: default :data:`SECONDS`.
    """
    seconds = SECONDS if seconds is None else seconds
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as timers:
        timers.enter_context(_timer(signal.ITIMER_PROF, signal.SIGPROF, seconds))
        timers.enter_context(_timer(signal.ITIMER_REAL, signal.SIGALRM, seconds * WAITING))
        yield


@contextmanager
def _timer(which: int, bell: int, seconds: float) -> Iterator[None]:
    over = False

    def ring(number: int, frame: FrameType | None) -> None:
        if not over:
            raise OutOfTimeError

    start = time.monotonic()
    handler = signal.signal(bell, ring)
    # It rings again and again: an exception raised inside a destructor or a garbage collector's callback is lost.
    remaining, interval = signal.setitimer(which, seconds, 0.5)
    try:
        yield
    finally:
        over = True
        signal.setitimer(which, 0)
        signal.signal(bell, handler)
        if remaining:
            signal.setitimer(which, max(remaining - (time.monotonic() - start), 0.01), interval)
