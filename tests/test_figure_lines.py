"""The figure for any curve says what it shows and refuses what does not fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmrec_teach.errors import InputError
from mmrec_teach.views import figures


def test_lines_draws_each_series_and_says_so():
    figure = figures.lines(
        [1, 10, 100],
        {"a": [1.0, 2.0, 3.0], "b": pd.Series([3.0, 2.0, 0.5], index=[1, 10, 100])},
        x_title="λ",
        y_title="recall",
        title="b falls",
        log_x=True,
        markers=True,
    )
    assert [trace.name for trace in figure.data] == ["a", "b"]
    assert list(figure.data[1].y) == [3.0, 2.0, 0.5]
    assert (figure.layout.xaxis.type, figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("log", "λ", "recall")
    assert figure.layout.title.text == "b falls"
    assert figures.alt_text(figure) == "b falls. Lines of recall, λ from 1 to 100: a from 1 to 3; b from 3 to 0.5."


@pytest.mark.parametrize(("x", "series", "log_x"), [([1, 2], {"a": [1.0]}, False), ([0, 1], {"a": [1.0, 2.0]}, True)])
def test_lines_refuses_what_does_not_fit(x, series, log_x):
    with pytest.raises(InputError):
        figures.lines(x, series, x_title="x", y_title="y", title="t", log_x=log_x)


# -- collapse --------------------------------------------------------------------------------------------------------------------
CURVES = {
    "whole": {"epochs": [0, 1, 10], "rank": [[30, 28, 20], [30, 26, 24]], "cosine": [[0, 0.1, 0.1], [0, 0.1, 0.2]]},
    "bare": {"epochs": [0, 1, 10, 100], "rank": [[30, 20, 10, 2]], "cosine": [[0, 0.5, 0.8, 1.0]]},
}


def test_collapse_curves_draws_means_bands_and_names_where_the_lines_end():
    figure = figures.collapse_curves(CURVES, reference={"cosine": ("chance", 0.95)})
    lines = {(t.name, t.yaxis): t for t in figure.data if t.name}
    assert set(lines) == {("whole", "y"), ("bare", "y"), ("whole", "y2"), ("bare", "y2"), ("chance", "y2")}
    assert list(lines["whole", "y"].y) == [30, 27, 22]
    assert list(lines["bare", "y"].x) == pytest.approx(np.log1p([0, 1, 10, 100]))
    assert lines["whole", "y"].line.dash != lines["bare", "y"].line.dash
    assert lines["whole", "y"].marker.symbol != lines["bare", "y"].marker.symbol
    bands = [t for t in figure.data if t.fill]
    assert [list(t.y) for t in bands] == [[30, 26, 20, 24, 28, 30], [0, 0.1, 0.1, 0.2, 0.1, 0]], "one seed has no spread"
    places = {(a.text, a.yref): a.y for a in figure.layout.annotations}
    assert set(places) == set(lines)
    assert places["whole", "y"] == pytest.approx(22)
    assert places["bare", "y2"] - places["chance", "y2"] == pytest.approx(0.08 * 1.1), "names do not overlap"
    assert figure.layout.title.text == "rank ends between 2 (bare) and 22 (whole)"
    assert "Means of 2 seeds" in figures.alt_text(figure)
    assert "bare from 30 to 2" in figures.alt_text(figure)
    assert figures.collapse_curves(CURVES, title="bare falls").layout.title.text == "bare falls"


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {"a": {"epochs": [0, 1]}},
        {"a": {"epochs": [0, 1], "rank": [[1.0]]}},
        {"a": {"epochs": [0, 1], "rank": [1.0, 2.0]}},
        {"a": {"epochs": [0], "rank": [[1.0]]}, "b": {"epochs": [0], "cosine": [[1.0]]}},
        {"a": {"epochs": [0], "rank": [[1.0]]}, "b": {"epochs": [0], "rank": [[1.0]], "cosine": [[1.0]]}},
    ],
)
def test_collapse_curves_refuses_what_does_not_fit(curves):
    with pytest.raises(InputError, match="collapse_curves"):
        figures.collapse_curves(curves)


def test_names_are_moved_as_little_as_needed():
    assert figures._spread([5.0, 1.0], 1, 0, 10) == [5, 1], "room enough"
    assert figures._spread([5.0, 5.0, 5.0], 1, 0, 10) == [4, 5, 6]
    assert figures._spread([10.0, 9.9], 1, 0, 10) == [10, 9]
    assert figures._spread([0.0, 0.0], 1, 0, 10) == [0, 1]
    assert figures._spread([3.0, 2.0, 8.0], 2, 0, 10) == [3.5, 1.5, 8]
