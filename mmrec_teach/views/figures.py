"""The course's figures: plain functions from numbers to a plotly figure.

Every figure has labelled axes, a title that says what to take away (computed from the numbers, or given), colours and shapes
that do not rely on colour vision, and in ``figure.layout.meta["alt"]`` one sentence for whoever cannot see it
(:func:`alt_text` returns it). Nothing here draws at random or changes its arguments.
"""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.views import palette
from mmrec_teach.views.projection import as_table

KINDS = ("category", "popularity", "cold", "none")
WEBGL_FROM = 4000  # points; below, SVG is quick enough and prints sharply
PAGE_WIDTH = 980  # pixels of output beside a cell in a notebook on a laptop screen


# -- shared ----------------------------------------------------------------------------------------------------------------
def alt_text(figure: go.Figure) -> str:
    """Return the sentence that says what ``figure`` shows ('' for a figure made elsewhere)."""
    meta = figure.layout.meta
    return str(meta["alt"]) if isinstance(meta, Mapping) and "alt" in meta else ""


def show(figure: go.Figure) -> go.Figure:
    """Return ``figure``: as the last expression of a cell it is displayed, in a script nothing pops up."""
    return figure


def wrapped(text: str, width: int) -> str:
    """Return ``text`` broken with <br> at ``width`` characters."""
    return "<br>".join(textwrap.wrap(text, width)) if text else ""


def number(value: float) -> str:
    """Return a number as a reader wants it: three significant digits, thousands separated."""
    value = float(value)
    if not math.isfinite(value):
        return "n/a"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == int(value):
        return f"{int(value)}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def _pattern(position: int) -> dict[str, Any]:
    """The hatching of bar series number ``position``: a second sign beside its colour."""
    shape = ("", "/", ".", "x", "\\", "-", "|", "+")[position % 8]
    return (
        {"shape": shape, "bgcolor": palette.style(position)[0], "fgcolor": "rgba(255,255,255,0.75)", "solidity": 0.2}
        if shape
        else {}
    )


def _map_axis(method: str, line: str) -> str:
    """The title under a map: the axis, and below it how honest the picture is."""
    return f"{method} 1 (no unit)" + (f'<br><span style="font-size:12.5px">{line}</span>' if line else "")


def page(title: str, drawn: Sequence[go.Figure], text: str) -> str:
    """Return figures and, below them, a plain text as one HTML page that needs nothing else; alternative texts are read out."""
    parts = []
    for number, figure in enumerate(drawn):
        drawing = figure.update_layout(width=PAGE_WIDTH).to_html(full_html=False, include_plotlyjs=number == 0)
        parts.append(f'<figure role="img" aria-label="{html.escape(alt_text(figure))}">{drawing}</figure>')
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<body>{''.join(parts)}<pre>{html.escape(text)}</pre></body></html>\n"
    )


def band(figure: go.Figure, x: np.ndarray, table: np.ndarray, colour: str, **place: Any) -> None:
    """Shade between the lowest and the highest of several seeds, (seeds, len(x)); nothing for one seed."""
    if len(table) < 2:
        return
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([table.min(0), table.max(0)[::-1]]),
        fill="toself",
        fillcolor=colour,
        opacity=0.18,
        mode="none",
        hoverinfo="skip",
        showlegend=False,
        **place,
    )


def _finish(figure: go.Figure, title: str, alt: str, height: int = 420, **layout: Any) -> go.Figure:
    lines = wrapped(title, 90)
    figure.update_layout(
        template=palette.template(),
        # the first line is what plotly places: lift it by the lines that hang below it
        title={"text": lines, "pad": {"b": 14 + 22 * lines.count("<br>")}},
        meta={"alt": alt},
        height=height,
        margin={"l": 64, "r": 24, "t": 54 + 22 * (lines.count("<br>") + 1) - 6, "b": 56},
        **layout,
    )
    return figure


def _get(record: Any, name: str, default: Any = None) -> Any:
    return record.get(name, default) if isinstance(record, Mapping) else getattr(record, name, default)


def _names(n: int, given: Sequence[str] | None, kind: str) -> list[str]:
    if given is None:
        return [f"{kind} {i}" for i in range(n)]
    if len(given) != n:
        raise InputError("wrong number of names", where="hover", found=len(given), expected=str(n))
    return [str(g) for g in given]


