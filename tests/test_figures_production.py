"""Figures of a recommender in production: bars and lines stand where the numbers say, titles and alt texts tell them."""

from __future__ import annotations

import numpy as np
import pytest

from mmrec_teach.errors import InputError
from mmrec_teach.views.figures import alt_text
from mmrec_teach.views.figures_production import reach_bars, streaming_curves

CURVES = {
    "IDs": {"passes": [0.5, 1, 4], "values": [[0.2, 0.4, 1.0], [0.4, 0.6, 1.0]]},
    "content": {"passes": [0.25, 1, 16], "values": [[0.5, 0.9, 1.0]]},
}
REACH = {
    "LightGCN": {"new items": [0.0, 0.0], "tail": [0.5, 0.7]},
    "BM3": {"new items": [0.2, 0.4], "tail": [0.6, 0.6]},
}


def test_a_line_for_each_part_and_a_rule_at_one_pass():
    figure = streaming_curves(CURVES)
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert list(lines["IDs"].x) == [0.5, 1, 4]
    assert list(lines["IDs"].y) == pytest.approx([0.3, 0.5, 1.0])
    assert lines["IDs"].line.dash != lines["content"].line.dash
    assert lines["IDs"].marker.symbol != lines["content"].marker.symbol
    bands = [trace for trace in figure.data if trace.fill]
    assert [list(b.y) for b in bands] == [[0.2, 0.4, 1.0, 1.0, 0.6, 0.4]], "one seed has no spread"
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 1
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.title.text == "After one pass: 0.9 (content), 0.5 (IDs)"
    assert "IDs from 0.3 after 0.5 passes to 1 after 4" in alt_text(figure)
    assert "means of 2 seeds" in alt_text(figure)
    assert streaming_curves(CURVES, title="Content is quick").layout.title.text == "Content is quick"


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {"a": {"passes": [1, 2], "values": [[1.0]]}},
        {"a": {"passes": [0, 2], "values": [[1.0, 2.0]]}},
        {"a": {"passes": [2, 1], "values": [[1.0, 2.0]]}},
        {"a": {"passes": [], "values": [[]]}},
    ],
)
def test_curves_that_do_not_fit_are_refused(curves):
    with pytest.raises(InputError):
        streaming_curves(curves)


def test_bars_are_means_and_every_seed_is_a_dot():
    figure = reach_bars(REACH, groups={"LightGCN": "clicks alone", "BM3": "content"})
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [(b.name, list(b.y), list(b.x)) for b in bars] == [
        ("clicks alone", ["LightGCN"], [0.0]),
        ("content", ["BM3"], [pytest.approx(0.3)]),
        ("clicks alone", ["LightGCN"], [pytest.approx(0.6)]),
        ("content", ["BM3"], [pytest.approx(0.6)]),
    ]
    assert bars[0].marker.pattern.shape != bars[1].marker.pattern.shape
    dots = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "markers"]
    assert [sorted(d.x) for d in dots] == [[0.0, 0.0, 0.2, 0.4], [0.5, 0.6, 0.6, 0.7]]
    labels = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "text"]
    assert [(list(t.x), [text.strip() for text in t.text]) for t in labels] == [
        ([0.0, 0.4], ["0%", "30%"]),
        ([0.7, 0.6], ["60%", "60%"]),
    ], "the mean stands behind the farthest seed"
    assert [a.text for a in figure.layout.annotations] == ["new items", "tail"]
    assert figure.layout.title.text == "new items: 30% with BM3, 0% with LightGCN"
    assert "BM3: new items 30.0%, tail 60.0%" in alt_text(figure)
    assert list(figure.layout.yaxis.categoryarray) == ["BM3", "LightGCN"], "the first model stands at the top"
    assert reach_bars(REACH, title="Reach").layout.title.text == "Reach"


@pytest.mark.parametrize(
    "reach",
    [
        {},
        {"a": {}},
        {"a": {"x": [0.1]}, "b": {"y": [0.1]}},
        {"a": {"x": []}},
        {"a": {"x": [1.1]}},
        {"a": {"x": [-0.1]}},
    ],
)
def test_what_is_no_share_is_refused(reach):
    with pytest.raises(InputError):
        reach_bars(reach)


def test_figures_leave_their_arguments_alone():
    values = np.array([[0.2, 0.4]])
    streaming_curves({"a": {"passes": [1, 2], "values": values}})
    assert values.tolist() == [[0.2, 0.4]]
