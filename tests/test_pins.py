"""Pinned runs compared, and the gauges' numbers against the diagnostics they abbreviate."""

from __future__ import annotations

import numpy as np
import pytest

from mmrec_teach.errors import OptionError
from mmrec_teach.evaluation import diagnostics
from mmrec_teach.models import create
from mmrec_teach.views.gauges import GAUGES, measure, paired_views
from mmrec_teach.views.panel_gauges import like
from mmrec_teach.views.pins import Pin, aligned, difference, pin_table
from mmrec_teach.views.setting import Setting
from mmrec_teach.views.toplists import Reference, ranking, top_list
from mmrec_teach.views.updates import versus


def pin(number: int, table: np.ndarray, xy: np.ndarray, rows: np.ndarray | None = None, **values) -> Pin:
    rows = np.arange(len(table)) if rows is None else rows
    settings = {"metrics": {}, "gauges": {}, "best_epoch": None, "losses": {}, "curves": {}} | values
    return Pin(
        number, f"run {number}", Setting("bpr"), 3, 30, "recall@20", tables={"item/final": table}, pictures={"item/final": xy},
        rows={"item/final": rows}, **settings,
    )  # fmt: skip


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 6)).astype(np.float32), rng.normal(size=(30, 2)).astype(np.float32)


# -- comparing -----------------------------------------------------------------------------------------------------------------
def test_pictures_are_turned_on_the_first(points):
    table, xy = points
    turned = xy @ np.array([[0, -1], [1, 0]], np.float32) * [1, -1] + 7  # turned, mirrored, shifted
    first, second, third = aligned([pin(1, table, xy), pin(2, table, turned), pin(3, table, 2 * xy)], "item/final")
    np.testing.assert_array_equal(first, xy)
    np.testing.assert_allclose(second, xy, atol=1e-4)
    np.testing.assert_allclose(third - third.mean(0), 2 * (xy - xy.mean(0)), atol=1e-4)  # shapes stay
    assert aligned([], "item/final") == []


def test_differences_are_found_row_by_row(points):
    table, xy = points
    same = difference(pin(1, table, xy), pin(2, 3 * table, -xy), "item/final")
    assert (same.changed == 0).all()
    np.testing.assert_allclose(same.moved, 0, atol=1e-5)
    changed, moved = table.copy(), xy.copy()
    changed[4] = -changed[4]
    moved[4] += 50.0
    found = difference(pin(1, table, xy), pin(2, changed, moved), "item/final", k=5)
    assert found.changed.argmax() == found.moved.argmax() == 4
    assert found.changed[4] == 1.0
    near = [np.argsort(-(t / np.linalg.norm(t, axis=1)[:, None]) @ t[0])[1:6] for t in (table, changed)]
    assert found.changed[0] == pytest.approx(1 - len(set(near[0]) & set(near[1])) / 5)


def test_rows_without_a_direction_are_not_judged(points):
    table, xy = points
    table = table.copy()
    table[2] = 0
    found = difference(pin(1, table, xy), pin(2, table, xy), "item/final")
    assert np.isnan(found.changed[2])
    assert np.isnan(found.changed).sum() == 1


def test_tables_of_other_widths_compare_and_other_rows_do_not(points):
    table, xy = points
    assert difference(pin(1, table, xy), pin(2, table[:, :3], xy), "item/final").changed.max() > 0
    with pytest.raises(OptionError, match="other points"):
        aligned([pin(1, table, xy), pin(2, table, xy, rows=np.arange(30) + 1)], "item/final")
    with pytest.raises(OptionError, match="not drawn so"):
        aligned([pin(1, table, xy)], "user/final")
    with pytest.raises(OptionError, match="neighbours"):
        difference(pin(1, table, xy), pin(2, table, xy), "item/final", k=0)
    one = difference(pin(1, table[:1], xy[:1]), pin(2, table[:1], xy[:1]), "item/final")
    assert np.isnan(one.changed).all()
    assert one.k == 0


def test_the_table_of_pins_has_the_same_columns_in_every_row(points):
    a = pin(
        1, *points, metrics={"recall@20": 0.3}, best_epoch=2, gauges={"CKA": 0.5}, curves={"recall@20": ((1, 2), (0.1, 0.3))}
    )
    b = pin(2, *points, gauges={"uniformity": -2.0})
    rows = pin_table([a, b])
    assert [list(row) for row in rows] == [list(rows[0])] * 2
    assert (rows[0]["recall@20"], rows[1]["recall@20"], rows[0]["CKA"], rows[1]["uniformity"]) == (0.3, None, 0.5, -2.0)
    assert rows[0]["setting"] == "bpr"
    assert a.curve("recall@20") == ([1, 2], [0.1, 0.3])
    assert b.curve("recall@20") == ([], [])


