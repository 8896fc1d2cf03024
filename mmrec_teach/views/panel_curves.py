"""The panel's curves: the followed metric over this run and earlier ones, and the loss terms."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from mmrec_teach.evaluation.statistics import bootstrap_interval
from mmrec_teach.views import figures, palette
from mmrec_teach.views.panel_parts import LivePlot, box, w
from mmrec_teach.views.pins import Pin
from mmrec_teach.views.updates import Run

EARLIER = 3  # earlier runs drawn in grey
PINNED = 3  # pinned runs drawn in colour
RESAMPLES = 200  # of the users, for the interval


class Curves:
    """Two figures side by side, one below the other where it is narrow.

    Args:
        metric: the validation metric to follow.
        terms: all loss terms.

    Attributes:
        widget: the box.
        metric_plot, loss_plot: the figures.
    """

    def __init__(self, metric: str, terms: Sequence[str]):
        self._metric, self._terms = metric, tuple(terms)
        config = {"displayModeBar": False}
        self.metric_plot = LivePlot(self._metric_figure(), "metric", "mmrec-metric", config=config)
        self.loss_plot = LivePlot(self._loss_figure(), "losses", "mmrec-losses", config=config)
        self.widget: w.Box = box(
            "row",
            [box("column", [plot], "mmrec-curvebox") for plot in (self.metric_plot, self.loss_plot)],
            "mmrec-curves",
        )
        self._bands: dict[int, dict[int, tuple[float, float]]] = {}

    # -- figures -----------------------------------------------------------------------------------------------------------
    def _layout(self, figure: go.Figure) -> go.Figure:
        figure.update_layout(
            template=palette.template(),
            height=262,
            margin={"l": 52, "r": 10, "t": 10, "b": 40},
            legend={"orientation": "h", "y": -0.22, "x": 0, "font": {"size": 11.5}},
            meta={"alt": ""},
            dragmode=False,
        )
        figure.update_xaxes(title={"text": "epoch", "font": {"size": 12}, "standoff": 4}, rangemode="tozero", fixedrange=True)
        figure.update_yaxes(fixedrange=True)
        return figure

    def _metric_figure(self) -> go.Figure:
        figure = go.Figure()
        for n in range(EARLIER):
            line = {"color": palette.FAINT, "width": 2, "dash": palette.dash(n)}
            figure.add_scatter(
                x=[], y=[], mode="lines", line=line, name="earlier runs", showlegend=n == 0, legendgroup="earlier"
            )
        for n in range(PINNED):
            line = {"color": palette.COLORS[n], "width": 2.2, "dash": palette.dash(n + 1)}
            figure.add_scatter(x=[], y=[], mode="lines", line=line, name="", showlegend=False)
        figure.add_scatter(
            x=[],
            y=[],
            mode="none",
            fill="toself",
            fillcolor="rgba(31,41,51,0.13)",
            hoverinfo="skip",
            name="95 % interval over users",
            showlegend=False,
        )
        marker = {"size": 4.5, "color": palette.INK}
        figure.add_scatter(
            x=[], y=[], mode="lines+markers", line={"color": palette.INK, "width": 2.8}, marker=marker, name="this run"
        )
        figure.update_layout(showlegend=True)
        self._layout(figure)
        figure.update_yaxes(title={"text": f"{self._metric}, validation", "font": {"size": 12}}, rangemode="tozero")
        return figure

    def _loss_figure(self) -> go.Figure:
        figure = go.Figure()
        for n, term in enumerate(self._terms):
            colour, symbol = palette.style(n)
            figure.add_scatter(
                x=[],
                y=[],
                mode="lines+markers",
                name=term,
                line={"color": colour, "width": 2.2, "dash": palette.dash(n)},
                marker={"symbol": symbol, "size": 5, "color": colour},
            )
        ticks = [m * 10.0**e for e in range(-6, 5) for m in (1, 2, 5)]
        figure.update_layout(showlegend=True)
        self._layout(figure)
        figure.update_yaxes(
            title={"text": "loss terms, unweighted", "font": {"size": 12}},
            type="log",
            tickvals=ticks,
            ticktext=[f"{t:g}" for t in ticks],
        )
        return figure

    def note(self, run: Run, epoch: int, per_user: np.ndarray) -> None:
        """Keep the interval of an epoch's metric: where the mean would lie, had other users like these been asked."""
        if len(per_user):
            self._bands.setdefault(run.number, {})[epoch] = bootstrap_interval(per_user, n_boot=RESAMPLES)

    # -- showing -----------------------------------------------------------------------------------------------------------
    def show(self, run: Run, earlier: Sequence[Run], pins: Sequence[Pin] = ()) -> None:
        """Draw a run, the runs before it, and pinned ones."""
        changes: dict[int, dict[str, object]] = {}
        past = [r for r in earlier if r is not run and r.history][-EARLIER:]
        for n in range(EARLIER):
            x, y = past[n].curve(self._metric) if n < len(past) else ([], [])
            label = html.escape(past[n].label) if n < len(past) else ""
            changes[n] = _line(x, y) | {"hovertemplate": f"%{{y:.3f}} after epoch %{{x}}<extra>{label}</extra>"}
        for n in range(PINNED):
            pin = pins[n] if n < len(pins) else None
            x, y = pin.curve(self._metric) if pin else ([], [])
            name = f"pin {pin.number}: {pin.label}" if pin else ""
            changes[EARLIER + n] = _line(x, y) | {"name": figures.wrapped(html.escape(name), 34), "showlegend": pin is not None}
        x, y = run.curve(self._metric)
        known = self._bands.get(run.number, {})
        edge = _band({e: known[e] for e in x if e in known})
        changes[EARLIER + PINNED] = edge | {"showlegend": bool(len(edge["x"]))}
        changes[EARLIER + PINNED + 1] = _line(x, y) | {"name": "this run" + (" (warm)" if run.warm else "")}
        alt = "No epoch has been validated yet."
        if y:
            alt = f"{self._metric} on validation over {len(y)} epochs: now {y[-1]:.3f}, best {max(y):.3f}"
            alt += f"; {len(past)} earlier runs in grey."
        history = list(run.history)
        longest = max((float(c["x"].max(initial=0)) for c in changes.values()), default=0)
        self.metric_plot.change(changes, {"meta.alt": alt, "xaxis.dtick": _step(longest)})

        losses: dict[int, dict[str, object]] = {}
        said = []
        for n, term in enumerate(self._terms):
            pairs = [(r.epoch, r.losses[term]) for r in history if r.losses.get(term, 0) > 0]
            losses[n] = _line([e for e, _ in pairs], [v for _, v in pairs])
            if pairs:
                said.append(f"{term} from {figures.number(pairs[0][1])} to {figures.number(pairs[-1][1])}")
        self.loss_plot.change(
            losses,
            {
                "meta.alt": "Loss terms over epochs: " + (", ".join(said) or "none yet") + ".",
                "xaxis.dtick": _step(len(history)),
            },
        )


def _line(x: Sequence[float], y: Sequence[float]) -> dict[str, object]:
    return {"x": np.asarray(x, np.float32), "y": np.asarray(y, np.float32)}


def _step(epochs: float) -> int:
    """Epochs between two marks of the axis: whole ones, and at most eight marks."""
    return next(m * 10**e for e in range(9) for m in (1, 2, 5) if epochs <= 8 * m * 10**e)


def _band(intervals: Mapping[int, tuple[float, float]]) -> dict[str, np.ndarray]:
    """The outline of a band: there along the lower edge, back along the upper. Empty for fewer than two epochs."""
    x = list(intervals) if len(intervals) > 1 else []
    low, high = [intervals[e][0] for e in x], [intervals[e][1] for e in x]
    return {"x": np.array(x + x[::-1], np.float32), "y": np.array(low + high[::-1], np.float32)}


__all__ = ["EARLIER", "Curves"]
