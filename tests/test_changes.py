"""The picture of changes: every number of the table is drawn, and the title is computed from them."""

from __future__ import annotations

import pandas as pd
import pytest

from mmrec_teach.errors import InputError
from mmrec_teach.views.changes import change_dots
from mmrec_teach.views.figures import alt_text


def table() -> pd.DataFrame:
    rows = [
        ("bm3", "zero", "all", 0.0, 0.0, 0.0),
        ("bm3", "random", "all", 0.0, 0.0, 0.0),
        ("vbpr", "zero", "all", -0.2, -0.25, -0.1),
        ("vbpr", "random", "cold", 0.1, -0.1, 0.2),
    ]
    return pd.DataFrame(rows, columns=["model", "change", "panel", "difference", "low", "high"])


def test_every_dot_stands_in_its_model_s_row_with_its_interval():
    given = table()
    figure = change_dots(given)
    pd.testing.assert_frame_equal(given, table())
    dots = [
        (trace.name, trace.customdata[n], round(trace.y[n]), x, x - trace.error_x.arrayminus[n], x + trace.error_x.array[n])
        for trace in figure.data
        for n, x in enumerate(trace.x)
    ]
    assert sorted((model, change, x) for change, model, _, x, _, _ in dots) == sorted(
        zip(given["model"], given["change"], given["difference"], strict=True)
    )
    for _, model, row, *_ in dots:
        assert figure.layout.yaxis.ticktext[row] == model
    low, high = next((low, high) for change, model, _, _, low, high in dots if (change, model) == ("zero", "vbpr"))
    assert (low, high) == pytest.approx((-0.25, -0.1))
    heights = [y for trace in figure.data for model, y in zip(trace.customdata, trace.y, strict=True) if model == "vbpr"]
    assert len(set(heights)) == len(heights) == 2, "none hides another"


def test_panels_share_colours_and_the_legend_stands_once():
    figure = change_dots(table())
    assert [t.name for t in figure.data if t.showlegend] == ["zero", "random"]
    for name in ("zero", "random"):
        assert len({(t.marker.color, t.marker.symbol) for t in figure.data if t.name == name}) == 1


def test_title_and_words():
    figure = change_dots(table())
    assert figure.layout.title.text == "Nothing moves bm3; vbpr loses most: -0.200 (zero, all)"
    assert "vbpr, random, cold: +0.100" in alt_text(figure)
    only = table().drop(columns="panel").iloc[[3]]
    assert change_dots(only).layout.title.text == "No model loses"
    assert change_dots(only, title="My own").layout.title.text == "My own"


def test_what_is_no_table_is_refused():
    with pytest.raises(InputError, match="change_dots"):
        change_dots(table().drop(columns="low"))
    with pytest.raises(InputError, match="0 rows"):
        change_dots(table().iloc[:0])
