"""Colours and marker shapes that stay apart for colour-blind readers, and the one plotly template of the course.

The eight colours are those of Okabe and Ito (2008). No figure relies on colour alone: every category has a marker shape as
well, and past eight categories the shapes move on while the colours repeat, so that 64 categories stay distinct.
"""

from __future__ import annotations

import plotly.graph_objects as go

from mmrec_teach.errors import OptionError

#: Okabe-Ito, in an order that keeps neighbours apart; black is left to text and axes, grey stands in for it.
COLORS: tuple[str, ...] = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#666666")
SYMBOLS: tuple[str, ...] = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "x")
DASHES: tuple[str, ...] = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "5px,2px,1px,2px", "1px,4px")

BLUE, ORANGE, GREEN, PINK, RED, SKY, YELLOW, GREY = COLORS
INK = "#1f2933"
FAINT = "#aeb8c2"  # previous runs, grid lines that must stay behind
PAPER = "#ffffff"

#: Few to many: lightness falls all the way, so it also reads in greyscale (cividis, dark end first in print).
POPULARITY_SCALE: tuple[tuple[float, str], ...] = (
    (0.0, "#fee838"),
    (0.25, "#bcae6c"),
    (0.5, "#7c7b78"),
    (0.75, "#414d6b"),
    (1.0, "#00224e"),
)

FONT = "Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def style(position: int) -> tuple[str, str]:
    """Return (colour, marker symbol) of category number ``position``.

    The first eight differ in both. From there on colours repeat and the symbols are shifted by one each round, so the pair is
    unique for 64 categories; later ones repeat.
    """
    if position < 0:
        raise OptionError("a category number is negative", where="palette.style", found=position, expected="0 or more")
    n = len(COLORS)
    return COLORS[position % n], SYMBOLS[(position + position // n) % n]


def dash(position: int) -> str:
    """Return the line dash of series number ``position`` (colour is never the only difference)."""
    return DASHES[position % len(DASHES)]


def template() -> go.layout.Template:
    """Return the course's plotly template: white paper, ink text, quiet grid, fonts a lecture room can read."""
    axis = {
        "gridcolor": "#e6eaee",
        "linecolor": "#8a949e",
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "tickcolor": "#8a949e",
        "title": {"font": {"size": 14}, "standoff": 8},
        "tickfont": {"size": 12},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 14, "color": INK},
            "title": {
                "font": {"size": 17},
                "x": 0.0,
                "xref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "y": 1.0,
                "yref": "paper",
                "pad": {"b": 14},
            },
            "paper_bgcolor": PAPER,
            "plot_bgcolor": PAPER,
            "colorway": list(COLORS),
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"font": {"size": 12.5}, "itemsizing": "constant", "bgcolor": "rgba(255,255,255,0.85)"},
            "margin": {"l": 64, "r": 24, "t": 64, "b": 56},
            "hoverlabel": {"font": {"size": 13, "family": FONT}, "align": "left"},
            "modebar": {"remove": ["sendChartToCloud"]},  # plotly's "Share chart…" uploads the figure
            "colorscale": {"sequential": [list(stop) for stop in POPULARITY_SCALE]},
        }
    )
