"""What is left of a panel where nothing is alive: a plain figure for pages, and a small picture for a saved notebook."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.views import figures, palette
from mmrec_teach.views.colourings import colourings, hover_texts
from mmrec_teach.views.studio import Studio
from mmrec_teach.views.updates import side

EARLIER = 4  # earlier runs drawn in grey
DOTS = 700  # of a small picture


def static_figure(studio: Studio) -> go.Figure:
    """Return metric curves of all runs and the maps of the last state as one plain figure."""
    last = studio.last
    pictures = dict(last.pictures) if last is not None else {}
    n = 1 + len(pictures)
    figure = make_subplots(
        1, n, horizontal_spacing=0.08, subplot_titles=["", *(f"{v} ({p.method})" for v, p in pictures.items())]
    )
    for number, run in enumerate([r for r in studio.runs if r.history][-EARLIER - 1 :]):
        current = last is not None and run is last.run
        x, y = run.curve(studio.metric)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=run.label,
            row=1,
            col=1,
            line={
                "color": palette.INK if current else palette.FAINT,
                "width": 3 if current else 2,
                "dash": palette.dash(0 if current else number + 1),
            },
        )
    figure.update_xaxes(title="epoch", row=1, col=1)
    figure.update_yaxes(title=f"{studio.metric}, validation", rangemode="tozero", row=1, col=1)
    for column, (view, picture) in enumerate(pictures.items(), start=2):
        rows = picture.rows
        kind, values = next(iter(colourings(studio.data, side(view)).values()))
        texts = hover_texts(studio.data, side(view)) or [f"{side(view)} {n}" for n in range(int(rows.max(initial=-1)) + 1)]
        for trace in figures.map_traces(
            picture.xy, None if values is None else np.asarray(values)[rows], kind, [texts[r] for r in rows]
        ):
            trace.showlegend = False
            if getattr(trace.marker, "showscale", None) or trace.marker.colorbar.thickness:
                trace.marker.showscale = False
            figure.add_trace(trace, row=1, col=column)
        ranges = figures.map_range(picture.xy)
        hidden = {"showticklabels": False, "ticks": "", "showgrid": False}
        figure.update_xaxes(
            title=figures._map_axis(picture.method, figures.honesty("", picture.kept)),
            range=ranges[0],
            row=1,
            col=column,
            **hidden,
        )
        figure.update_yaxes(title=f"{picture.method} 2 (no unit)", range=ranges[1], row=1, col=column, **hidden)
    label = f"{studio.name} on {studio.data.name}"
    if last is not None and last.value is not None:
        label += f": {studio.metric} {last.value:.3f} after {last.epoch} epochs"
    figures._finish(figure, label, studio.sentence(), 460, legend={"orientation": "h", "y": -0.22, "x": 0})
    figure.update_layout(title={"pad": {"b": 40}}, margin={"t": 104})  # above the maps' own titles
    return figure


def still(studio: Studio, setting: str = "") -> str:
    """Return the last state as HTML without scripts: maps and curve as one picture, its sentence, the setting as text.

    It stands below the live panel in a saved notebook; the panel's style hides it as long as the panel is alive.
    """
    last = studio.last
    if last is None or last.run is None:
        return '<div class="mmrec-twin"></div>'
    tiles = [_curve(*last.run.curve(studio.metric), studio.metric)]
    for view, picture in last.pictures.items():
        kind, values = next(iter(colourings(studio.data, side(view)).values()))
        rows = picture.rows
        tiles.append(_dots(picture.xy, None if values is None else np.asarray(values)[rows], kind, f"{view}, {picture.method}"))
    width = 300 * len(tiles)
    inside = "".join(f'<g transform="translate({300 * n} 0)">{tile}</g>' for n, tile in enumerate(tiles))
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 260" width="{width}" height="260" font-family="sans-serif" '
        f'font-size="12" fill="{palette.INK}"><rect width="{width}" height="260" fill="#fff"/>{inside}</svg>'
    )
    address = "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode("ascii")
    sentence = html.escape(studio.sentence())
    made = f"<br><code>{html.escape(setting)}</code>" if setting else ""
    return (
        # JupyterLab says "model not found" in place of the panel: the picture says it better
        "<style>.jp-OutputArea:has(.mmrec-twin) .jupyter-widgets:not(:has(*)) { display: none; }</style>"
        f'<figure class="mmrec-twin"><img src="{address}" alt="{sentence}" width="{width}">'
        f"<figcaption>{sentence} <i>A still picture: run the cell to bring the panel to life.</i>{made}</figcaption></figure>"
    )


def _curve(x: Sequence[float], y: Sequence[float], metric: str) -> str:
    title = f'<text x="150" y="18" text-anchor="middle">{html.escape(metric)}, validation</text>'
    if not y:
        return title
    top, last = max(max(y), 1e-9), max(x[-1], 1)
    points = " ".join(f"{44 + 240 * a / last:.1f},{222 - 186 * b / top:.1f}" for a, b in zip(x, y))
    return (
        f'{title}<path d="M44 32V222H288" fill="none" stroke="#8a949e"/><polyline points="{points}" fill="none" '
        f'stroke="{palette.INK}" stroke-width="2.5"/><text x="40" y="40" text-anchor="end">{figures.number(top)}</text>'
        f'<text x="40" y="226" text-anchor="end">0</text><text x="284" y="240" text-anchor="end">epoch {x[-1]}</text>'
    )


def _dots(xy: np.ndarray, values: object, kind: str, title: str) -> str:
    (left, right), (bottom, top) = figures.map_range(xy)
    keep = np.linspace(0, len(xy) - 1, min(DOTS, len(xy))).astype(int) if len(xy) else np.zeros(0, int)
    colour = np.full(len(xy), palette.BLUE, dtype=object)
    if kind == "category" and values is not None:
        for n, (_, rows) in enumerate(figures.groups(values, kind, len(xy))):
            colour[rows] = palette.style(n)[0]
    marks = "".join(
        f'<circle cx="{30 + 240 * (xy[n, 0] - left) / (right - left):.0f}" cy="{250 - 220 * (xy[n, 1] - bottom) / (top - bottom):.0f}" '
        f'r="2.6" fill="{colour[n]}"/>'
        for n in keep
    )
    return f'<text x="150" y="18" text-anchor="middle">{html.escape(title)}</text><g fill-opacity=".8">{marks}</g>'


__all__ = ["static_figure", "still"]
