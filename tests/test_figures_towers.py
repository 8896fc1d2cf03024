"""Pictures of two towers: every number drawn is one of the table, titles are computed, bad tables are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.views.figures import alt_text
from mmrec_teach.views.figures_towers import cluster_curve, gate_by_popularity, gate_table

COUNTS = np.array([0, 0, 1, 2, 3, 4, 10, 20, 30, 40])
GATE = np.array([0.9, 0.8, 0.7, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_a_gate_by_buckets_against_counting():
    table = gate_table(GATE, COUNTS, edges=(1, 5, 25))
    assert table["bucket"].tolist() == ["cold", "1 to 4", "10 to 20", "30 to 40"]
    assert table["items"].tolist() == [2, 4, 2, 2]
    for row, inside in zip(table.itertuples(), (GATE[:2], GATE[2:6], GATE[6:8], GATE[8:]), strict=True):
        assert row.mean == pytest.approx(inside.mean())
        assert (row.low, row.median, row.high) == pytest.approx(tuple(np.percentile(inside, [25, 50, 75])))


def test_buckets_by_default_are_quantiles_and_equal_ones_merge():
    assert gate_table(GATE, COUNTS, buckets=4)["items"].sum() == 10
    assert gate_table(GATE, COUNTS, buckets=4)["items"].tolist()[0] == 2
    same = gate_table(GATE, np.full(10, 7))
    assert same["bucket"].tolist() == ["7"]
    nothing = gate_table(GATE, np.zeros(10), zero="not yet")
    assert nothing["bucket"].tolist() == ["not yet"]


def test_a_gate_by_popularity_and_age():
    figure = gate_by_popularity({"sum": GATE, "concat": 1 - GATE}, COUNTS, age=COUNTS * 2.0)
    assert len(figure.data) == 4
    table = gate_table(GATE, COUNTS)
    np.testing.assert_allclose(figure.data[0].y, table["median"])
    np.testing.assert_allclose(figure.data[0].y + figure.data[0].error_y.array, table["high"])
    np.testing.assert_allclose(figure.data[0].y - figure.data[0].error_y.arrayminus, table["low"])
    assert list(figure.layout.xaxis.ticktext) == table["bucket"].tolist()
    assert [t.name for t in figure.data if t.showlegend] == ["sum", "concat"]
    assert figure.data[0].line.dash != figure.data[1].line.dash
    assert "0.85 of cold items" in figure.layout.title.text
    assert "cold 0.85" in alt_text(figure)
    assert figure.layout.xaxis2.title.text.startswith("days")
    warm = gate_by_popularity({"sum": GATE[2:]}, COUNTS[2:], title="My own")
    assert warm.layout.title.text == "My own"
    assert "the rarest" in gate_by_popularity({"sum": GATE[2:]}, COUNTS[2:]).layout.title.text


def test_what_is_no_gate_is_refused():
    with pytest.raises(InputError, match="no gate"):
        gate_by_popularity({}, COUNTS)
    with pytest.raises(InputError, match=r"\(10,\) and \(9,\)"):
        gate_table(GATE, COUNTS[:9])
    with pytest.raises(InputError, match="one value"):
        gate_table(GATE, -COUNTS)
    with pytest.raises(OptionError, match="ascending"):
        gate_table(GATE, COUNTS, edges=(5, 1))


def curve() -> pd.DataFrame:
    return pd.DataFrame(
        {"clusters": [4, 4, 64, 64], "loss": [5.0, 5.2, 3.9, 4.1], "recall": [0.1, 0.2, 0.3, 0.4], "seed": [0, 1, 0, 1]}
    )


def test_the_curve_is_the_mean_of_the_seeds():
    given = curve()
    references = {"behaviour tower": {"loss": 3.1, "recall": 0.5}, "content tower": {"loss": 4.0, "recall": 0.2}}
    figure = cluster_curve(given, references)
    pd.testing.assert_frame_equal(given, curve())
    loss = figure.data[0]
    assert list(loss.x) == [4, 64]
    np.testing.assert_allclose(loss.y, [5.1, 4.0])
    np.testing.assert_allclose(np.array(loss.y) + loss.error_y.array, [5.2, 4.1])
    np.testing.assert_allclose(np.array(loss.y) - loss.error_y.arrayminus, [5.0, 3.9])
    lines = {(t.name, t.yaxis): list(t.y) for t in figure.data if len(set(t.y)) == 1}
    assert lines["behaviour tower", "y"] == [3.1, 3.1]
    assert lines["content tower", "y2"] == [0.2, 0.2]
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.title.text == "With 64 clusters 55% of the way to the behaviour tower is gone: training loss"
    assert "4: 5.1, 64: 4" in alt_text(figure)
    assert "behaviour tower 0.5" in alt_text(figure)


def test_without_references_the_title_says_both_ends():
    assert cluster_curve(curve(), {}).layout.title.text == "training loss: 5.1 with 4 clusters, 4 with 64"
    only = cluster_curve(curve(), {}, measures={"recall": "recall"}, title="My own")
    assert only.layout.title.text == "My own"
    assert len(only.data) == 1


def test_what_is_no_curve_is_refused():
    with pytest.raises(InputError, match="clusters, loss, recall"):
        cluster_curve(curve().drop(columns="loss"), {})
    with pytest.raises(InputError, match="0 rows"):
        cluster_curve(curve().iloc[:0], {})
    with pytest.raises(InputError, match="no recall"):
        cluster_curve(curve(), {"behaviour tower": {"loss": 1.0}})
