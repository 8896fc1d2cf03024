"""Pinned runs: what a run looked like, kept to be compared with others after the sliders have moved on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmrec_teach.errors import OptionError
from mmrec_teach.views.projection import align_to, as_table, nearest
from mmrec_teach.views.setting import Setting
from mmrec_teach.views.toplists import Memory
from mmrec_teach.views.updates import TopList


@dataclass(frozen=True, eq=False)
class Pin:
    """A run as it was when it was pinned. Nothing in it changes any more.

    Attributes:
        number: counts from 1; never used twice in a studio.
        label: short, in words.
        setting: repeats the run up to this state.
        epoch, steps: epochs done, and optimiser steps in all.
        metric: the metric that "best" speaks of.
        curves: validation metric -> (epochs, values).
        metrics: metric -> value in the epoch that was best by ``metric``.
        best_epoch: that epoch; None where nothing was validated.
        losses: loss term -> mean of the last epoch, unweighted.
        gauges: as in :class:`~mmrec_teach.views.updates.Update`.
        tables: view -> (n, d) float32, the drawn rows.
        pictures: view -> (n, 2) float32, the same rows as drawn.
        rows: view -> (n,) int64, which rows of the table these are.
        methods: view -> "PCA" or "UMAP".
        kept: view -> share of neighbours the picture kept.
        top: the chosen user's list, or None.
        memory: the model as it was, which knows anybody's list; None for a model too large to be copied while it trains.
        warm: whether weights were moved while it trained.
    """

    number: int
    label: str
    setting: Setting
    epoch: int
    steps: int
    metric: str
    curves: Mapping[str, tuple[tuple[int, ...], tuple[float, ...]]]
    metrics: Mapping[str, float]
    best_epoch: int | None
    losses: Mapping[str, float]
    gauges: Mapping[str, float]
    tables: Mapping[str, np.ndarray]
    pictures: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]
    methods: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, float] = field(default_factory=dict)
    top: TopList | None = None
    memory: Memory | None = None
    warm: bool = False

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Return epochs and values of a validation metric, as :meth:`Run.curve` does."""
        epochs, values = self.curves.get(metric, ((), ()))
        return list(epochs), list(values)


def _shared_rows(pins: Sequence[Pin], view: str) -> None:
    for pin in pins:
        if view not in pin.pictures:
            raise OptionError(
                "the pinned run was not drawn so", where=f"pin {pin.number}", found=repr(view), expected=", ".join(pin.pictures)
            )
        if not np.array_equal(pin.rows[view], pins[0].rows[view]):
            raise OptionError(
                "the pinned runs show other points",
                where=f"pins {pins[0].number} and {pin.number}, {view}",
                found=f"{len(pins[0].rows[view])} and {len(pin.rows[view])} rows",
                expected="the same rows in both",
            )


def aligned(pins: Sequence[Pin], view: str) -> list[np.ndarray]:
    """Return the pins' pictures of ``view``, each turned, mirrored and shifted to lie on the first; shapes stay.

    Returns:
        One (n, 2) float32 array a pin; row n is the same thing in all.

    Raises:
        OptionError: a pin without that view, or of other rows.
    """
    if not pins:
        return []
    _shared_rows(pins, view)
    first = pins[0].pictures[view]
    return [first.copy(), *(align_to(first, pin.pictures[view]) for pin in pins[1:])]


@dataclass(frozen=True, eq=False)
class Difference:
    """What is different between two pins, row by row.

    Attributes:
        changed: (n,) float32, share of a row's k nearest neighbours in the full space that are others in the second; NaN for
            a row without a direction (a missing picture) in either.
        moved: (n,) float32, how far its point moved between the two pictures, aligned, in widths of the first picture.
        k: neighbours looked at.
    """

    changed: np.ndarray
    moved: np.ndarray
    k: int


def difference(a: Pin, b: Pin, view: str, k: int = 10) -> Difference:
    """Return how ``view`` differs from pin ``a`` to pin ``b``: neighbours that changed, points that moved.

    The share of neighbours is measured, in the full space by cosine; the distance is one of two pictures, and as honest as they.

    Raises:
        OptionError: a pin without that view, pins of other rows, k below 1.
    """
    if k < 1:
        raise OptionError("no neighbours to compare", where="difference k", found=k, expected="1 or more")
    _shared_rows((a, b), view)
    before, after = as_table(a.tables[view]), as_table(b.tables[view])
    n = len(before)
    changed = np.full(n, np.nan, np.float32)
    usable = np.flatnonzero((np.abs(before).max(1, initial=0) > 0) & (np.abs(after).max(1, initial=0) > 0))
    k = min(k, len(usable) - 1)
    if k >= 1:
        near, now = nearest(before[usable], k)[0], nearest(after[usable], k)[0]
        changed[usable] = 1 - (near[:, :, None] == now[:, None, :]).any(2).mean(1)
    first, second = aligned((a, b), view)
    width = max(float(np.ptp(first, axis=0).max(initial=0.0)), 1e-12) if n else 1.0
    return Difference(changed, (np.linalg.norm(second - first, axis=1) / width).astype(np.float32), max(k, 0))


def pin_table(pins: Sequence[Pin]) -> list[dict[str, Any]]:
    """Return one row a pin: number, label, setting as text, epochs, the metrics of its best epoch and its gauges.

    Columns are the same in every row, None where a pin does not have the number.
    """
    metrics = list(dict.fromkeys(name for pin in pins for name in pin.metrics))
    gauges = list(dict.fromkeys(name for pin in pins for name in pin.gauges))
    return [
        {
            "number": pin.number,
            "label": pin.label,
            "setting": pin.setting.to_text(),
            "epochs": pin.epoch,
            "best epoch": pin.best_epoch,
            **{name: pin.metrics.get(name) for name in metrics},
            **{name: pin.gauges.get(name) for name in gauges},
        }
        for pin in pins
    ]