# -- training ------------------------------------------------------------------------------------------------------------
def loss_curves(history: Sequence[Any], *, metric: str = "recall@20", title: str | None = None) -> go.Figure:
    """Training in two panels: one line per loss term, and the validation metric beside them.

    Args:
        history: epoch records in order (objects or mappings with ``epoch``, ``losses`` and ``metrics``).
        metric: the validation metric to draw; epochs without it are left out.
        title: the takeaway; by default the best epoch.

    Raises:
        InputError: an empty history.
    """
    if not history:
        raise InputError("no epochs to draw", where="loss_curves", found="an empty history", expected="at least one epoch")
    epochs = [int(_get(r, "epoch")) for r in history]
    terms = list(dict.fromkeys(name for r in history for name in (_get(r, "losses") or {})))
    measured = [(e, (_get(r, "metrics") or {}).get(metric)) for e, r in zip(epochs, history)]
    measured = [(e, float(v)) for e, v in measured if v is not None]
    figure = make_subplots(1, 2 if measured else 1, horizontal_spacing=0.12)
    sizes = []
    for n, term in enumerate(terms):
        y = [(_get(r, "losses") or {}).get(term) for r in history]
        sizes += [v for v in y if v is not None and v > 0]
        colour, symbol = palette.style(n)
        figure.add_scatter(
            x=epochs,
            y=y,
            name=f"loss: {term}",
            mode="lines+markers" if len(epochs) <= 40 else "lines",
            line={"color": colour, "dash": palette.dash(n), "width": 2.5},
            marker={"symbol": symbol, "size": 7},
            row=1,
            col=1,
        )
    far_apart = sizes and max(sizes) / min(sizes) > 50
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(
        title="loss term, unweighted" + (" (log scale)" if far_apart else ""),
        row=1,
        col=1,
        type="log" if far_apart else "linear",
    )
    sentence = ", ".join(f"{t} from {number(a)} to {number(b)}" for t in terms for a, b in [_ends(history, t)])
    takeaway = f"{len(epochs)} epochs of training"
    if measured:
        best_epoch, best = max(measured, key=lambda pair: pair[1])
        takeaway = f"{metric} on validation is best after epoch {best_epoch}: {best:.4f}"
        figure.add_scatter(
            x=[e for e, _ in measured],
            y=[v for _, v in measured],
            name=f"valid: {metric}",
            mode="lines",
            line={"color": palette.INK, "width": 3},
            row=1,
            col=2,
        )
        figure.add_scatter(
            x=[best_epoch],
            y=[best],
            name="best epoch",
            mode="markers",
            row=1,
            col=2,
            marker={"symbol": "star", "size": 14, "color": palette.ORANGE, "line": {"color": palette.INK, "width": 1}},
        )
        figure.update_yaxes(title=f"{metric}, validation", rangemode="tozero", row=1, col=2)
    alt = f"Loss terms over {len(epochs)} epochs: {sentence or 'none'}." + (f" {takeaway}." if measured else "")
    return _finish(figure, title or takeaway, alt, legend={"orientation": "h", "y": -0.22, "x": 0})


def _ends(history: Sequence[Any], term: str) -> tuple[float, float]:
    values = [(_get(r, "losses") or {}).get(term) for r in history]
    values = [v for v in values if v is not None]
    return values[0], values[-1]


# -- comparison ----------------------------------------------------------------------------------------------------------
def metric_bars(
    table: pd.DataFrame, *, title: str | None = None, x_title: str = "metric", y_title: str = "mean over users"
) -> go.Figure:
    """Bars with intervals: one group per metric, one bar per model.

    Args:
        table: columns ``model``, ``metric``, ``mean`` and, where known, ``low`` and ``high`` (the interval's ends).
        title: the takeaway; by default who leads on the first metric and whether the intervals of the first two overlap.
        x_title: what the groups are, where they are no metrics (column ``metric`` holds models or splits, say).
        y_title: what the height is.

    Raises:
        InputError: a column is missing or the table is empty.
    """
    missing = {"model", "metric", "mean"} - set(table.columns)
    if missing or len(table) == 0:
        raise InputError(
            "not a table of results",
            where="metric_bars",
            found=f"columns {', '.join(map(str, table.columns))}; {len(table)} rows",
            expected="model, metric, mean, low, high",
        )
    has_interval = {"low", "high"} <= set(table.columns)
    models, metrics = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["metric"]))
    figure = go.Figure()
    for n, model in enumerate(models):
        rows = table[table["model"] == model].set_index("metric").reindex(metrics)
        error = None
        if has_interval:
            error = {
                "type": "data",
                "array": (rows["high"] - rows["mean"]).tolist(),
                "color": palette.INK,
                "thickness": 1.5,
                "arrayminus": (rows["mean"] - rows["low"]).tolist(),
                "width": 5,
            }
        figure.add_bar(
            x=[str(m) for m in metrics],
            y=rows["mean"].tolist(),
            name=str(model),
            error_y=error,
            offsetgroup=str(n),
            marker={"color": palette.style(n)[0], "pattern": _pattern(n)},
        )
        # the numbers stand above the intervals: a bar of no height that begins where the interval ends
        figure.add_bar(
            x=[str(m) for m in metrics],
            y=[0.0] * len(metrics),
            base=rows["high" if has_interval else "mean"].fillna(rows["mean"]).tolist(),
            offsetgroup=str(n),
            text=[f"{v:.3f}" if pd.notna(v) else "" for v in rows["mean"]],
            textposition="outside",
            cliponaxis=False,
            showlegend=False,
            hoverinfo="skip",
        )
    first = table[table["metric"] == metrics[0]].sort_values("mean", ascending=False, kind="stable")
    lead = first.iloc[0]
    takeaway = f"{lead['model']} has the highest {metrics[0]}: {lead['mean']:.4f}"
    if len(first) > 1:
        second = first.iloc[1]
        if has_interval and pd.notna(lead["low"]) and pd.notna(second["high"]):
            clear = lead["low"] > second["high"]
            takeaway += f"; the interval is {'clear of' if clear else 'not clear of'} {second['model']}'s"
        else:
            takeaway += f", {second['model']} follows with {second['mean']:.4f}"
    rest = "; ".join(
        f"{m}: "
        + ", ".join(f"{r.model} {r.mean:.4f}" for r in table[table["metric"] == m][["model", "mean"]].itertuples(index=False))
        for m in metrics
    )
    figure.update_xaxes(title=x_title, showgrid=False)
    figure.update_yaxes(title=y_title + (", 95 % interval" if has_interval else ""), rangemode="tozero")
    return _finish(
        figure,
        title or takeaway,
        f"Bars of {len(models)} models. {rest}.",
        barmode="group",
        bargap=0.25,
        legend={"orientation": "h", "y": -0.18, "x": 0},
    )


