"""What a learner's function costs: torch calls, the largest table, CPU time; the same wherever the function runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from mmrec_teach.grading.child.effort import Watch
from mmrec_teach.grading.child.telling import LearnerError
from mmrec_teach.grading.exercise import expect

TIMES = 40.0
SPARE = 0.3  # seconds: a first call costs a little, wherever it runs

_ACTIVE: list[Effort] = []


class Effort:
    """Watches the calls of a learner's function inside ``with Effort(inputs…) as effort:``.

    The first two are counted beside the learner's code, for good messages; code that means to hide from them can. CPU seconds
    cannot be hidden from: when the function runs in a process of its own, they are read from outside. A rule against loops or
    big tables therefore asks twice: first how many calls or numbers, then (`ask_large`) for a task so large that only the CPU time
    of the right way, or its memory, lets it end.

    Args:
        given: tensors whose views are not counted as made.

    Attributes:
        calls: torch functions called.
        largest: numbers in the largest tensor made.
        seconds: CPU seconds spent.
    """

    def __init__(self, *given: torch.Tensor):
        self.calls = self.largest = 0
        self.seconds = 0.0
        self._mode = Watch(*given)

    def __enter__(self) -> Effort:
        _ACTIVE.append(self)
        self._mode.__enter__()
        self._start = time.process_time()
        self._remote = False
        return self

    def __exit__(self, *details: Any) -> None:
        spent = time.process_time() - self._start
        self._mode.__exit__(*details)
        _ACTIVE.remove(self)
        if not self._remote:
            self.calls, self.largest, self.seconds = self._mode.count, self._mode.numel, spent

    def add(self, calls: int, largest: int, seconds: float) -> None:
        """What a call in another process cost; from then on, only such calls count."""
        self._remote = True
        self.calls += calls
        self.largest = max(self.largest, largest)
        self.seconds += seconds


def ask_large(
    function: Callable, right: Callable, make: Callable[[], tuple], complaint: str, spare: float = SPARE
) -> tuple[Any, Any]:
    """The learner's answer to a task that only the right way can afford, and the right one.

    Ask a small task first, and this one only when the small one holds: in a notebook nothing bounds memory.

    Args:
        function: the learner's.
        right: a solution that does it the right way; its CPU time, here and now, is the measure.
        make: the inputs, anew for each call.
        complaint: what to say when it takes more than `TIMES` as long.
        spare: CPU seconds that are free; many, where memory alone is the question.
    """
    with Effort() as needed:
        expected = right(*make())
    try:
        with Effort() as effort:
            answer = function(*make())
    except LearnerError as error:
        words = "a larger task, which the right way does at once, ended so"
        expect(error.kind not in ("exception", "crash"), f"{words}: {error.message}")
        raise
    allowed = TIMES * needed.seconds + spare
    expect(effort.seconds <= allowed, f"{complaint} (a larger task took {effort.seconds:.1f} seconds)")
    return answer, expected


def watching() -> list[Effort]:
    """The efforts that are being watched just now."""
    return list(_ACTIVE)
