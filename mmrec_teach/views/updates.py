"""What the studio tells: pictures, runs, top lists, and the update that carries them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmrec_teach.views import figures

if TYPE_CHECKING:
    from mmrec_teach.training.gradients import GradientReport
    from mmrec_teach.views.setting import Setting

Kind = Literal["started", "epoch", "picture", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Picture:
    """One view as drawn.

    Attributes:
        xy: (n, 2) float32, a point per drawn row.
        method: "PCA" or "UMAP".
        kept: share of each point's nearest neighbours in the full space that are its nearest in the picture.
        effective_rank: of the table's drawn rows.
        dim: the table's width.
        rows: (n,) int64, which rows of the table are drawn.
        partner: the view drawn in the same space by the same projector, row n the same thing ("" for none): points of the two
            may be joined by lines.
    """

    xy: np.ndarray
    method: str
    kept: float
    effective_rank: float
    dim: int
    rows: np.ndarray
    partner: str = ""


@dataclass
class Run:
    """One training run: its settings in words and numbers, and its epochs so far.

    Attributes:
        number: counts from 1.
        label: what is different from the run before, in words.
        settings: everything it began with, by name.
        history: one record an epoch. Grows; :meth:`Studio.undo` takes back what came after the change undone.
        setting: what it began with as a :class:`Setting`, weights moved since in its ``changes``.
        warm: whether a weight was moved under it: its curve is then no longer that of one setting.
    """

    number: int
    label: str
    settings: dict[str, Any]
    history: list[Any] = field(default_factory=list)
    setting: Setting | None = None

    @property
    def warm(self) -> bool:
        """Whether weights were moved while it trained."""
        return self.setting is not None and bool(self.setting.changes)

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Return epochs and values of a validation metric."""
        pairs = [(r.epoch, r.metrics[metric]) for r in list(self.history) if r.metrics and metric in r.metrics]
        return [e for e, _ in pairs], [float(v) for _, v in pairs]

    def best(self, metric: str) -> float | None:
        """Return the best value of a metric so far."""
        return max(self.curve(metric)[1], default=None)


@dataclass(frozen=True)
class TopItem:
    """One place of a user's list.

    Attributes:
        item: its index.
        title: its title, or its id where the data has no titles.
        score: the model's.
        rank: place now, from 1.
        rank_before: place in the list compared with, or None where there is none to compare with.
        relevant: "valid" where the user took it in the validation split, else None. The test split stays shut.
    """

    item: int
    title: str
    score: float
    rank: int
    rank_before: int | None = None
    relevant: Literal["valid"] | None = None


@dataclass(frozen=True)
class TopList:
    """The best items of a user, training items left out. A sequence of its :class:`TopItem`.

    Attributes:
        user: index of the user.
        items: best first.
        left: items of the former list that are no longer in this one, by their former place.
        since: what the former list is, in words ("" where there is none).
    """

    user: int
    items: tuple[TopItem, ...]
    left: tuple[TopItem, ...] = ()
    since: str = ""

    @property
    def entered(self) -> tuple[TopItem, ...]:
        """Items that were not in the former list (none where there is no former list)."""
        n = len(self.items)
        return tuple(i for i in self.items if i.rank_before is not None and i.rank_before > n)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[TopItem]:
        return iter(self.items)

    def __getitem__(self, place: int) -> TopItem:
        return self.items[place]


@dataclass(frozen=True)
class Update:
    """What happened.

    Attributes:
        kind: "started", "epoch", "picture" (drawn within an epoch, or anew while nothing trains), "finished", "stopped" or
            "failed".
        number: counts all "epoch" updates of the studio, over all runs.
        run: the run in progress, or None if it never began.
        epoch: epochs of this run so far; 0 is the untrained model.
        until: the epoch at which it will pause.
        value: the metric after the last epoch, or None.
        gauges: figures measured in the full space, by name; see :data:`mmrec_teach.views.gauges.GAUGES`.
        pictures: view -> :class:`Picture`; the last drawn ones.
        fresh: whether ``pictures``, ``gauges`` and ``top`` were made for this update. What takes long (``tug``, CKA, neighbour
            overlap) is measured at most twice a second while training, and when a run ends.
        error: what went wrong, one sentence ("failed" only).
        details: its traceback.
        steps: optimiser steps of this run so far.
        tug: norms and angles of the loss terms' gradients, or None where they are not asked for.
        top: the chosen user's best items, or None while nobody is chosen.
        warm: whether weights were moved while this run trained ("continue" mode); False for a run of one setting from its seed.
    """

    kind: Kind
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
    steps: int = 0
    tug: GradientReport | None = None
    top: TopList | None = None
    warm: bool = False


Curve = tuple[Sequence[int], Sequence[float]]


def versus(now: Curve, then: Curve, done: bool) -> tuple[float, str] | None:
    """Return how much better one run is than another, like with like, and in words where; None if they share no epoch.

    Args:
        now, then: epochs and values of a metric, as :meth:`Run.curve` returns them.
        done: whether the first run has come to its end. Then best is compared with best if both are equally long.
    """
    (epochs, values), former = now, dict(zip(*then, strict=True))
    if done and epochs and former and max(epochs) == max(former):
        return max(values) - max(former.values()), "both at their best"
    shared = {e: v for e, v in zip(epochs, values, strict=True) if e in former}
    if not shared:
        return None
    last = max(shared)
    return shared[last] - former[last], "at the same epoch" if last == max(epochs) else f"at epoch {last}"


def say(value: Any) -> str:
    """Return a setting's value in words."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return figures.number(value) if isinstance(value, (int, float)) else str(value)


def side(view: str) -> str:
    """Return what a row of the view is: "user", "item", or whatever stands before the slash."""
    return view.split("/", 1)[0]