# -- the embedding space -------------------------------------------------------------------------------------------------
def groups(color_by: Any, kind: str, n: int) -> list[tuple[str, np.ndarray]]:
    """Return (label, rows) of the groups a map draws one by one; rows cover 0..n-1.

    Categories come in alphabetical order ("other" last), so that two maps of the same categories use the same colours.

    Args:
        color_by: (n,) labels for "category", counts for "popularity", booleans for "cold"; None for "none".
        kind: one of ``KINDS``.
        n: points.
    """
    if kind not in KINDS:
        raise OptionError("unknown kind of colouring", where="kind", found=repr(kind), expected=", ".join(KINDS))
    if kind == "none" or color_by is None:
        return [("all", np.arange(n))]
    values = np.asarray(color_by)
    if values.shape != (n,):
        raise InputError("one value per point is needed", where="color_by", found=f"shape {values.shape}", expected=f"({n},)")
    if kind == "popularity":
        return [("all", np.arange(n))]
    if kind == "cold":
        cold = values.astype(bool)
        return [
            (label, rows)
            for label, rows in (
                (f"warm ({(~cold).sum():,})", np.flatnonzero(~cold)),
                (f"cold ({cold.sum():,})", np.flatnonzero(cold)),
            )
            if len(rows)
        ]
    labels = np.array(["(none)" if v is None or v != v else str(v) for v in values.tolist()], dtype=object)
    names = np.unique(labels.astype(str))
    order = sorted(range(len(names)), key=lambda g: (names[g] == "other", names[g]))
    return [(str(names[g]), np.flatnonzero(labels.astype(str) == names[g])) for g in order]


def popularity_classes(counts: np.ndarray) -> np.ndarray:
    """Return log10(1 + count), what the popularity scale colours."""
    return np.log10(1 + np.asarray(counts, dtype=np.float64))


def map_traces(
    xy: np.ndarray, color_by: Any = None, kind: str = "category", hover: Sequence[str] | None = None, size: float | None = None
) -> list[Any]:
    """Return the traces of :func:`embedding_map`, one per group of :func:`groups`, in that order."""
    n = len(xy)
    names = _names(n, hover, "point")
    size = size or float(np.clip(13 - 2.2 * math.log10(max(n, 10)), 4.5, 10))
    trace_type = go.Scattergl if n > WEBGL_FROM else go.Scatter
    traces = []
    for g, (label, rows) in enumerate(groups(color_by, kind, n)):
        colour, symbol = palette.style(g)
        marker: dict[str, Any] = {"size": size, "opacity": 0.85, "line": {"width": 0.5, "color": "rgba(31,41,51,0.45)"}}
        if kind == "popularity" and color_by is not None:
            values = popularity_classes(np.asarray(color_by)[rows])
            top = max(math.ceil(values.max(initial=0)), 1)
            marker |= {
                "color": values,
                "colorscale": [list(s) for s in palette.POPULARITY_SCALE],
                "cmin": 0,
                "cmax": float(max(values.max(initial=0), 0.3)),
                "colorbar": {
                    "title": {"text": "interactions", "side": "right"},
                    "thickness": 14,
                    "tickvals": [math.log10(1 + 10**e) for e in range(top + 1)] + [0.0],
                    "ticktext": [f"{10**e:,}" for e in range(top + 1)] + ["0"],
                },
            }
        elif kind == "cold" and color_by is not None:
            cold = label.startswith("cold")
            marker |= {
                "color": palette.RED if cold else palette.SKY,
                "symbol": "star" if cold else "circle",
                "size": size * (1.5 if cold else 1),
            }
        else:
            marker |= {"color": colour, "symbol": symbol}
        traces.append(
            trace_type(
                x=xy[rows, 0],
                y=xy[rows, 1],
                mode="markers",
                name=wrapped(label, 22),
                marker=marker,
                text=[names[r] for r in rows],
                hovertemplate="%{text}<extra>" + label + "</extra>" if label != "all" else "%{text}<extra></extra>",
                showlegend=label != "all",
            )
        )
    return traces


def honesty(method: str = "", kept: float | None = None, k: int = 10, **measured: float) -> str:
    """Return the line under a map: how it was drawn, how much of the neighbourhoods it kept, full-space figures."""
    parts = [method] if method else []
    if kept is not None:
        parts.append(f"keeps {kept:.0%} of each point's {k} nearest neighbours")
    parts += [f"{name.replace('_', ' ')} {number(value)}" for name, value in measured.items()]
    return " · ".join(parts)


