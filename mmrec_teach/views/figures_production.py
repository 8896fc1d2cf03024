"""Pictures of a recommender in production: what one pass over the stream teaches, and whom the lists reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.errors import InputError
from mmrec_teach.views import palette
from mmrec_teach.views.figures import _finish, band, number

CLEAR = "rgba(0,0,0,0)"


def streaming_curves(
    curves: Mapping[str, Mapping[str, Any]],
    *,
    x_title: str = "passes over the training interactions",
    y_title: str = "share of its best recall@20",
    title: str | None = None,
    height: int = 460,
) -> go.Figure:
    """What is known after so many passes over the data: a line for each part, its seeds' spread as a band, a rule at one pass.

    Args:
        curves: name -> ``"passes"`` (n,) ascending, above 0 (0.25: a quarter of the stream), and ``"values"`` (seeds, n).
        x_title: what a pass goes over.
        y_title: what is measured.
        title: the takeaway; by default the highest and the lowest value after one pass.
        height: in pixels.

    Raises:
        InputError: no curve, or one whose values do not fit its passes.
    """
    if not curves:
        raise InputError("no curves to draw", where="streaming_curves", expected="one or more")
    tables = {}
    for name, given in curves.items():
        x, table = np.asarray(given["passes"], dtype=float), np.asarray(given["values"], dtype=float)
        if table.ndim != 2 or table.shape[1] != len(x) or 0 in table.shape or x.min() <= 0 or (np.diff(x) <= 0).any():
            raise InputError(
                "a curve that does not fit its passes",
                where=f"streaming_curves, {name}",
                found=f"{len(x)} passes, values of shape {table.shape}",
                expected="ascending passes above 0, and (seeds, passes) values",
            )
        tables[name] = x, table
    figure = go.Figure()
    for n, (name, (x, table)) in enumerate(tables.items()):
        (colour, symbol), mean = palette.style(n), table.mean(0)
        band(figure, x, table, colour)
        figure.add_scatter(
            x=x,
            y=mean,
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2.5, "dash": palette.dash(n)},
            marker={"symbol": symbol, "size": 9, "line": {"width": 0.75, "color": palette.INK}},
            hovertemplate="%{x:.3g} passes: %{y:.3g}<extra>" + name + "</extra>",
        )
    after = {name: float(np.interp(0.0, np.log(x), table.mean(0))) for name, (x, table) in tables.items() if x[0] <= 1 <= x[-1]}
    figure.add_vline(x=1, line={"color": palette.INK, "width": 1.5, "dash": "dot"})
    # an annotation on a log axis takes the exponent
    figure.add_annotation(x=0, y=0.02, yref="paper", xanchor="left", yanchor="bottom", text=" one pass", showarrow=False)
    seeds = max(len(table) for _, table in tables.values())
    bands = f"; bands: lowest to highest of {seeds} seeds" if seeds > 1 else ""
    ticks = (0.01, 0.03, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
    figure.update_xaxes(
        title=f"{x_title} (log scale){bands}",
        type="log",
        tickvals=ticks,
        ticktext=[f"{v:g}" for v in ticks],
    )
    figure.update_yaxes(title=y_title, rangemode="tozero")
    if after:
        best, worst = max(after, key=after.__getitem__), min(after, key=after.__getitem__)
        takeaway = f"After one pass: {number(after[best])} ({best})"
        takeaway += f", {number(after[worst])} ({worst})" if worst != best else ""
    else:
        takeaway = f"{y_title} over passes"
    detail = "; ".join(
        f"{name} from {number(t.mean(0)[0])} after {number(x[0])} passes to {number(t.mean(0)[-1])} after {number(x[-1])}"
        for name, (x, t) in tables.items()
    )
    figure = _finish(
        figure,
        title or takeaway,
        f"{title or takeaway}. {y_title}, means of {seeds} seeds: {detail}.",
        height,
        legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0},
    )
    return figure.update_layout(margin={"b": figure.layout.margin.b + 46})


def reach_bars(
    reach: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    groups: Mapping[str, str] | None = None,
    title: str | None = None,
) -> go.Figure:
    """Shares side by side, one panel a measure: a bar for each model, its length the mean over seeds, every seed a dot on it.

    Args:
        reach: model -> measure -> (seeds,) shares from 0 to 1. All have the same measures.
        groups: model -> what it belongs to; models of one group have one colour and hatching. None: one for all.
        title: the takeaway; by default who leads on the first measure, and by how much over the last.

    Raises:
        InputError: no model, other measures, a share outside 0 to 1.
    """
    names = list(reach)
    measures = list(reach[names[0]]) if names else []
    if not measures:
        raise InputError("nothing to draw", where="reach_bars", found=f"{len(names)} models without a measure")
    for name in names:
        values = [np.asarray(reach[name].get(m, ()), dtype=float) for m in measures]
        if set(reach[name]) != set(measures) or any(not v.size or v.min() < 0 or v.max() > 1 for v in values):
            raise InputError(
                "not shares of the same measures",
                where=f"reach_bars, {name}",
                found=", ".join(reach[name]),
                expected=f"from 0 to 1, one or more seeds, for each of: {', '.join(measures)}",
            )
    kinds = list(dict.fromkeys((groups or {}).get(name, "") for name in names))
    figure = make_subplots(1, len(measures), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=measures)
    for column, measure in enumerate(measures, start=1):
        for n, kind in enumerate(kinds):
            mine = [name for name in names if (groups or {}).get(name, "") == kind]
            means = [float(np.mean(reach[name][measure])) for name in mine]
            figure.add_bar(
                x=means,
                y=mine,
                orientation="h",
                name=kind,
                legendgroup=kind,
                showlegend=column == 1 and len(kinds) > 1,
                marker={
                    "color": palette.style(n)[0],
                    "pattern": {"shape": ("", "/", ".", "x", "\\", "-", "|", "+")[n % 8], "solidity": 0.2},
                },
                hovertemplate="%{y}: %{x:.1%}<extra>" + measure + "</extra>",
                row=1,
                col=column,
            )
        dots = [(float(v), name) for name in names for v in reach[name][measure] if len(reach[name][measure]) > 1]
        if dots:
            figure.add_scatter(
                x=[v for v, _ in dots],
                y=[name for _, name in dots],
                mode="markers",
                marker={"color": CLEAR, "size": 6, "symbol": "circle", "line": {"width": 1, "color": palette.INK}},
                showlegend=False,
                hoverinfo="skip",
                row=1,
                col=column,
            )
        ends = [float(np.max(reach[name][measure])) for name in names]
        means = [float(np.mean(reach[name][measure])) for name in names]
        figure.add_scatter(  # behind the farthest dot, not behind the bar
            x=ends,
            y=names,
            mode="text",
            text=[f"  {m:.0%}" if m >= 0.1 or m == 0 else f"  {m:.1%}" for m in means],
            textposition="middle right",
            cliponaxis=False,
            showlegend=False,
            hoverinfo="skip",
            row=1,
            col=column,
        )
        figure.update_xaxes(range=[0, 1.4 * (max(ends) or 1.0)], tickformat=".0%", nticks=4, row=1, col=column)
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], ticks="", showgrid=False)
    first = {name: float(np.mean(reach[name][measures[0]])) for name in names}
    best, worst = max(first, key=first.__getitem__), min(first, key=first.__getitem__)
    takeaway = f"{measures[0]}: {first[best]:.0%} with {best}, {first[worst]:.0%} with {worst}"
    detail = "; ".join(f"{name}: " + ", ".join(f"{m} {np.mean(reach[name][m]):.1%}" for m in measures) for name in names)
    figure = _finish(
        figure,
        title or takeaway,
        f"{title or takeaway}. Bars, one panel each for {', '.join(measures)}. {detail}.",
        150 + 30 * len(names),
        barmode="overlay",
        legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0},
    )
    more = 40 if len(kinds) > 1 else 0
    pad, margin = figure.layout.title.pad.b, figure.layout.margin
    return figure.update_layout(
        margin={"t": margin.t + 26, "b": margin.b + more}, height=figure.layout.height + more, title={"pad": {"b": pad + 26}}
    )
