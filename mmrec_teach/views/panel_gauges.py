"""The panel's gauges: what is measured in the full space, each with its way through this run."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from mmrec_teach.views import figures
from mmrec_teach.views.gauges import GAUGES
from mmrec_teach.views.panel_parts import Part
from mmrec_teach.views.pins import Pin
from mmrec_teach.views.updates import Update

TRAIL = 60  # pictures a small curve goes back


def trail(values: Sequence[float], width: int = 42, height: int = 20) -> str:
    """Return a small curve without axes; nothing for fewer than two finite values."""
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    points = [
        (width * n / (len(finite) - 1), height - height * (v - low) / span if high > low else height / 2)
        for n, v in enumerate(finite)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true"><polyline points="{path}" fill="none" stroke="#7b8894" '
        f'stroke-width="1.5" stroke-linejoin="round"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="#0072b2"/></svg>'
    )


class Gauges:
    """The row of gauges.

    Args:
        metric: name of the followed metric.

    Attributes:
        widget: what shows them.
    """

    def __init__(self, metric: str):
        self._metric, self._run = metric, None
        self._shown: Update | None = None
        self._trails: dict[str, list[float]] = {}
        self.widget = Part("", "mmrec-gauge-row")

    def show(self, update: Update, pin: Pin | None = None) -> None:
        """Show the gauges of an update.

        Args:
            update: what happened.
            pin: a run to compare with: each number with the one of the same epoch, where the pin has it.
        """
        if update.run is None:
            return
        if update.run.number != self._run:
            self._run, self._trails = update.run.number, {}
        values = self.values(update)
        reference = {} if pin is None else like(pin, update.epoch)
        since = "" if pin is None else f"against pin {pin.number} at the same epoch"
        cells, compared = [], False
        for name, value in values.items():
            past = self._trails.setdefault(name, [])
            if update.fresh and update is not self._shown:
                past.append(value)
                del past[:-TRAIL]
            small, tip = "", help_of(name)
            if name == self._metric and (best := update.run.best(self._metric)) is not None:
                tip = f"{self._metric} on the validation split, the mean over users; the best of this run is {best:.3f}."
            if name in reference and math.isfinite(reference[name]):
                gap, compared = value - reference[name], True
                small = f'<small title="{html.escape(since)}">{_change(name, gap)}</small>'
            cells.append(
                f'<div class="mmrec-gauge" title="{html.escape(tip)}"><span>{html.escape(name)}</span>'
                f"<p><b>{_said(name, value)}</b>{small}</p>{trail(past)}</div>"
            )
        self._shown = update
        note = since
        if pin is not None and not compared:
            note = f"pin {pin.number} was made after epoch {pin.epoch}: compared there"
        note = f'<p class="mmrec-against">{html.escape(note)}</p>' if note else ""
        self.widget.html = f'<div class="mmrec-gauges">{"".join(cells)}</div>{note}'

    def values(self, update: Update) -> dict[str, float]:
        """Return gauge -> value in the order they are shown."""
        first = {} if update.value is None else {self._metric: update.value}
        order = [name for name in GAUGES if name in update.gauges]
        return first | {name: update.gauges[name] for name in [*order, *(n for n in update.gauges if n not in order)]}


def like(pin: Pin, epoch: int) -> dict[str, float]:
    """Return what a pin knows of an epoch: its metrics, and its gauges if it was made there."""
    curves = {name: dict(zip(*curve, strict=True)) for name, curve in pin.curves.items()}
    found = {name: values[epoch] for name, values in curves.items() if epoch in values}
    return found | (dict(pin.gauges) if epoch == pin.epoch else {})


def help_of(name: str) -> str:
    """Return what a gauge measures, or ''."""
    return GAUGES[name].help if name in GAUGES else ""


def _said(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if name in GAUGES:
        return format(value, GAUGES[name].style)
    return f"{value:.3f}" if "@" in name else figures.number(value)


def _change(name: str, gap: float) -> str:
    """How far a gauge has moved, to as many digits as the gauge itself shows."""
    size = _said(name, abs(gap))
    if not any(digit in size for digit in "123456789"):
        return "="
    return ("▲" if gap > 0 else "▼") + size.replace("%", " pt")  # a share's points, not its percentage


__all__ = ["Gauges", "help_of", "like", "trail"]