def map_range(xy: np.ndarray, pad: float = 0.06) -> tuple[list[float], list[float]]:
    """Return the x and y range that shows all points with a margin, the same number of units on both axes."""
    if len(xy) == 0:
        return [-1.0, 1.0], [-1.0, 1.0]
    low, high = xy.min(0).astype(float), xy.max(0).astype(float)
    centre, half = (low + high) / 2, max(float((high - low).max()) / 2 * (1 + pad), 0.5)
    return [centre[0] - half, centre[0] + half], [centre[1] - half, centre[1] + half]


def embedding_map(
    xy: Any,
    color_by: Any = None,
    kind: Literal["category", "popularity", "cold", "none"] = "category",
    *,
    hover: Sequence[str] | None = None,
    name: str = "items",
    method: str = "UMAP",
    kept: float | None = None,
    measured: Mapping[str, float] | None = None,
    title: str | None = None,
    height: int = 520,
) -> go.Figure:
    """A table's picture, coloured by what is known of its rows, with the picture's honesty written below it.

    Args:
        xy: (n, 2), from a :class:`~mmrec_teach.views.projection.Projector`.
        color_by: (n,) category labels, interaction counts ("popularity") or booleans ("cold"); None draws all alike.
        kind: how to read ``color_by``.
        hover: (n,) texts shown under the pointer.
        name: what a point is, for title and alt text.
        method: how the picture was drawn ("PCA", "UMAP").
        kept: share of neighbours kept (``kept_neighbours``).
        measured: other figures of the full space, by name ("effective rank": 12.3).
        title: the takeaway; by default what the map shows.
    """
    xy = as_table(xy, "xy")
    if xy.shape[1] != 2:
        raise InputError("a map needs two coordinates", where="xy", found=f"shape {xy.shape}", expected="(n, 2)")
    kind = "none" if color_by is None else kind
    figure = go.Figure(map_traces(xy, color_by, kind, hover))
    line = honesty("", kept, **dict(measured or {}))
    by = {"category": "by category", "popularity": "by popularity", "cold": "cold against warm", "none": ""}[kind]
    takeaway = title or f"{len(xy):,} {name} {by}".strip()
    alt = f"{method} map of {len(xy):,} {name}"
    if kind == "category":
        parts = groups(color_by, kind, len(xy))
        label, rows = max(parts, key=lambda part: len(part[1]), default=("none", []))
        alt += f" in {len(parts)} categories, the largest {label} with {len(rows):,}"
        shares = _neighbour_purity(xy, color_by)
        if shares is not None:
            alt += f"; {shares:.0%} of a point's nearest five share its category"
    elif kind == "popularity" and len(xy):
        counts = np.asarray(color_by)
        alt += f" shaded by popularity, from {counts.min():,} to {counts.max():,} interactions"
    elif kind == "cold":
        alt += f", {int(np.asarray(color_by).astype(bool).sum()):,} of them cold"
    alt += f"; the picture keeps {kept:.0%} of neighbours." if kept is not None else "."
    ranges = map_range(xy)
    figure.update_xaxes(
        title=_map_axis(method, line),
        range=ranges[0],
        showticklabels=False,
        ticks="",
        showgrid=False,
    )
    figure.update_yaxes(
        title=f"{method} 2 (no unit)", range=ranges[1], scaleanchor="x", showticklabels=False, ticks="", showgrid=False
    )
    return _finish(figure, takeaway, alt, height, legend={"title": {"text": ""}})


def _neighbour_purity(xy: np.ndarray, labels: Any, k: int = 5) -> float | None:
    from mmrec_teach.views.projection import nearest

    if len(xy) <= k or len(xy) > 20_000:
        return None
    _, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    return float((codes[nearest(xy, k, "euclidean")[0]] == codes[:, None]).mean())


