"""What changes do to models: differences with their intervals, one line a model."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.errors import InputError
from mmrec_teach.views import palette
from mmrec_teach.views.figures import _finish

_COLUMNS = ("model", "change", "difference", "low", "high")


def change_dots(table: pd.DataFrame, *, title: str | None = None, x_title: str = "difference") -> go.Figure:
    """Dots with intervals around a line at 0: one row a model, one colour and shape a change.

    Args:
        table: one row a dot; columns ``model``, ``change``, ``difference``, ``low``, ``high`` (ends of the interval) and, for
            several pictures side by side, ``panel``. What a model has no dot for is left out.
        title: the takeaway; by default which models no change moves, and which one loses most.
        x_title: what the difference is of.

    Raises:
        InputError: a column is missing or the table is empty.
    """
    if set(_COLUMNS) - set(table.columns) or not len(table):
        raise InputError(
            "not a table of changes",
            where="change_dots",
            found=f"columns {', '.join(map(str, table.columns))}; {len(table)} rows",
            expected=", ".join(_COLUMNS),
        )
    panels = list(dict.fromkeys(table["panel"])) if "panel" in table else [None]
    models, changes = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["change"]))
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=None if panels == [None] else [str(p) for p in panels],
    )
    step = 0.8 / len(changes)
    for column, panel in enumerate(panels, 1):
        part = table if panel is None else table[table["panel"] == panel]
        for n, change in enumerate(changes):
            rows = part[part["change"] == change]
            colour, symbol = palette.style(n)
            figure.add_scatter(
                x=rows["difference"].tolist(),
                y=[models.index(m) + (n - (len(changes) - 1) / 2) * step for m in rows["model"]],
                mode="markers",
                name=str(change),
                legendgroup=str(change),
                showlegend=column == 1,
                marker={"color": colour, "symbol": symbol, "size": 9, "line": {"color": palette.INK, "width": 0.75}},
                error_x={
                    "type": "data",
                    "array": (rows["high"] - rows["difference"]).tolist(),
                    "arrayminus": (rows["difference"] - rows["low"]).tolist(),
                    "color": colour,
                    "thickness": 1.5,
                    "width": 0,
                },
                customdata=[str(m) for m in rows["model"]],
                hovertemplate="%{customdata}, " + str(change) + ": %{x:+.3f}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_vline(x=0, line={"color": palette.INK, "width": 1}, row=1, col=column)
        for edge in range(1, len(models)):
            figure.add_hline(y=edge - 0.5, line={"color": "#e6eaee", "width": 1}, row=1, col=column)
        figure.update_xaxes(title=f"{x_title}, 95 % interval", tickformat="+.2f", row=1, col=column)
        figure.update_yaxes(
            title="model" if column == 1 else None,
            tickvals=list(range(len(models))),
            ticktext=[str(m) for m in models],
            range=[len(models) - 0.5, -0.5],
            showgrid=False,
            ticks="",
            row=1,
            col=column,
        )
    still = [m for m in models if not table.loc[table["model"] == m, ["difference", "low", "high"]].any(axis=None)]
    worst = table.loc[table["difference"].idxmin()]
    parts = [f"Nothing moves {' and '.join(map(str, still))}"] if still else []
    if worst["difference"] < 0:
        of = "" if panels == [None] else f", {worst['panel']}"
        parts.append(f"{worst['model']} loses most: {worst['difference']:+.3f} ({worst['change']}{of})")
    takeaway = "; ".join(parts) or "No model loses"
    told = "; ".join(
        f"{r.model}, {r.change}{'' if panels == [None] else f', {r.panel}'}: {r.difference:+.3f}"
        for r in table.itertuples(index=False)
    )
    figure = _finish(
        figure,
        title or takeaway,
        f"Differences of {len(models)} models under {len(changes)} changes, with intervals. {told}.",
        height=190 + 13 * len(changes) * len(models),
        legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )
    above, below = 0 if panels == [None] else 30, 50  # room for the panels' names, and for the legend
    margin, pad = figure.layout.margin, figure.layout.title.pad.b
    return figure.update_layout(margin={"t": margin.t + above, "b": margin.b + below}, title={"pad": {"b": pad + above}})
