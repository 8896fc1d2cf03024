"""Is content used at all? The measure itself: what it changes in a model, and what it must not."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch

from benchmarks.content_use import ITEMS, RESULT, as_markdown
from benchmarks.content_use import changes as as_changes
from mmrec_teach.data import Dataset
from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.evaluation.content_use import content_use, recall_by_user, with_features
from mmrec_teach.models import Recommender, create
from mmrec_teach.training import train
from mmrec_teach.views.changes import change_dots
from tests.conftest import make_tiny

SMALL = {"freedom": {"k": 5}, "lattice": {"k": 5}, "dualgnn": {"n_neighbours": 5}}
CONTENT = ("vbpr", "bm3", "lattice", "freedom", "mmgcn", "grcn", "dualgnn")


@functools.cache
def trained(name: str, data: Dataset, epochs: int = 3, **options) -> Recommender:
    """A small trained model; tests share it and leave it as it is."""
    model = create(name, data, dim=8, seed=1, **SMALL.get(name, {}), **options)
    for _ in train(model, data, epochs=epochs, batch_size=64, lr=1e-2, metrics_every=0, device="cpu"):
        pass
    return model.eval()


def scores(model: Recommender) -> torch.Tensor:
    with model.evaluating():
        return model.score(torch.arange(model.n_users))


@pytest.mark.parametrize("name", CONTENT)
def test_with_its_own_features_the_model_is_the_same(tiny, name):
    model = trained(name, tiny)
    for graphs in ("new", "kept"):
        again = with_features(model, tiny, item_graphs=graphs)
        assert again is not model
        assert torch.equal(scores(again), scores(model))


@pytest.mark.parametrize("change", ["shuffled", "zero", "random"])
@pytest.mark.parametrize("name", CONTENT)
def test_which_models_read_content_when_they_score(tiny, name, change):
    model = trained(name, tiny)
    before = scores(model).clone()
    other = Switches(features=change).apply(tiny)
    moved = {
        graphs: not torch.equal(scores(with_features(model, other, item_graphs=graphs)), before) for graphs in ("new", "kept")
    }
    reads, through_graphs_only = name != "bm3", name == "freedom"
    assert moved == {"new": reads, "kept": reads and not through_graphs_only}
    assert torch.equal(scores(model), before), "the model asked about is left as it was"


def test_a_trained_table_stays_as_trained(tiny):
    model = trained("freedom", tiny, trainable_features=True)
    other = with_features(model, Switches(features="zero").apply(tiny))
    assert torch.equal(other.modality.table("image"), model.modality.table("image"))
    assert not torch.equal(other.similar.to_dense(), model.similar.to_dense())


def test_kept_graphs_are_those_of_items_only(tiny):
    model = trained("lattice", tiny)
    other = with_features(model, Switches(features="shuffled").apply(tiny), item_graphs="kept")
    assert torch.equal(other.similar_0.to_dense(), model.similar_0.to_dense())
    near, own = other.neighbours()[0], model.neighbours()[0]
    assert not torch.equal(near, own), "the graph that was learned is searched with the new features"


def test_the_model_is_handed_over_whole(tiny):
    model = trained("vbpr", tiny)
    other = with_features(model, Switches(features="random").apply(tiny))
    assert not other.training
    assert torch.equal(other.generator.get_state(), model.generator.get_state())
    double = with_features(with_features(model, tiny).double().train(), tiny)
    assert double.user_id.weight.dtype == torch.float64
    assert double.training


def test_what_does_not_fit_is_refused(tiny):
    model = trained("vbpr", tiny)
    with pytest.raises(DataError, match=r"VBPR\.content_bias.*\(5,\).*\(13,\).*same modalities"):
        with_features(model, Switches(without="image").apply(tiny))
    with pytest.raises(DataError, match="29 users.*30"):
        with_features(model, make_tiny(n_users=29))
    with pytest.raises(OptionError, match="item_graphs"):
        with_features(model, tiny, item_graphs="old")


def test_the_table_tells_use_from_no_use(tiny):
    table = content_use(trained("bm3", tiny), tiny, k=10)
    assert set(table["features"]) == {"shuffled", "zero", "random"}
    assert set(table["items"]) == {"all", "cold", "cold among cold"}
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert (table["p_value"] == 1).all()
    read = content_use(trained("vbpr", tiny, epochs=60), tiny, ("shuffled",), k=1).set_index("items")
    assert read.loc["cold among cold", "own"] > 0.9, "content tells the parity that users like"
    assert (read["difference"] <= 0).all()
    result = evaluate(trained("vbpr", tiny, epochs=60), tiny, "test", ks=(1,))
    assert read.loc["all", "own"] == pytest.approx(result.mean("recall@1"))
    assert read.loc["cold", "own"] == pytest.approx(result.cold(1)["recall@1"])


def test_without_cold_items_there_are_no_rows_for_them(tiny):
    table = content_use(trained("bm3", tiny), tiny, ("zero",), split="valid", k=10)
    assert table["items"].tolist() == ["all"]


def test_recall_by_user_averages_to_what_is_reported(tiny):
    result = evaluate(trained("vbpr", tiny), tiny, "test", ks=(5,))
    by_user = recall_by_user(result, 5)
    assert by_user["all"].mean() == pytest.approx(result.mean("recall@5"))
    assert by_user["cold"].shape == by_user["cold among cold"].shape == result.cold_rows.shape
    assert by_user["cold among cold"].mean() == pytest.approx(result.cold(5)["recall_among_cold@5"])
    assert np.isfinite(np.concatenate(list(by_user.values()))).all()


# -- the study in benchmarks/results ------------------------------------------------------------------------------------------
@functools.cache
def study() -> dict:
    """What `python benchmarks/content_use.py` found."""
    return json.loads(RESULT.read_text(encoding="utf-8"))


def changes(name: str, **wanted: str) -> list[dict]:
    found = [m for shop in study()["shops"] for m in shop["models"] if m["model"] == name]
    return [c for m in found for c in m["changes"] if all(c[k] == v for k, v in wanted.items())]


def test_the_study_finds_that_bm3_s_scores_do_not_read_content_and_its_training_does():
    scoring, training = changes("bm3", when="scoring"), changes("bm3", when="training")
    assert len(scoring) == len(training) == 3 * len(study()["shops"])
    for told in scoring:
        for items in ITEMS:
            assert told[items]["by_seed"] == [0.0] * len(study()["seeds"])
            assert (told[items]["low"], told[items]["high"], told[items]["p_value"]) == (0.0, 0.0, 1.0)
    for told in training:
        assert -0.05 < told["all"]["difference"] < 0
        assert told["all"]["high"] < 0
        assert told["cold"]["mean"] < 0.01, "no cold item reaches a list either way"


def test_the_study_finds_that_vbpr_lives_by_content():
    for told in changes("vbpr"):
        assert told["cold among cold"]["high"] < -0.4
        assert told["all"]["high"] < 0


def test_the_study_finds_that_freedom_s_scores_read_content_through_its_graph_only():
    for told in changes("freedom", when="scoring", item_graphs="kept"):
        assert all(told[items]["low"] == told[items]["high"] == 0 for items in ITEMS)
    for told in changes("freedom", when="scoring", item_graphs="new"):
        assert told["all"]["high"] < 0


def test_the_tables_print_what_the_file_holds():
    text = as_markdown(study())
    bm3 = [line for line in text.splitlines() if line.startswith("| bm3 |")]
    assert len(bm3) == len(ITEMS) * len(study()["shops"])
    assert all(line.split("|")[3:6] == [" = "] * 3 for line in bm3)
    models = [m["model"] for m in study()["shops"][0]["models"]]
    assert {line.split()[1].rstrip(",") for line in text.splitlines() if line.startswith("| ")} == {"model", *models}


def test_the_picture_draws_every_difference_of_the_file():
    for shop in study()["shops"]:
        drawn = sum(len(trace.x) for trace in change_dots(as_changes(shop)).data)
        assert drawn == len(ITEMS) * sum(len(m["changes"]) for m in shop["models"])
