"""What a learner's function costs: torch calls, the largest table, CPU time; the same wherever the function runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from mmrec_teach.grading.child.effort import Watch
from mmrec_teach.grading.child.telling import LearnerError
from mmrec_teach.grading.exercise import RefusedError, expect

TIMES = 40.0
SPARE = 0.3  # seconds: a first call costs a little, wherever it runs

_ACTIVE: list[Effort] = []
_ALLOWED: list[bool] = [True]  # innermost last


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
) -> tuple[torch.Tensor, torch.Tensor]:
    """The learner's answer to a task that only the right way can afford, and the right one, of equal shapes and types.

    Not asked where cases before it failed (`large_tasks`): a wrong answer may want any amount of memory.

    Args:
        function: the learner's.
        right: a solution that does it the right way; its CPU time, here and now, is the measure.
        make: the inputs, anew for each call.
        complaint: what to say when it takes more than `TIMES` as long.
        spare: CPU seconds that are free; many, where memory alone is the question.
    """
    if not _ALLOWED[-1]:
        raise LearnerError("untried", "is tried once the cases above pass.")
    with Effort() as needed:
        expected = right(*make())
    remote = getattr(type(function), "remote", False) is True
    try:
        with Effort() as effort, nullcontext() if remote else _bounded_memory():
            answer = function(*make())
    except LearnerError as error:
        if "allocate memory" in error.message or "MemoryError" in error.message:
            raise RefusedError(
                "a larger task, which the right way does in little memory, does not fit: your function makes a table far larger than "
                "its inputs and its answer"
            ) from None
        words = "a larger task, which the right way does at once, ended so"
        expect(error.kind not in ("exception", "crash"), f"{words}: {error.message}")
        raise
    allowed = TIMES * needed.seconds + spare
    expect(effort.seconds <= allowed, f"{complaint} (a larger task took {effort.seconds:.1f} seconds)")
    # shapes before values: comparing unequal ones could fill the memory
    found = tuple(answer.shape) if type(answer) is torch.Tensor else type(answer).__name__
    expect(found == tuple(expected.shape), f"the answer to a larger task is {found}; expected is {tuple(expected.shape)}")
    return answer.detach().to(expected.dtype), expected


@contextmanager
def large_tasks(allowed: bool) -> Iterator[None]:
    """Whether `ask_large` asks inside."""
    _ALLOWED.append(allowed)
    try:
        yield
    finally:
        _ALLOWED.pop()


@contextmanager
def _bounded_memory(more: int = 4 * 2**30) -> Iterator[None]:
    """Let this process take no more than ``more`` bytes beyond what it has, inside the block; Linux only, else nothing."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + more
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):
        yield
        return
    if soft != resource.RLIM_INFINITY and soft < limit:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def watching() -> list[Effort]:
    """The efforts that are being watched just now."""
    return list(_ACTIVE)