def test_runs_are_compared_like_with_like(points):
    long, short = ([1, 2, 3], [0.1, 0.4, 0.3]), ([1, 2], [0.1, 0.2])
    assert versus(short, long, done=False) == (pytest.approx(-0.2), "at the same epoch")
    assert versus(short, long, done=True) == (
        pytest.approx(-0.2),
        "at the same epoch",
    )  # and not with a best it had no time for
    assert versus(long, short, done=True) == (pytest.approx(0.2), "at epoch 2")
    assert versus(long, ([1, 3], [0.2, 0.3]), done=False) == (0.0, "at the same epoch")
    assert versus(long, ([1, 3], [0.2, 0.3]), done=True) == (pytest.approx(0.1), "both at their best")
    assert versus(long, ([], []), done=True) is None
    one = pin(1, *points, metrics={"recall@20": 0.4}, gauges={"CKA": 0.5}, curves={"recall@20": ((1, 2, 3), (0.1, 0.4, 0.3))})
    assert like(one, 1) == {"recall@20": 0.1}
    assert like(one, 3) == {"recall@20": 0.3, "CKA": 0.5}  # the pin's own epoch, not its best
    assert like(one, 4) == {}


# -- lists -----------------------------------------------------------------------------------------------------------------------
def test_a_list_leaves_training_items_out_and_breaks_ties_by_index(tiny):
    scores = np.zeros(tiny.n_items, np.float32)
    taken = tiny.train.items[tiny.train.users == 0]
    scores[taken] = 9
    free = np.setdiff1d(np.arange(tiny.n_items), taken)
    np.testing.assert_array_equal(ranking(tiny, 0, scores), free)
    former = Reference(0, free[::-1].copy(), "before")
    top = top_list(tiny, 0, scores, 3, former)
    assert [i.item for i in top] == free[:3].tolist()
    assert [i.item for i in top.left] == free[::-1][:3].tolist()
    assert [i.rank_before for i in top] == [len(free), len(free) - 1, len(free) - 2]
    assert [i.rank for i in top.left] == [len(free), len(free) - 1, len(free) - 2]
    assert top.entered == tuple(top)
    assert top.since == "before"


# -- gauges ----------------------------------------------------------------------------------------------------------------------
def test_gauges_are_the_diagnostics(tiny):
    model = create("bm3", tiny, seed=2)
    with model.evaluating():
        tables = {name: view.numpy() for name, view in model.views().items()}
    found = measure(tables, tiny, np.arange(tiny.n_items))
    a, b, final = tables["item/id"], tables["item/content"], tables["item/final"]
    users = tables["user/final"][tiny.train.users]
    expected = {
        "effective rank": diagnostics.effective_rank(final),
        "alignment": diagnostics.alignment(users, final[tiny.train.items]),
        "uniformity": diagnostics.uniformity(final),
        "ID-content distance": diagnostics.alignment(a, b),
        "modality gap": diagnostics.modality_gap(a, b),
        "CKA": diagnostics.linear_cka(a, b),
        "neighbour overlap": diagnostics.knn_overlap(a, b, 10),
    }
    assert found == pytest.approx(expected, rel=1e-4)
    assert list(found) == [name for name in GAUGES if name in found]
    assert all(gauge.help.endswith(".") for gauge in GAUGES.values())
    quick = measure(tables, tiny, np.arange(tiny.n_items), quick={"CKA": 0.25, "neighbour overlap": 0.5})
    assert (quick["CKA"], quick["neighbour overlap"]) == (0.25, 0.5)
    assert quick["modality gap"] == found["modality gap"]


def test_gauges_leave_out_what_is_not_there(tiny):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(tiny.n_items, 4)).astype(np.float32)
    wide = rng.normal(size=(tiny.n_items, 6)).astype(np.float32)
    missing = wide.copy()
    missing[:5] = 0
    everything = np.arange(tiny.n_items)
    assert measure({"item/id": table}, tiny, everything) == {}
    unequal = measure({"item/id": table, "item/content": wide}, tiny, everything)
    assert set(unequal) == {"CKA", "neighbour overlap"}
    there = measure({"item/id": table[5:], "item/content": wide[5:]}, tiny, everything[:-5])
    assert measure({"item/id": table, "item/content": missing}, tiny, everything) == pytest.approx(there)
    few = measure({"item/id": wide, "item/content": wide}, tiny, everything, most=12)
    assert few["neighbour overlap"] == few["CKA"] == pytest.approx(1.0)
    assert np.isnan(measure({"item/final": 0 * wide}, tiny, everything)["uniformity"])


def test_id_and_content_are_a_pair_where_their_distance_means_something():
    shapes = {"item/id": (9, 4), "item/content": (9, 4), "user/id": (5, 4)}
    assert paired_views(shapes) == ("item/id", "item/content")
    assert paired_views(shapes, same_space=False) is None
    assert paired_views(shapes | {"item/content": (9, 5)}) is None
    assert paired_views({"item/id": (9, 4), "item/image": (9, 4)}) is None
