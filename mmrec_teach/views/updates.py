"""What the studio tells: pictures, runs, top lists, and the update that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mmrec_teach.views import figures


@dataclass(frozen=True)
class Picture:
    """One view as drawn: ``xy`` (n, 2) of the studio's ``rows`` for that side, and how honest it is."""

    xy: np.ndarray
    method: str
    kept: float
    effective_rank: float
    dim: int


@dataclass
class Run:
    """One training run: its settings in words and numbers, and its epochs so far (append-only)."""

    number: int
    label: str
    settings: dict[str, Any]
    history: list[Any] = field(default_factory=list)

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Return epochs and values of a validation metric."""
        pairs = [(r.epoch, r.metrics[metric]) for r in list(self.history) if r.metrics and metric in r.metrics]
        return [e for e, _ in pairs], [float(v) for _, v in pairs]

    def best(self, metric: str) -> float | None:
        """Return the best value of a metric so far."""
        return max(self.curve(metric)[1], default=None)


@dataclass(frozen=True)
class Update:
    """What happened.

    Attributes:
        kind: "started", "epoch", "finished", "stopped" or "failed".
        number: counts all "epoch" updates of the studio, over all runs.
        run: the run in progress, or None if it never began.
        epoch: epochs of this run so far; 0 is the untrained model.
        until: the epoch at which it will pause.
        value: the metric after this epoch, or None.
        gauges: figures measured in the full space, by name.
        pictures: view -> :class:`Picture`; the last drawn ones.
        fresh: whether ``pictures`` were drawn for this update.
        error: what went wrong, one sentence ("failed" only).
        details: its traceback.
    """

    kind: Literal["started", "epoch", "finished", "stopped", "failed"]
    number: int
    run: Run | None
    epoch: int = 0
    until: int = 0
    value: float | None = None
    gauges: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    fresh: bool = False
    error: str = ""
    details: str = ""


def say(value: Any) -> str:
    """Return a setting's value in words."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return figures.number(value) if isinstance(value, (int, float)) else str(value)


def side(view: str) -> str:
    """Return "user" or "item", what a row of the view is."""
    return view.split("/", 1)[0]
