"""The figure for any curve says what it shows and refuses what does not fit."""

from __future__ import annotations

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
