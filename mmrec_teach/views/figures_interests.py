"""Pictures of density peaks: where points are dense, which of them become centres, and which clusters a user touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mmrec_teach.errors import InputError
from mmrec_teach.views import palette
from mmrec_teach.views.figures import _finish, _map_axis, _names, honesty, map_range, number, wrapped
from mmrec_teach.views.projection import as_table

OTHERS = {"size": 6, "color": palette.FAINT, "symbol": "circle", "line": {"width": 0}}
LIT = 12
"""Size of a token of the history."""
CURVE = 60
"""Points of the line of equal products."""


def decision_graph(
    density: Any,
    delta: Any,
    centres: Sequence[int],
    *,
    hover: Sequence[str] | None = None,
    title: str | None = None,
    height: int = 440,
) -> go.Figure:
    r"""Density against delta: whoever stands high and to the right is a centre.

    The dashed line joins places of equal product :math:`\rho\delta`, that of the weakest centre: all centres are on it or above.

    Args:
        density, delta: (N,) of every point.
        centres: row numbers of the chosen ones, best first.
        hover: (N,) texts shown under the pointer.
        title: the takeaway; by default how far apart the last centre and the next point are.
        height: in pixels.

    Raises:
        InputError: tables of different length, no centre, or a row number out of range.
    """
    rho, far = (np.asarray(a, dtype=np.float64) for a in (density, delta))
    chosen = _chosen(rho, far, centres)
    names = np.array(_names(len(rho), hover, "point"))
    rest = np.setdiff1d(np.arange(len(rho)), chosen)
    score = rho * far
    last, following = score[chosen].min(), score[rest].max(initial=0.0)
    figure = go.Figure()
    for rows, label, marker in (
        (rest, "others", OTHERS | {"color": palette.BLUE, "opacity": 0.55}),
        (
            chosen,
            "centres",
            {"size": 12, "color": palette.ORANGE, "symbol": "diamond", "line": {"width": 1, "color": palette.INK}},
        ),
    ):
        figure.add_scatter(
            x=rho[rows],
            y=far[rows],
            mode="markers",
            name=label,
            marker=marker,
            text=names[rows],
            customdata=score[rows],
            hovertemplate="%{text}<br>density %{x:.3g}, delta %{y:.3g}, product %{customdata:.3g}<extra>" + label + "</extra>",
        )
    top = 1.08 * float(far.max(initial=0.0))
    right = float(rho.max(initial=0.0))
    if last > 0 and top > 0:
        x = np.linspace(max(last / top, 1e-300), right, CURVE) if last / top < right else np.array([right])
        figure.add_scatter(
            x=x,
            y=last / x,
            mode="lines",
            name="product of the last centre",
            line={"color": palette.INK, "width": 1.5, "dash": "dash"},
            hoverinfo="skip",
        )
    margin = 0.04 * max(right - float(rho.min(initial=right)), 1e-3 * max(right, 1e-12))
    figure.update_xaxes(title="density ρ", range=[float(rho.min(initial=right)) - margin, right + margin])
    figure.update_yaxes(title="delta δ: distance to the nearest denser point", range=[-0.02 * top, top or 1.0])
    gap = f"the last centre's product is {number(last)}, the next point's {number(following)}"
    n = len(chosen)
    text = title or f"{n} centre{'s' if n > 1 else ''} of {len(rho):,} points: {gap}"
    alt = (
        f"Density (across) against delta (up) of {len(rho):,} points; {n} centres as diamonds on or above the dashed line of "
        f"equal product; {gap}."
    )
    return _finish(figure, text, alt, height, legend={"orientation": "h", "y": -0.22, "x": 0})


def density_map(
    xy: Any,
    density: Any,
    *,
    parent: Any = None,
    centres: Sequence[int] = (),
    hover: Sequence[str] | None = None,
    title: str | None = None,
    height: int = 480,
) -> go.Figure:
    """Points on a map, the darker the denser; a line from each to its nearest denser point; centres framed and numbered.

    Args:
        xy: (N, 2) places.
        density: (N,) of every point.
        parent: (N,) row number of the nearest denser point, -1 for none; None draws no lines.
        centres: row numbers, best first; they are numbered from 1.
        hover: (N,) texts shown under the pointer.
        title: the takeaway; by default the densest point's density beside the median.
        height: in pixels.

    Raises:
        InputError: tables of different length.
    """
    places, rho = _places(xy), np.asarray(density, dtype=np.float64)
    if len(rho) != len(places):
        raise InputError("one density per point is needed", where="density_map", found=len(rho), expected=str(len(places)))
    names = _names(len(rho), hover, "point")
    figure = go.Figure()
    if parent is not None:
        above = np.asarray(parent)
        has = np.flatnonzero(above >= 0)
        if len(above) != len(rho) or above.max(initial=-1) >= len(rho):
            raise InputError("not a row number of a point for each", where="density_map parent", expected=f"{len(rho)} of them")
        x, y = (np.stack([places[has, a], places[above[has], a], np.full(len(has), np.nan)], 1).ravel() for a in (0, 1))
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": palette.FAINT, "width": 1},
            hoverinfo="skip",
            name="to the nearest denser point",
        )
    figure.add_scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers",
        name="points",
        showlegend=False,
        text=names,
        customdata=rho,
        hovertemplate="%{text}<br>density %{customdata:.3g}<extra></extra>",
        marker={
            "size": 9,
            "color": rho,
            "colorscale": [list(stop) for stop in palette.POPULARITY_SCALE],
            "colorbar": {"title": {"text": "density ρ", "side": "right"}, "thickness": 14},
            "line": {"width": 0.5, "color": "rgba(31,41,51,0.45)"},
        },
    )
    rows = np.asarray(centres, dtype=np.int64)
    if len(rows):
        figure.add_scatter(
            x=places[rows, 0],
            y=places[rows, 1],
            mode="markers",
            name="centres",
            hoverinfo="skip",
            marker={"size": 18, "symbol": "diamond-open", "color": palette.RED, "line": {"width": 3}},
        )
    for n, row in enumerate(rows):
        figure.add_annotation(
            x=places[row, 0],
            y=places[row, 1],
            text=f"<b>{n + 1}</b>",
            showarrow=False,
            yshift=24,
            bgcolor=palette.PAPER,
            bordercolor=palette.RED,
            borderpad=2,
        )
    x_range, y_range = map_range(places)
    figure.update_xaxes(range=x_range, title="first number").update_yaxes(range=y_range, scaleanchor="x", title="second number")
    text = title or f"{len(rho):,} points: the densest has {number(rho.max(initial=0))}, the median {number(np.median(rho))}"
    alt = f"Map of {len(rho):,} points, darker where denser"
    alt += ", each joined to its nearest denser point" if parent is not None else ""
    alt += f"; {len(rows)} centres framed" if len(rows) else ""
    return _finish(figure, text, f"{alt}. {text}.", height, width=760, legend={"orientation": "h", "y": -0.15, "x": 0})


def interest_map(
    xy: Any,
    interest: Any,
    taken: Any,
    *,
    names: dict[int, str] | None = None,
    hover: Sequence[str] | None = None,
    method: str = "UMAP",
    kept: float | None = None,
    title: str | None = None,
    height: int = 560,
) -> go.Figure:
    """All tokens on a map, grey; those of one user's history lit up, one colour and shape an interest.

    Tokens of the same interests that are not in the history stand as small open marks of that colour.

    Args:
        xy: (N, 2) places of the tokens.
        interest: (N,) the interest of each token.
        taken: (N,) bool, the tokens of the history.
        names: interest -> what to call it; by default its number.
        hover: (N,) texts shown under the pointer.
        method, kept: how the map was drawn and what it kept of the neighbours.
        title: the takeaway; by default how many tokens and interests the history has.
        height: in pixels.

    Raises:
        InputError: tables of different length.
    """
    places, of = _places(xy), np.asarray(interest, dtype=np.int64)
    lit = np.asarray(taken, dtype=bool)
    if not len(places) == len(of) == len(lit):
        raise InputError(
            "tables of different length",
            where="interest_map",
            found=f"{len(places)}, {len(of)}, {len(lit)}",
            expected="one row a token",
        )
    told = np.array(_names(len(of), hover, "token"))
    counts = {int(k): int(((of == k) & lit).sum()) for k in np.unique(of[lit])}
    order = sorted(counts, key=lambda k: (-counts[k], k))
    figure = go.Figure()
    rest = ~np.isin(of, order)
    figure.add_scatter(
        x=places[rest, 0],
        y=places[rest, 1],
        mode="markers",
        name="other interests",
        marker=OTHERS | {"size": 5},
        text=told[rest],
        hovertemplate="%{text}<extra></extra>",
    )
    for position, k in enumerate(order):
        colour, symbol = palette.style(position)
        label = (names or {}).get(k, f"interest {k}")
        dim, bright = (of == k) & ~lit, (of == k) & lit
        figure.add_scatter(
            x=places[dim, 0],
            y=places[dim, 1],
            mode="markers",
            name=label,
            legendgroup=str(k),
            showlegend=False,
            marker={"size": 6, "color": colour, "symbol": f"{symbol}-open", "opacity": 0.7},
            text=told[dim],
            hovertemplate="%{text}<br>not in the history<extra>" + label + "</extra>",
        )
        figure.add_scatter(
            x=places[bright, 0],
            y=places[bright, 1],
            mode="markers",
            name=wrapped(f"{label} ({counts[k]})", 28),
            legendgroup=str(k),
            marker={"size": LIT, "color": colour, "symbol": symbol, "line": {"width": 1.2, "color": palette.INK}},
            text=told[bright],
            hovertemplate="%{text}<br>in the history<extra>" + label + "</extra>",
        )
    x_range, y_range = map_range(places)
    bare = {"showticklabels": False, "ticks": "", "showgrid": False}
    figure.update_xaxes(title=_map_axis(method, honesty("", kept)), range=x_range, **bare)
    figure.update_yaxes(title=f"{method} 2 (no unit)", range=y_range, scaleanchor="x", **bare)
    said = f"{int(lit.sum())} tokens of the history fall into {len(order)} interests of {len(np.unique(of))}"
    largest = f"; the largest holds {counts[order[0]]}" if order else ""
    alt = f"{method} map of {len(of):,} tokens, those of one history lit up by interest: {said}{largest}."
    return _finish(figure, title or said + largest, alt, height)


def _places(xy: Any) -> np.ndarray:
    places = as_table(xy, "xy")
    if places.shape[1] != 2:
        raise InputError("a map needs two coordinates", where="xy", found=f"shape {places.shape}", expected="(N, 2)")
    return places


def _chosen(rho: np.ndarray, far: np.ndarray, centres: Sequence[int]) -> np.ndarray:
    chosen = np.asarray(centres, dtype=np.int64)
    if rho.ndim != 1 or rho.shape != far.shape:
        raise InputError(
            "one density and one delta per point", where="decision_graph", found=f"shapes {rho.shape} and {far.shape}"
        )
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(rho):
        raise InputError(
            "no row numbers of centres", where="decision_graph", found=chosen[:5].tolist(), expected=f"0 to {len(rho) - 1}"
        )
    return chosen