def id_content_map(
    id_xy: Any,
    content_xy: Any,
    *,
    hover: Sequence[str] | None = None,
    method: str = "UMAP",
    kept: float | None = None,
    lines: int = 400,
    title: str | None = None,
    height: int = 520,
) -> go.Figure:
    """ID and content vector of the same item in one picture, joined by a line: short lines mean that the two agree.

    Args:
        id_xy, content_xy: (n, 2) each; project both tables stacked (2n rows) so that they share one picture.
        hover: (n,) item titles.
        method, kept: how the picture was drawn and what it kept.
        lines: at most so many items are joined, evenly spread over the table.
        title: the takeaway; by default how far apart the two are against the picture's size.
    """
    id_xy, content_xy = as_table(id_xy, "id_xy"), as_table(content_xy, "content_xy")
    if id_xy.shape != content_xy.shape or id_xy.shape[1] != 2:
        raise InputError(
            "ID and content pictures differ",
            where="id_content_map",
            found=f"{id_xy.shape} and {content_xy.shape}",
            expected="(n, 2) each",
        )
    n = len(id_xy)
    names = _names(n, hover, "item")
    chosen = np.unique(np.linspace(0, n - 1, min(n, lines)).round().astype(int)) if n else np.zeros(0, int)
    x, y = (np.stack([id_xy[chosen, a], content_xy[chosen, a], np.full(len(chosen), np.nan)], 1).ravel() for a in (0, 1))
    figure = go.Figure()
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": palette.FAINT, "width": 1}, hoverinfo="skip", name="same item")
    for xy, label, colour, symbol in (
        (id_xy, "ID vector", palette.BLUE, "circle"),
        (content_xy, "content vector", palette.ORANGE, "diamond"),
    ):
        figure.add_scatter(
            x=xy[:, 0],
            y=xy[:, 1],
            mode="markers",
            name=label,
            text=names,
            hovertemplate="%{text}<extra>" + label + "</extra>",
            marker={
                "color": colour,
                "symbol": symbol,
                "size": 7,
                "opacity": 0.85,
                "line": {"width": 0.5, "color": "rgba(31,41,51,0.45)"},
            },
        )
    both = np.concatenate([id_xy, content_xy]) if n else np.zeros((0, 2), np.float32)
    spread = float(np.linalg.norm(both - both.mean(0), axis=1).mean()) if n else 0.0
    gap = float(np.linalg.norm(id_xy - content_xy, axis=1).mean()) if n else 0.0
    ratio = gap / spread if spread > 0 else 0.0
    takeaway = f"An item's ID and content lie {ratio:.2f} of the picture's spread apart"
    line = honesty("", kept)
    ranges = map_range(both)
    figure.update_xaxes(title=_map_axis(method, line), range=ranges[0], showticklabels=False, ticks="", showgrid=False)
    figure.update_yaxes(
        title=f"{method} 2 (no unit)", range=ranges[1], scaleanchor="x", showticklabels=False, ticks="", showgrid=False
    )
    return _finish(figure, title or takeaway, f"{method} map of ID and content vectors of {n:,} items. {takeaway}.", height)


# -- data ------------------------------------------------------------------------------------------------------------------
def long_tail(item_counts: Any, *, head: float = 0.2, title: str | None = None) -> go.Figure:
    """Interactions per item, most popular first: the head and the long tail.

    Args:
        item_counts: (I,) training interactions per item.
        head: the share of items called head.
        title: the takeaway; by default the head's share of all interactions and the number of cold items.
    """
    counts = np.sort(np.asarray(item_counts).astype(np.int64))[::-1]
    if counts.ndim != 1 or len(counts) == 0:
        raise InputError("no items to draw", where="long_tail", found=f"shape {np.shape(item_counts)}", expected="(I,) counts")
    cut = max(1, round(head * len(counts)))
    share = counts[:cut].sum() / max(counts.sum(), 1)
    cold = int((counts == 0).sum())
    rank = np.arange(1, len(counts) + 1)
    figure = go.Figure()
    for rows, label, colour, fill in (
        (slice(0, cut), f"head: top {head:.0%} of items", palette.BLUE, "rgba(0,114,178,0.30)"),
        (slice(max(cut - 1, 0), None), "tail", palette.ORANGE, "rgba(230,159,0,0.30)"),
    ):
        figure.add_scatter(
            x=rank[rows],
            y=counts[rows],
            mode="lines",
            fill="tozeroy",
            name=label,
            fillcolor=fill,
            line={"color": colour, "width": 2.5, "dash": "solid" if colour == palette.BLUE else "dash"},
        )
    takeaway = f"The top {head:.0%} of items take {share:.0%} of all interactions; {cold:,} of {len(counts):,} items have none"
    figure.update_xaxes(title="item, most popular first")
    figure.update_yaxes(title="training interactions", rangemode="tozero")
    return _finish(
        figure,
        title or takeaway,
        f"Falling curve of interactions per item. {takeaway}.",
        legend={"x": 0.98, "xanchor": "right", "y": 0.95},
    )


def frequency_bars(
    table: pd.DataFrame | Mapping[str, pd.DataFrame], *, metric: str = "recall@20", title: str | None = None
) -> go.Figure:
    """A metric by how often the item was seen in training, one bar per model in each group.

    Args:
        table: an evaluation's ``by_frequency`` table, or several by model name.
        metric: the column to draw.
        title: the takeaway; by default who leads on the rarest group.
    """
    tables = dict(table) if isinstance(table, Mapping) else {"": table}
    figure, low = go.Figure(), {}
    labels: list[str] = []
    for n, (model, rows) in enumerate(tables.items()):
        if metric not in rows.columns:
            raise InputError(
                "the table has no such metric",
                where="frequency_bars",
                found=repr(metric),
                expected=", ".join(map(str, rows.columns)),
            )
        label_column = next((c for c in ("bucket", "group") if c in rows.columns), None)
        labels = [str(v) for v in (rows[label_column] if label_column else rows.index)]
        values = rows[metric].to_numpy(dtype=float)
        low[model] = values[0] if len(values) else float("nan")
        figure.add_bar(
            x=labels,
            y=values,
            name=model or metric,
            text=[f"{v:.3f}" if np.isfinite(v) else "" for v in values],
            showlegend=len(tables) > 1,
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": palette.style(n)[0],
                "pattern": _pattern(n),
            },
        )
    if labels:
        best = max(low, key=lambda m: low[m] if np.isfinite(low[m]) else -math.inf)
        who = f" ({best})" if len(tables) > 1 else ""
        takeaway = f"{metric} for items in the rarest group, {labels[0]}: {low[best]:.3f}{who}"
    else:
        takeaway = f"{metric} by item frequency"
    figure.update_xaxes(title="training interactions of the item", type="category", showgrid=False)
    figure.update_yaxes(title=metric, rangemode="tozero")
    detail = "; ".join(
        f"{m or metric}: " + ", ".join(f"{g} {number(v)}" for g, v in zip(labels, t[metric])) for m, t in tables.items()
    )
    return _finish(
        figure,
        title or takeaway,
        f"Bars by item frequency. {detail}.",
        barmode="group",
        legend={"orientation": "h", "y": -0.22, "x": 0},
    )


