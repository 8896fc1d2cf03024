"""What a learner's function prints while it is checked: a little is shown, a flood is counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SHOWN = 20  # lines


class _Counter:
    """Stands for ``sys.stdout``: passes the first lines on, and counts the others."""

    def __init__(self, stream: Any, shown: int):
        self.stream, self.shown, self.lines = stream, shown, 0

    def write(self, text: str) -> int:
        for line in str(text).splitlines(keepends=True):
            if self.lines < self.shown:
                self.stream.write(line[:2000])
            self.lines += line.endswith("\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def few_prints(shown: int = SHOWN) -> Iterator[None]:
    """Inside, ``print`` shows its first ``shown`` lines; afterwards one line says how many there were."""
    before = sys.stdout
    counter = _Counter(before, shown)
    sys.stdout = counter  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout = before
        if counter.lines > shown:
            print(f"(Your function printed {counter.lines:,} lines while it was checked; the first {shown} are shown.)")
