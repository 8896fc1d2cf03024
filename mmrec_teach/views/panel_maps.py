"""The panel's maps: one figure a view, coloured alike, chosen alike, and beside each how much of the truth it keeps."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mmrec_teach.views import figures, palette
from mmrec_teach.views.panel_parts import LivePlot, Part, box, w
from mmrec_teach.views.updates import Picture

DIM = 0.1  # opacity of points that are not chosen
_SHAPES = {
    "circle": '<circle cx="6" cy="6" r="4.6"/>',
    "square": '<path d="M2 2h8v8H2z"/>',
    "diamond": '<path d="M6 .6 11.4 6 6 11.4.6 6z"/>',
    "triangle-up": '<path d="M6 1 11.4 10.4H.6z"/>',
    "triangle-down": '<path d="M6 11 .6 1.6h10.8z"/>',
    "cross": '<path d="M4.3 1h3.4v3.3H11v3.4H7.7V11H4.3V7.7H1V4.3h3.3z"/>',
    "star": '<path d="m6 .4 1.5 3.7 4 .3-3 2.6.9 3.9L6 8.8l-3.4 2.1.9-3.9-3-2.6 4-.3z"/>',
    "x": '<path d="M2.9.8 6 3.9 9.1.8l2.1 2.1L8.1 6l3.1 3.1-2.1 2.1L6 8.1l-3.1 3.1L.8 9.1 3.9 6 .8 2.9z"/>',
}


def mark(colour: str, symbol: str) -> str:
    """Return a marker as a small picture for a legend."""
    shape = _SHAPES.get(symbol, _SHAPES["circle"])
    return (
        f'<svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" fill="{colour}" stroke="rgba(31,41,51,.55)" '
        f'stroke-width=".7">{shape}</svg>'
    )


def gradient() -> str:
    """Return the popularity scale as CSS."""
    return "linear-gradient(to right, " + ", ".join(f"{c} {100 * s:.0f}%" for s, c in palette.POPULARITY_SCALE) + ")"


class Map:
    """One view's map.

    Args:
        view: its name.
        rows: (n,) which users or items its points are.
        texts: what the pointer shows, one text a row of the whole table.
        height: in pixels.
        on_event: see :class:`LivePlot`.
        pair: names of the two halves where the points are the same rows twice, joined by lines; ``rows`` is then one half's.

    Attributes:
        widget: head and figure in a box.
        plot: the figure.
        xy: (n, 2) what is drawn, or None; both halves one below the other for a pair.
    """

    def __init__(
        self,
        view: str,
        rows: np.ndarray,
        texts: Sequence[str],
        height: int,
        on_event: Callable[[Mapping[str, Any]], None],
        pair: tuple[str, str] | None = None,
    ):
        self.view, self.rows, self.pair, self.height = view, np.asarray(rows), pair, height
        self._texts = [texts[r] for r in self.rows]
        self.xy: np.ndarray | None = None
        self._colouring: tuple[str, Any] = ("none", None)
        self._parts = figures.groups(None, "none", len(self.rows))
        self._chosen: np.ndarray | None = None
        self._range: tuple[list[float], list[float]] | None = None
        self._alt, self._choices = "", 0
        self.head = Part(f"<b>{html.escape(view)}</b>", "mmrec-maphead")
        self.plot = LivePlot(
            self._figure(), view, "mmrec-map", config={"scrollZoom": False, "displayModeBar": "hover"}, on_event=on_event
        )
        self.widget: w.Box = box("column", [self.head, self.plot], "mmrec-mapbox")

    # -- what it shows -----------------------------------------------------------------------------------------------------
    def colour(self, kind: str, values: Any) -> None:
        """Colour by ``values`` (one a point of one half)."""
        self._colouring = (kind, values)
        self._parts = figures.groups(values, "popularity" if kind == "share" else kind, len(self.rows))
        self.plot.draw(self._figure())

    def recolour(self, kind: str, values: Any) -> None:
        """Give the points other values of a colouring whose kind stays: a change of two arrays, nothing is drawn anew."""
        if kind != self._colouring[0] or kind != "share":
            self.colour(kind, values)
            return
        self._colouring = (kind, values)
        first, marks = (1 if self.pair else 0), _shares(values)
        self.plot.change({n: {f"marker.{k}": v for k, v in marks.items()} for n in range(first, len(self.plot.traces))})

    def move(self, pictures: Mapping[str, Picture], epoch: int) -> None:
        """Draw the next pictures of what this map shows."""
        shown = [pictures[name] for name in self.pair or (self.view,) if name in pictures]
        if len(shown) < len(self.pair or (self.view,)):
            return
        self.xy = np.concatenate([picture.xy for picture in shown])
        kept = " and ".join(dict.fromkeys(f"{picture.kept:.0%}" for picture in shown))
        line = f"keeps {kept} of each point's 10 nearest neighbours"
        self.head.html = (
            f'<b>{html.escape(self.view)}</b> · {shown[0].method}, axes without unit<br><span class="mmrec-quiet">{line}</span>'
        )
        self._alt = f"{shown[0].method} map of {len(self.rows):,} rows of {self.view} after {epoch} epochs; {line}."
        x_range, y_range = self._steady_range(self.xy)
        self.plot.change(self._places(), {"xaxis.range": x_range, "yaxis.range": y_range, "meta.alt": self._alt})

    def choose(self, rows: Sequence[int] | None) -> None:
        """Let all points but those of ``rows`` fade; None shows all."""
        self._chosen = None if rows is None else np.asarray(list(rows), dtype=np.int64)
        changes = {n: {"selectedpoints": self._selected(t)} for n, t in enumerate(self.plot.traces) if "customdata" in t}
        self._choices += 1  # another number: plotly forgets the loop drawn by hand and the points it chose
        self.plot.change(changes, {"selectionrevision": self._choices})

    # -- how ---------------------------------------------------------------------------------------------------------------
    def _halves(self) -> list[np.ndarray]:
        n = len(self.rows)
        xy = np.zeros((n * (2 if self.pair else 1), 2), np.float32) if self.xy is None else np.asarray(self.xy, np.float32)
        return [xy[:n], xy[n:]] if self.pair else [xy]

    def _places(self) -> dict[int, dict[str, np.ndarray]]:
        """Trace number -> its coordinates."""
        found: dict[int, dict[str, np.ndarray]] = {}
        halves, number = self._halves(), 0
        if self.pair:
            a, b = halves
            gap = np.full(len(a), np.nan, np.float32)
            found[0] = {"x": np.stack([a[:, 0], b[:, 0], gap], 1).ravel(), "y": np.stack([a[:, 1], b[:, 1], gap], 1).ravel()}
            number = 1
        for xy in halves:
            for _, rows in self._parts:
                found[number] = {"x": np.ascontiguousarray(xy[rows, 0]), "y": np.ascontiguousarray(xy[rows, 1])}
                number += 1
        return found

    def _figure(self) -> go.Figure:
        kind, values = self._colouring
        traces: list[Any] = []
        places = self._places()
        webgl = len(self.rows) * (2 if self.pair else 1) > figures.WEBGL_FROM
        if self.pair:
            line = {"color": "rgba(74,87,99,0.28)", "width": 1}
            make = go.Scattergl if webgl else go.Scatter
            traces.append(make(**places[0], mode="lines", line=line, hoverinfo="skip", showlegend=False, name="the same item"))
        for half, xy in enumerate(self._halves()):
            if kind == "share":  # 0 to 1, read like popularity: pale is little, dark is much
                made = figures.map_traces(xy, np.nan_to_num(values), "popularity", self._texts)
                made[0].marker.update(**_shares(values), cmin=0, cmax=1)
            else:
                made = figures.map_traces(xy, values, kind, self._texts)
            for trace, (_, rows) in zip(made, self._parts):
                trace.customdata = self.rows[rows].astype(np.int32)
                trace.showlegend = False
                if trace.marker.colorbar.thickness:
                    trace.marker.colorbar = None
                    trace.marker.showscale = False
                if self.pair:
                    said = self.pair[half]
                    if half == 1:  # the same shape, open: category and half are told apart without their colour
                        trace.marker.symbol = f"{trace.marker.symbol or 'circle'}-open"
                    trace.marker.line.width = 0.5 if half == 0 else 1.4
                    trace.hovertemplate = "%{text}<extra>" + html.escape(said) + "</extra>"
                if webgl and not isinstance(trace, go.Scattergl):
                    trace = go.Scattergl(trace.to_plotly_json() | {"type": "scattergl"})
                trace.unselected = {"marker": {"opacity": DIM}}
                trace.selectedpoints = self._selected({"customdata": trace.customdata})
                traces.append(trace)
        figure = go.Figure(traces)
        ranges = self._range or ([-1.0, 1.0], [-1.0, 1.0])
        hidden = {"showticklabels": False, "ticks": "", "showgrid": False, "showline": False, "zeroline": False}
        figure.update_layout(
            template=palette.template(),
            height=self.height,
            margin={"l": 4, "r": 4, "t": 4, "b": 4},
            dragmode="lasso",
            hovermode="closest",
            showlegend=False,
            uirevision="keep",
            selectionrevision=self._choices,
            meta={"alt": self._alt, "square": True},
            modebar={"orientation": "h", "bgcolor": "rgba(255,255,255,.9)", "color": "#4a5763", "activecolor": palette.BLUE},
        )
        figure.update_xaxes(range=ranges[0], **hidden)
        figure.update_yaxes(range=ranges[1], scaleanchor="x", **hidden)
        return figure

    def _selected(self, trace: Mapping[str, Any]) -> list[int] | None:
        if self._chosen is None:
            return None
        return np.flatnonzero(np.isin(trace["customdata"], self._chosen)).tolist()

    def _steady_range(self, xy: np.ndarray) -> tuple[list[float], list[float]]:
        """The range to show: the last one as long as all points are well inside it, so that axes do not twitch."""
        wanted, shown = figures.map_range(xy, 0.12), self._range
        if shown is not None:
            inside = all((xy[:, a] >= shown[a][0]).all() and (xy[:, a] <= shown[a][1]).all() for a in (0, 1))
            if inside and (wanted[0][1] - wanted[0][0]) > 0.7 * (shown[0][1] - shown[0][0]):
                return shown
        self._range = wanted
        return wanted


def _shares(values: Any) -> dict[str, np.ndarray]:
    """Colour and opacity of shares from 0 to 1; a row nobody can judge (NaN) is faint."""
    shares = np.asarray(values, np.float32)
    return {"color": np.nan_to_num(shares), "opacity": np.where(np.isnan(shares), 0.18, 0.9).astype(np.float32)}


def legend(
    kind: str, values: Any, rows: np.ndarray, what: str, pressed: str | None, pairs: tuple[str, str] | None = None
) -> str:
    """Return the legend of all maps of one side as HTML; its entries choose their points.

    Args:
        kind, values: the colouring, one value a point.
        rows: (n,) which users or items the points are.
        what: "item" or "user".
        pressed: label of the entry that is chosen.
        pairs: names of the two halves where a map joins the same item twice.
    """
    halves = ""
    if pairs:
        halves = (
            f'<span class="mmrec-scale">{mark("#666", "circle")} {html.escape(pairs[0])} '
            f"{mark('none', 'circle')} {html.escape(pairs[1])}, the same {what} joined by a line</span>"
        )
    if kind == "none" or values is None:
        return halves
    if kind in ("popularity", "share"):
        low, top = ("0", f"{int(np.max(values, initial=0)):,} interactions") if kind == "popularity" else ("none", "all")
        unknown = int(np.isnan(np.asarray(values, np.float64)).sum())
        note = f' <span class="mmrec-quiet">{unknown:,} without anything to judge by are faint</span>' if unknown else ""
        return f'<span class="mmrec-scale">{low} <i style="background:{gradient()}"></i> {top}{note}</span>{halves}'
    cells = []
    for n, (label, members) in enumerate(figures.groups(values, kind, len(rows))):
        colour, symbol = palette.style(n)
        if kind == "cold":
            colour, symbol = (palette.RED, "star") if label.startswith("cold") else (palette.SKY, "circle")
        on = "true" if label == pressed else "false"
        picture = mark(colour, symbol)
        cells.append(
            f'<button type="button" data-do="legend" data-key="legend-{html.escape(label)}" data-value="{html.escape(label)}" '
            f'aria-pressed="{on}" title="Show only these {len(members):,} in all maps">{picture}{html.escape(label)}</button>'
        )
    return "".join(cells) + halves


__all__ = ["Map", "gradient", "legend", "mark"]