def oversmoothing(
    depth: Sequence[int],
    effective_rank: Sequence[float],
    *,
    recall: Sequence[float] | None = None,
    mean_cosine: Sequence[float] | None = None,
    metric: str = "recall@20",
    title: str | None = None,
) -> go.Figure:
    """What depth does: effective rank, and beside it recall and mean cosine where given, against the number of layers.

    Args:
        depth: number of layers, in order.
        effective_rank: of the final vectors, one per depth.
        recall: the ranking metric, one per depth.
        mean_cosine: mean pairwise cosine, one per depth (1 means that all vectors point the same way).
        title: the takeaway; by default the change of effective rank and the best depth.
    """
    depth = list(depth)
    series = [("effective rank", effective_rank), (metric, recall), ("mean pairwise cosine", mean_cosine)]
    series = [(label, [float(v) for v in values]) for label, values in series if values is not None]
    if not depth or any(len(v) != len(depth) for _, v in series):
        raise InputError(
            "one number per depth is needed",
            where="oversmoothing",
            found=", ".join(f"{l}: {len(v)}" for l, v in series),
            expected=str(len(depth)),
        )
    figure = make_subplots(1, len(series), horizontal_spacing=0.1)
    for n, (label, values) in enumerate(series):
        colour, symbol = palette.style(n)
        figure.add_scatter(
            x=depth,
            y=values,
            mode="lines+markers",
            name=label,
            showlegend=False,
            row=1,
            col=n + 1,
            line={"color": colour, "width": 3, "dash": palette.dash(n)},
            marker={"symbol": symbol, "size": 11},
        )
        figure.update_yaxes(title=label, rangemode="tozero", row=1, col=n + 1)
    figure.update_xaxes(title="layers", tickvals=depth)
    rank = series[0][1]
    takeaway = f"Effective rank goes from {number(rank[0])} at {depth[0]} layers to {number(rank[-1])} at {depth[-1]}"
    if recall is not None:
        takeaway += f"; {metric} is best at {depth[int(np.argmax(series[1][1]))]}"
    detail = "; ".join(f"{l}: " + ", ".join(f"{d} layers {number(v)}" for d, v in zip(depth, values)) for l, values in series)
    return _finish(figure, title or takeaway, f"Line charts over depth. {detail}.", 360)


