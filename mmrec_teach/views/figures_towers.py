"""Pictures of two towers: whom a gate gives to content, and what becomes of content when its vectors are replaced by cluster ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.errors import InputError, OptionError, check_whole
from mmrec_teach.views import palette
from mmrec_teach.views.figures import _finish, number

MEASURES = {"loss": "training loss", "recall": "recall@20, warm items"}


def gate_table(
    gate: Any, by: Any, *, edges: Sequence[float] | None = None, buckets: int = 5, zero: str = "cold"
) -> pd.DataFrame:
    """Return a gate's values by buckets of something else: popularity or age.

    Args:
        gate: (I,) one value an item.
        by: (I,) numbers, 0 or more, what the items are put into buckets by.
        edges: ascending, the lowest value of each bucket but that of the zeros; by default the quantiles of the values above 0.
        buckets: how many quantiles; equal ones merge.
        zero: what the bucket of the zeros is called. It is left out where no item has 0.

    Returns:
        One row a bucket that has items, lowest first: ``bucket``, ``items``, ``mean``, ``low``, ``median``, ``high`` (the quartiles).

    Raises:
        InputError: not one finite number an item, or none.
        OptionError: edges that are not ascending positive numbers.
    """
    g, x = (np.asarray(a, dtype=np.float64) for a in (gate, by))
    if g.ndim != 1 or g.shape != x.shape or not len(g) or not (np.isfinite(g).all() and np.isfinite(x).all() and x.min() >= 0):
        raise InputError(
            "not one value for each item",
            where="gate_table",
            found=f"shapes {g.shape} and {x.shape}",
            expected="(I,) finite numbers, the second 0 or more",
        )
    if edges is None:
        check_whole("buckets", buckets, 1, "number of buckets out of range")
        above = x[x > 0]
        edges = np.quantile(above, np.arange(buckets) / buckets, method="higher") if len(above) else [1.0]
        edges = np.unique(edges)
    cuts = np.asarray(edges, dtype=np.float64)
    if cuts.ndim != 1 or not len(cuts) or cuts[0] <= 0 or (np.diff(cuts) <= 0).any():
        raise OptionError(
            "not ascending positive numbers", where="gate_table(edges=)", found=list(edges), expected="such as 1, 10, 50"
        )
    place = np.searchsorted(cuts, x, side="right")
    rows = []
    for n in np.unique(place):
        inside = place == n
        low, median, high = np.quantile(g[inside], [0.25, 0.5, 0.75])
        a, b = x[inside].min(), x[inside].max()
        if n == 0 and b == 0:
            label = zero
        else:
            label = number(a) if a == b else f"{number(a)} to {number(b)}"
        rows.append((label, int(inside.sum()), float(g[inside].mean()), float(low), float(median), float(high)))
    return pd.DataFrame(rows, columns=["bucket", "items", "mean", "low", "median", "high"])


def gate_by_popularity(
    gates: Mapping[str, Any],
    counts: Any,
    *,
    age: Any = None,
    age_title: str = "days in the shop when training ends",
    title: str | None = None,
    height: int = 430,
) -> go.Figure:
    """What share a gate gives to content, by how often items were taken and, beside it, by how long they have been there.

    Medians, with the middle half of the items as a whisker. Items without interactions or age 0 stand first.

    Args:
        gates: name -> (I,) value of every item, 0 all ID, 1 all content.
        counts: (I,) training interactions.
        age: (I,) how long each has been there, 0 for what came later; None leaves that panel out.
        age_title: its axis.
        title: the takeaway; by default what the first gate gives to cold items and to the most taken.
        height: in pixels.

    Raises:
        InputError: no gate, or tables of different length.
    """
    if not gates:
        raise InputError("no gate to draw", where="gate_by_popularity", found="none", expected="one or more")
    panels = [("training interactions", counts, "cold")]
    if age is not None:
        panels.append((age_title, age, "not yet"))
    figure = make_subplots(1, len(panels), shared_yaxes=True, horizontal_spacing=0.06)
    said = []
    for column, (axis, by, zero) in enumerate(panels, start=1):
        for n, (name, gate) in enumerate(gates.items()):
            table = gate_table(gate, by, zero=zero)
            colour, symbol = palette.style(n)
            figure.add_scatter(
                x=np.arange(len(table)) + 0.08 * (n - (len(gates) - 1) / 2),
                y=table["median"],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": table["high"] - table["median"],
                    "arrayminus": table["median"] - table["low"],
                    "color": colour,
                    "thickness": 1.5,
                    "width": 4,
                },
                mode="lines+markers",
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": colour, "dash": palette.dash(n), "width": 2.5},
                marker={"symbol": symbol, "size": 9},
                text=[f"{bucket}: {items} items" for bucket, items in zip(table["bucket"], table["items"], strict=True)],
                hovertemplate="%{text}<br>median %{y:.3f}<extra>" + name + "</extra>",
                row=1,
                col=column,
            )
            said.append(
                f"{name}, {axis}: " + ", ".join(f"{b} {m:.2f}" for b, m in zip(table["bucket"], table["median"], strict=True))
            )
        figure.update_xaxes(title=axis, tickvals=np.arange(len(table)), ticktext=table["bucket"], row=1, col=column)
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title="gate: 0 ID, 1 content", row=1, col=1)
    first = next(iter(gates))
    table = gate_table(gates[first], counts)
    rare, common = table.iloc[0], table.iloc[-1]
    who = "cold items" if rare["bucket"] == "cold" else f"the rarest ({rare['bucket']})"
    most = f"the most taken ({common['bucket']})"
    takeaway = f"{first}: the gate gives content {rare['median']:.2f} of {who}, {common['median']:.2f} of {most}"
    alt = f"Medians of a gate by bucket. {'; '.join(said)}."
    return _finish(figure, title or takeaway, alt, height, legend={"orientation": "h", "y": -0.25, "x": 0})


def cluster_curve(
    curve: pd.DataFrame,
    references: Mapping[str, Mapping[str, float]],
    *,
    measures: Mapping[str, str] | None = None,
    title: str | None = None,
    height: int = 430,
) -> go.Figure:
    """Measures of a model that reads cluster ids, over the number of clusters; dashed lines say where other models are.

    Args:
        curve: column ``clusters`` and one for each measure; one row a number of clusters, or several (seeds): then the line joins
            their means and whiskers reach from the lowest to the highest.
        references: other model -> measure -> value.
        measures: column -> axis title, one panel each; by default :data:`MEASURES`.
        title: the takeaway; by default how far the last clusters have come on the first measure from the fewest to the first reference.
        height: in pixels.

    Raises:
        InputError: a column or a reference's measure is missing, or there are no rows.
    """
    shown = dict(measures or MEASURES)
    missing = ({"clusters"} | set(shown)) - set(curve.columns)
    if missing or not len(curve) or not shown:
        raise InputError(
            "not a table over numbers of clusters",
            where="cluster_curve",
            found=f"columns {', '.join(map(str, curve.columns))}; {len(curve)} rows",
            expected=f"clusters, {', '.join(shown)}",
        )
    for name, values in references.items():
        if lacking := set(shown) - set(values):
            raise InputError("a reference without a value", where=f"cluster_curve, {name}", found=f"no {sorted(lacking)[0]}")
    groups = curve.groupby("clusters")[list(shown)]
    mean, low, high = groups.mean(), groups.min(), groups.max()
    figure = make_subplots(1, len(shown), horizontal_spacing=0.12)
    said = []
    for column, (measure, axis) in enumerate(shown.items(), start=1):
        figure.add_scatter(
            x=mean.index,
            y=mean[measure],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": high[measure] - mean[measure],
                "arrayminus": mean[measure] - low[measure],
                "color": palette.BLUE,
                "thickness": 1.5,
                "width": 4,
            },
            mode="lines+markers",
            name="cluster id for content",
            showlegend=column == 1,
            line={"color": palette.BLUE, "width": 2.5},
            marker={"symbol": "circle", "size": 9},
            hovertemplate="%{x} clusters: %{y:.3f}<extra></extra>",
            row=1,
            col=column,
        )
        for n, (name, values) in enumerate(references.items(), start=1):
            figure.add_scatter(
                x=[mean.index.min(), mean.index.max()],
                y=[values[measure]] * 2,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": palette.style(n)[0], "dash": palette.dash(n), "width": 2},
                hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
        ticks = mean.index.tolist()
        figure.update_xaxes(
            title="clusters (log scale)", type="log", tickvals=ticks, ticktext=[f"{t:,}" for t in ticks], row=1, col=column
        )
        figure.update_yaxes(title=axis, row=1, col=column)
        at = ", ".join(f"{k}: {number(v)}" for k, v in mean[measure].items())
        beside = ", ".join(f"{name} {number(values[measure])}" for name, values in references.items())
        said.append(f"{axis} by clusters {at}" + (f"; beside it {beside}" if beside else ""))
    first = next(iter(shown))
    start, end, most = mean[first].iloc[0], mean[first].iloc[-1], mean.index[-1]
    takeaway = f"{shown[first]}: {number(start)} with {mean.index[0]} clusters, {number(end)} with {most:,}"
    if references:
        name, values = next(iter(references.items()))
        gap = values[first] - start
        if gap:
            takeaway = f"With {most:,} clusters {(end - start) / gap:.0%} of the way to the {name} is gone: {shown[first]}"
    return _finish(figure, title or takeaway, f"{'. '.join(said)}.", height, legend={"orientation": "h", "y": -0.25, "x": 0})
