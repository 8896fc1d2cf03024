"""How far a class run has come: a live bar in a terminal, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

PULSE = 10.0  # seconds without news after which a line says so
APART = 1.0  # seconds between two lines on finished students, so that a large class does not fill a log


class Progress:
    """Tells on stderr how many submissions are done; from the first second on, whatever else is still being started.

    Args:
        total: submissions.
        words: the first line.
        shown: False for silence.
        stream: where to; stderr by default.
        clock: in seconds.
    """

    def __init__(
        self,
        total: int,
        words: str,
        shown: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._words, self._shown, self._clock = total, words, shown, clock
        self._stream = sys.stderr if stream is None else stream
        self._done = 0
        self._bar: Any = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._began = self._said = clock()

    def __enter__(self) -> Progress:
        if self._shown and self._total:
            print(self._words, file=self._stream, flush=True)
            if self._stream.isatty():
                from tqdm import tqdm

                # given, because tqdm shows nothing in a terminal that does not tell its size
                wide = min(100, shutil.get_terminal_size().columns or 80)
                self._bar = tqdm(
                    total=self._total, desc="grading", leave=False, file=self._stream, ncols=wide, nrows=20,
                    bar_format="{l_bar}{bar}| {n_fmt} of {total_fmt} [{elapsed}<{remaining}]",
                )  # fmt: skip
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        with self._lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def step(self, student: str) -> None:
        """One more is done."""
        with self._lock:
            self._done += 1
            if self._bar is not None:
                self._bar.update()
            elif self._done in (1, self._total) or self._clock() - self._said >= APART:
                self._line(student)

    def say(self, sentence: str, file: TextIO | None = None) -> None:
        """Print a line beside the bar; on stdout by default."""
        file = sys.stdout if file is None else file
        with self._lock:
            if self._bar is not None:
                self._bar.write(sentence, file=file)
            else:
                print(sentence, file=file, flush=True)

    def pulse(self) -> None:
        """Show that time passes."""
        with self._lock:
            if self._over.is_set():
                return
            if self._bar is not None:
                self._bar.refresh()
            elif self._clock() - self._said >= PULSE:
                self._line("")

    def _beat(self) -> None:
        while not self._over.wait(1.0):
            with contextlib.suppress(OSError, ValueError):  # the reader of a pipe has left
                self.pulse()

    def _line(self, student: str) -> None:
        if not self._shown:
            return
        self._said = self._clock()
        after = f"after {self._said - self._began:.0f} s"
        print(f"{self._done} of {self._total} {after}{f': {student}' if student else ''}", file=self._stream, flush=True)
