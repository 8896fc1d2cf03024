"""Interests: what is recovered of planted classes, its pictures, its panel, and the study's page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import interests as study
from mmrec_teach.data import load
from mmrec_teach.errors import InputError
from mmrec_teach.evaluation.recovery import recovery, token_table, tokens_of
from mmrec_teach.models import create
from mmrec_teach.ops.clustering import density_peaks, dpc_knn
from mmrec_teach.views.figures import alt_text
from mmrec_teach.views.figures_interests import LIT, decision_graph, density_map, interest_map
from mmrec_teach.views.interests import GRID, whatif_interests


# -- what is recovered ---------------------------------------------------------------------------------------------------------
def test_recovery_counts_pairs():
    planted = np.array([0, 0, 0, 1, 1, 2])
    found = np.array([5, 5, 7, 7, 7, 9])
    told = recovery(torch.from_numpy(found), planted)
    couples = [(a, b) for a in range(6) for b in range(a)]
    together = [(a, b) for a, b in couples if found[a] == found[b]]
    assert told["pairs"] == pytest.approx(np.mean([planted[a] == planted[b] for a, b in together]))
    assert told["chance"] == pytest.approx(np.mean([planted[a] == planted[b] for a, b in couples]))
    assert recovery(planted, planted)["ari"] == 1
    assert recovery(planted, planted)["nmi"] == pytest.approx(1)
    assert np.isnan(recovery(np.arange(6), planted)["pairs"])
    with pytest.raises(InputError, match="one cluster and one class"):
        recovery(found[:4], planted)


def test_tokens_are_the_rows_there_are(bazaar):
    tokens = tokens_of(bazaar)
    assert tokens.names == ("image", "text")
    assert len(tokens) == sum(int((~bazaar.missing[m]).sum()) for m in tokens.names)
    assert (np.diff(2 * tokens.items + tokens.modality) > 0).all(), "by item, then modality"
    for row in (0, 700, len(tokens) - 1):
        name = tokens.names[tokens.modality[row]]
        np.testing.assert_array_equal(tokens.x[row], bazaar.features[name][tokens.items[row]])
    assert tokens_of(bazaar, "image", "unit").x.norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    wider = bazaar.with_features(wide=np.ones((bazaar.n_items, 3), np.float32))
    with pytest.raises(InputError, match="different width"):
        tokens_of(wider)


def test_a_models_tokens_are_those_it_clusters(bazaar):
    model = create("missrec", bazaar, dim=16, seed=0, ids=False)
    tokens = token_table(model)
    found = dpc_knn(tokens.x, len(model.interest), 5)
    assert torch.equal(found.assignment, model.interest_of[model.has])
    assert np.array_equal(tokens.items, tokens_of(bazaar).items)


# -- pictures ------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def plane() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.cat([torch.randn(40, 2, generator=generator), 5 + torch.randn(20, 2, generator=generator)])


def test_the_decision_graph_has_its_centres_on_or_above_the_line(plane):
    peaks = density_peaks(plane, 5)
    centres = dpc_knn(plane, 4, peaks=peaks).centres
    figure = decision_graph(peaks.density, peaks.delta, centres)
    others, chosen, line = figure.data
    assert len(others.x) == 56
    np.testing.assert_allclose(chosen.x, peaks.density[centres])
    weakest = float((peaks.density * peaks.delta)[centres].min())
    np.testing.assert_allclose(np.array(line.x) * np.array(line.y), weakest)
    assert (np.array(chosen.x) * np.array(chosen.y) >= weakest - 1e-9).all()
    assert (np.array(others.x) * np.array(others.y) <= weakest + 1e-9).all()
    assert chosen.marker.symbol != others.marker.symbol
    assert "4 centres" in figure.layout.title.text
    assert "60 points" in alt_text(figure)
    assert len(decision_graph(torch.zeros(3), torch.zeros(3), [1]).data) == 2, "no line where all products are 0"
    with pytest.raises(InputError, match="row numbers"):
        decision_graph(peaks.density, peaks.delta, [60])
    with pytest.raises(InputError, match="one density"):
        decision_graph(peaks.density[:5], peaks.delta, [0])


def test_the_density_map_joins_points_to_their_parents(plane):
    peaks = density_peaks(plane, 5)
    figure = density_map(plane, peaks.density, parent=peaks.parent, centres=[3, 1])
    lines, points, framed = figure.data
    assert len(lines.x) == 3 * 59, "the densest has no line"
    child = int((peaks.parent >= 0).nonzero()[0, 0])
    assert (lines.x[0], lines.x[1]) == (plane[child, 0], plane[peaks.parent[child], 0])
    np.testing.assert_allclose(points.marker.color, peaks.density)
    assert list(framed.x) == [float(plane[3, 0]), float(plane[1, 0])]
    assert [note.text for note in figure.layout.annotations] == ["<b>1</b>", "<b>2</b>"]
    assert "2 centres framed" in alt_text(figure)
    assert len(density_map(plane, peaks.density).data) == 1
    with pytest.raises(InputError, match="one density"):
        density_map(plane, peaks.density[:3])
    with pytest.raises(InputError, match="two coordinates"):
        density_map(torch.zeros(3, 3), torch.zeros(3))


def test_the_interest_map_lights_up_what_was_taken(plane):
    interest, taken = np.arange(60) % 3, np.zeros(60, dtype=bool)
    taken[[0, 3, 4]] = True  # twice interest 0, once interest 1
    figure = interest_map(plane, interest, taken, names={0: "boots"})
    bright = [trace for trace in figure.data if trace.marker.size == LIT]
    assert [trace.name for trace in bright] == ["boots (2)", "interest 1 (1)"]
    assert len({(trace.marker.color, trace.marker.symbol) for trace in bright}) == 2
    assert len(figure.data[0].x) == 20, "the third interest stays grey"
    assert sum(len(trace.x) for trace in figure.data) == 60
    assert "3 tokens of the history fall into 2 interests of 3" in alt_text(figure)
    assert "0 interests" in alt_text(interest_map(plane, interest, np.zeros(60, dtype=bool)))
    with pytest.raises(InputError, match="different length"):
        interest_map(plane, interest[:5], taken)


# -- the panel -----------------------------------------------------------------------------------------------------------------
def test_the_panel_shows_what_dpc_knn_finds(bazaar):
    panel = whatif_interests(bazaar)
    tokens = tokens_of(bazaar, "image", "unit")
    kind = bazaar.truth.item_interest[tokens.items]

    def shown():
        return list(panel.figure.data[3].y), panel.figure.layout.title.text

    curve, title = shown()
    np.testing.assert_allclose(curve, [recovery(dpc_knn(tokens.x, n).assignment, kind)["ari"] for n in GRID], atol=1e-6)
    assert "K = 12, k = 5" in title
    assert len(panel.figure.data[1].x) == 12
    seen = [shown()]
    for name, value in (
        ("neighbours", 10),
        ("scaling", "raw"),
        ("assign", "parent"),
        ("measure", "NMI"),
        ("itself", "left out"),
    ):
        panel.controls[name].value = value
        seen.append(shown())
        assert seen[-1][0] != seen[-2][0], name
    panel.controls["clusters"].value = 20
    assert len(panel.figure.data[1].x) == 20
    assert panel.figure.layout.shapes[0].x0 == 20
    assert "20 centres" in panel.figure.layout.meta["alt"]


def test_the_panel_wants_one_class_an_item(tiny, bazaar):
    with pytest.raises(InputError, match="one class per item"):
        whatif_interests(bazaar, labels=[1, 2])
    bare = replace(tiny, truth=None, items=None)
    with pytest.raises(InputError, match="found none"):
        whatif_interests(bare)
    named = whatif_interests(bare, labels=[str(i % 3) for i in range(tiny.n_items)])
    assert "K = 12" in named.figure.layout.title.text


# -- the study -----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def report():
    return json.loads(study.RESULT.read_text(encoding="utf-8"))


def test_the_study_s_figures_are_those_of_the_data(report):
    data = load("bazaar")
    tokens = study.tokens_of(data, "image", "raw")
    for method in study.METHODS[:2]:
        row = next(
            r for r in report["clusters"] if (r["features"], r["scaling"], r["K"], r["method"]) == ("image", "raw", 12, method)
        )
        again = study.scored(study.clustered(tokens.x, 12, method), study.truth_of(tokens, data))
        assert again["ari"]["mean"] == pytest.approx(row["ari"]["mean"], abs=1e-9)
    assert report["classes"] == 12


def test_distinct_interests_of_a_history(bazaar):
    model = create("missrec", bazaar, seed=0, **study.MODEL)
    told = study.memory(model, bazaar)
    items, lengths = model.history(torch.arange(bazaar.n_users))
    distinct = []
    for row, length in zip(items, lengths, strict=True):
        distinct.append(len(set(model.interest_of[row[:length]].flatten().tolist()) - {len(model.interest)}))
    assert told["interests read"] == pytest.approx(np.mean(distinct))
    assert told["interests read at 24"] < told["interests read"] <= told["tokens read"]


def test_after_longer_training_fewer_kinds_are_found_at_24(report):
    told = {
        epoch: {
            m: np.mean(
                [r["at 24"][m]["ari"]["mean"] for r in report["trained"] if (r["interests"], r["epoch"]) == ("dpc", epoch)]
            )
            for m in study.METHODS
        }
        for epoch in (1, 12)
    }
    assert all(told[12][m] < told[1][m] for m in study.METHODS)
    for epoch in (1, 12):
        assert max(told[epoch][m] for m in study.METHODS[:2]) < min(told[epoch][m] for m in study.METHODS[2:])