# -- pictures --------------------------------------------------------------------------------------------------------------
def contact_sheet(
    images: Any,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 5,
    marks: Sequence[bool] | None = None,
    title: str | None = None,
    cell: int = 150,
) -> go.Figure:
    """Products as pictures in one figure: a shelf, a category, a user's top ten.

    Args:
        images: (n, H, W, 3) uint8; an all-zero picture is a missing one and drawn as an empty frame.
        titles: (n,) captions under the pictures.
        columns: pictures per row.
        marks: (n,) which to frame and tick (hits in a list of recommendations).
        title: the takeaway; by default how many products there are.
        cell: height of a picture in pixels; smaller where a row of such pictures would be wider than a notebook's page.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise InputError(
            "not a stack of pictures",
            where="contact_sheet",
            found=f"shape {images.shape}, dtype {images.dtype}",
            expected="(n, H, W, 3) uint8",
        )
    n = len(images)
    names = ["" for _ in range(n)] if titles is None else _names(n, titles, "item")
    if marks is not None and len(marks) != n:
        raise InputError("one mark per picture is needed", where="contact_sheet", found=len(marks), expected=str(n))
    columns = max(1, min(columns, n or 1))
    rows = max(1, math.ceil(n / columns))
    cell = min(cell, int((PAGE_WIDTH - 40) / (columns * 1.08)))
    letters = max(8, min(20, cell // 6))  # so many fit under a picture
    caption_lines = max((min(3, len(textwrap.wrap("✓ " + name, letters))) for name in names if name), default=0)
    row_height = 1 + max(0.13, 16 / cell) * caption_lines + 0.06
    figure = go.Figure()
    centres_x, centres_y = [], []
    for i in range(n):
        column, row = i % columns, i // columns
        x0, y0 = column * 1.08, -row * row_height
        centres_x.append(x0 + 0.5)
        centres_y.append(y0 - 0.5)
        missing = not images[i].any()
        if not missing:
            figure.add_layout_image(
                source=_png(images[i]), x=x0, y=y0, sizex=1, sizey=1, xref="x", yref="y", sizing="contain", layer="below"
            )
        else:
            figure.add_annotation(
                x=x0 + 0.5, y=y0 - 0.5, text="no picture", showarrow=False, font={"size": 12, "color": "#5b6670"}
            )
        marked = marks is not None and bool(marks[i])
        figure.add_shape(
            type="rect",
            x0=x0,
            x1=x0 + 1,
            y0=y0 - 1,
            y1=y0,
            layer="above",
            line={
                "color": palette.GREEN if marked else "#d5dbe1",
                "width": 4 if marked else 1,
                "dash": "dot" if missing else "solid",
            },
        )
        caption = ("✓ " if marked else "") + names[i]
        if caption:
            short = textwrap.wrap(caption, letters)
            if len(short) > 3:
                short = [*short[:2], textwrap.shorten(" ".join(short[2:]), letters, placeholder="…")]
            figure.add_annotation(
                x=x0 + 0.5, y=y0 - 1.03, text="<br>".join(short), showarrow=False, yanchor="top", font={"size": 11.5}
            )
    figure.add_scatter(
        x=centres_x,
        y=centres_y,
        mode="markers",
        marker={"size": cell * 0.6, "opacity": 0},
        text=[t or f"picture {i}" for i, t in enumerate(names)],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    absent = int(sum(not image.any() for image in images))
    takeaway = f"{n} product{'s' if n != 1 else ''}" + (f", {absent} without a picture" if absent else "")
    if marks is not None:
        takeaway += f", {int(sum(bool(m) for m in marks))} ticked"
    span = max(columns * 1.08, 560 / cell)  # room for the title beside few pictures
    figure.update_xaxes(visible=False, range=[-0.04, span - 0.04])
    figure.update_yaxes(visible=False, range=[-rows * row_height + 0.02, 0.04], scaleanchor="x")
    listed = "; ".join(t for t in names[:12] if t)
    alt = f"Contact sheet of {takeaway}" + (f": {listed}{' …' if n > 12 else ''}." if listed else ".")
    _finish(figure, title or takeaway, alt, int(rows * row_height * cell + 90))
    figure.update_layout(width=int(span * cell + 40), margin={"l": 12, "r": 12, "t": 62, "b": 12}, plot_bgcolor=palette.PAPER)
    return figure


def _png(image: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=False)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# -- any curve -------------------------------------------------------------------------------------------------------------
def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    y_title: str,
    title: str,
    log_x: bool = False,
    markers: bool = False,
) -> go.Figure:
    """One line per name over a common x: a formula's shape, a sweep over a setting.

    Args:
        x: (n,) positions.
        series: name -> (n,) values.
        x_title, y_title: what the axes measure.
        title: the takeaway.
        log_x: draw x on a log scale; all of ``x`` must be positive.
        markers: mark the points (for a sweep of few values).

    Raises:
        InputError: a series of another length than ``x``, or x of 0 or less on a log scale.
    """
    positions = [float(v) for v in x]
    if log_x and any(v <= 0 for v in positions):
        raise InputError("a log scale has no place for it", where="lines x", found=min(positions), expected="positive numbers")
    figure = go.Figure()
    series = {name: [float(v) for v in values] for name, values in series.items()}
    for n, (name, values) in enumerate(series.items()):
        if len(values) != len(positions):
            raise InputError("a line of another length", where=name, found=len(values), expected=str(len(positions)))
        colour, symbol = palette.style(n)
        figure.add_scatter(
            x=positions,
            y=values,
            name=name,
            mode="lines+markers" if markers else "lines",
            line={"color": colour, "width": 3, "dash": palette.dash(n)},
            marker={"symbol": symbol, "size": 10},
        )
    figure.update_xaxes(title=x_title, type="log" if log_x else "linear")
    figure.update_yaxes(title=y_title)
    ends = "; ".join(f"{name} from {number(v[0])} to {number(v[-1])}" for name, v in series.items() if len(v))
    span = f", {x_title} from {number(positions[0])} to {number(positions[-1])}" if positions else ""
    figure.update_layout(showlegend=True)
    return _finish(
        figure, title, f"{title}. Lines of {y_title}{span}: {ends}.", 380, legend={"orientation": "h", "y": -0.24, "x": 0}
    )


# -- collapse ----------------------------------------------------------------------------------------------------------------
def collapse_curves(
    curves: Mapping[str, Mapping[str, Any]],
    *,
    reference: Mapping[str, tuple[str, float]] | None = None,
    title: str | None = None,
) -> go.Figure:
    """Health over training, one panel below the other for each measure: a line per variant, its seeds' spread as a band.

    Epochs stand on a scale of log(1 + epoch), since a collapse happens early. Names stand where the lines end.

    Args:
        curves: variant -> ``"epochs"`` (n,) ascending from 0 on, and measure -> (seeds, n). All have the same measures.
        reference: measure -> name and value of something to compare with, a dotted line.
        title: the takeaway; by default the highest and the lowest end of the first measure.

    Raises:
        InputError: no variant, different measures, or a table that does not fit its epochs.
    """
    names = list(curves)
    measures = [m for m in curves[names[0]] if m != "epochs"] if names else []
    if not measures:
        raise InputError("no curves to draw", where="collapse_curves", found=f"{len(names)} variants without a measure")
    tables: dict[tuple[str, str], np.ndarray] = {}
    for name, given in curves.items():
        epochs = np.asarray(given["epochs"], dtype=float)
        for measure in [*measures, *(m for m in given if m not in measures and m != "epochs")]:
            table = np.asarray(given.get(measure, ()), dtype=float)
            if measure not in measures or table.ndim != 2 or table.shape[1] != len(epochs) or 0 in table.shape:
                raise InputError(
                    "a table that does not fit",
                    where=f"collapse_curves, {name}, {measure}",
                    found=f"shape {table.shape}",
                    expected=f"(seeds, {len(epochs)}), for each of: {', '.join(measures)}",
                )
            tables[name, measure] = table
    row_height, space = 250, 0.07
    figure = make_subplots(len(measures), 1, shared_xaxes=True, vertical_spacing=space)
    last = max(float(given["epochs"][-1]) for given in curves.values())
    edge = math.log1p(last) * 1.05  # where the names begin
    for row, measure in enumerate(measures, start=1):
        other = (reference or {}).get(measure)
        values = np.concatenate([tables[name, measure].ravel() for name in names] + ([[other[1]]] if other else []))
        low, high = min(0.0, float(np.nanmin(values))), float(np.nanmax(values))
        pad = 0.05 * (high - low or 1.0)
        low, high = low - pad, high + pad
        ends = []
        for n, name in enumerate(names):
            (colour, symbol), table = palette.style(n), tables[name, measure]
            x, mean = np.log1p(np.asarray(curves[name]["epochs"], dtype=float)), table.mean(0)
            band(figure, x, table, colour, row=row, col=1)
            figure.add_scatter(
                x=x,
                y=mean,
                name=name,
                mode="lines+markers",
                showlegend=False,
                line={"color": colour, "width": 2.5, "dash": palette.dash(n)},
                marker={"symbol": symbol, "size": 6},
                customdata=curves[name]["epochs"],
                hovertemplate="epoch %{customdata}: %{y:.3g}",
                row=row,
                col=1,
            )
            ends.append((name, float(x[-1]), float(mean[-1]), colour))
        if other:
            figure.add_scatter(
                x=[0, math.log1p(last)],
                y=[other[1]] * 2,
                name=other[0],
                mode="lines",
                showlegend=False,
                line={"color": palette.GREY, "width": 1.5, "dash": "dot"},
                row=row,
                col=1,
            )
            ends.append((other[0], math.log1p(last), other[1], palette.GREY))
        places = _spread([end for _, _, end, _ in ends], 0.08 * (high - low), low, high)
        for (name, x_end, end, colour), place in zip(ends, places, strict=True):
            figure.add_scatter(  # leads from a line's end to its name
                x=[x_end, math.log1p(last) * 1.01, edge],
                y=[end, end, place],
                mode="lines",
                line={"color": colour, "width": 1},
                opacity=0.7,
                hoverinfo="skip",
                showlegend=False,
                cliponaxis=False,
                row=row,
                col=1,
            )
            figure.add_annotation(
                x=edge, y=place, text=name, showarrow=False, xanchor="left", font={"size": 12.5}, row=row, col=1
            )
        figure.update_yaxes(title=measure, range=[low, high], row=row, col=1)
    ticks = [t for t in (0, 1, 3, 10, 30, 90, 240, 700, 2000) if t <= last]
    figure.update_xaxes(tickvals=[math.log1p(t) for t in ticks], ticktext=[str(t) for t in ticks], range=[-0.05, edge])
    seeds = max(len(table) for table in tables.values())
    bands = f"; bands: lowest to highest of {seeds} seeds" if seeds > 1 else ""
    figure.update_xaxes(title=f"epoch (log scale){bands}", row=len(measures), col=1)
    first = {name: float(tables[name, measures[0]][:, -1].mean()) for name in names}
    best, worst = max(first, key=first.__getitem__), min(first, key=first.__getitem__)
    takeaway = f"{measures[0]} ends between {number(first[worst])} ({worst}) and {number(first[best])} ({best})"
    detail = "; ".join(
        f"{m}: "
        + ", ".join(f"{n} from {number(tables[n, m][:, 0].mean())} to {number(tables[n, m][:, -1].mean())}" for n in names)
        for m in measures
    )
    _finish(
        figure,
        title or takeaway,
        f"{title or takeaway}. Means of {seeds} seeds over epochs. {detail}.",
        int(row_height * len(measures) + 110),
    )
    widest = max(len(name) for name in [*names, *(name for name, _ in (reference or {}).values())])
    return figure.update_layout(margin={"r": int(20 + 7 * widest)})


def _spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return ``values`` moved as little as keeps them ``gap`` apart and, where there is room, between ``low`` and ``high``."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    groups: list[tuple[float, int]] = []  # neighbours that touch: mean of their lowest place, how many
    for rank, i in enumerate(order):
        place, count = values[i] - rank * gap, 1
        while groups and groups[-1][0] > place:
            before, n = groups.pop()
            place, count = (before * n + place * count) / (n + count), n + count
        groups.append((place, count))
    ceiling = high - (len(values) - 1) * gap
    places = [max(low, min(place, ceiling)) for place, count in groups for _ in range(count)]
    result = [0.0] * len(values)
    for rank, i in enumerate(order):
        result[i] = places[rank] + rank * gap
    return result
