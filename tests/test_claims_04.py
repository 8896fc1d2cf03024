"""What lesson 04 claims of graphs made of content, measured over seeds with the lesson's settings."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.switches import Switches
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.statistics import paired_comparison
from mmrec_teach.grading.watch import Effort
from mmrec_teach.models import Recommender, create
from mmrec_teach.ops import graph
from mmrec_teach.training import train
from tests.test_claims_02 import _one_thread, bucket, shuffled, vbpr  # noqa: F401 - a fixture
from tests.test_claims_03 import light

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
SETTINGS = {
    "lightgcn": ({"l2": 1e-3}, {}),
    "freedom": ({"bpr_content": 1e-3}, {"image_weight": 0.5, "edge_dropout": 0.0}),
    "lattice": ({"l2": 1e-3}, {}),
    "dualgnn": ({"l2": 1e-3}, {}),
    "mmgcn": ({"l2": 1e-2}, {}),
    "grcn": ({"l2": 1e-2}, {}),
}
ITEM_GRAPHS = ("freedom", "lattice")
CONTENT = (*ITEM_GRAPHS, "dualgnn")


@functools.cache
def shop(scarce: bool, swapped: bool | str) -> Dataset:
    """The bazaar, perhaps with 30 % of its training purchases, perhaps with every item under another item's content.

    ``swapped`` is "switch" where the panel's switch does it.
    """
    if swapped == "switch":
        return Switches(features="shuffled").apply(shop(scarce, False))
    data = shuffled() if swapped else load("bazaar")
    if not scarce:
        return data
    kept = np.random.default_rng(0).random(len(data.train)) < 0.3
    kept[np.unique(data.train.users, return_index=True)[1]] = True
    return dataclasses.replace(data, train=data.train.select(np.flatnonzero(kept)))


@functools.cache
def fitted(
    name: str, seed: int, scarce: bool = False, swapped: bool | str = False, **changed
) -> tuple[Recommender, Evaluation]:
    """The lesson's training, and its test evaluation."""
    if (name, scarce, swapped, changed) == ("lightgcn", False, False, {}):
        return light(seed)
    data, (weights, options) = shop(scarce, swapped), SETTINGS[name]
    model = create(name, data, dim=32, seed=seed, **{**options, **changed})
    how = {"epochs": 30, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights=weights, seed=seed, **how):
        pass
    return model, evaluate(model, data, "test")


def results(name: str, **how) -> list[Evaluation]:
    return [fitted(name, seed, **how)[1] for seed in SEEDS]


def mean(name: str, metric: str = "recall@20", **how) -> float:
    return float(np.mean([result.mean(metric) for result in results(name, **how)]))


def rare(name: str, **how) -> float:
    return float(np.mean([bucket(result, 1) for result in results(name, **how)]))


def cold(name: str, among: str = "recall_among_cold@20", **how) -> list[float]:
    return [result.cold()[among] for result in results(name, **how)]


def test_with_all_purchases_item_graphs_change_next_to_nothing():
    for name in ITEM_GRAPHS:
        assert abs(mean(name) / mean("lightgcn") - 1) < 0.02
        assert abs(mean(name, "ndcg@20") / mean("lightgcn", "ndcg@20") - 1) < 0.04


def test_dualgnn_is_ahead_by_rare_items_and_in_ndcg():
    assert rare("dualgnn") > max(rare(name) for name in ("lightgcn", *ITEM_GRAPHS)) + 0.05
    for seed in SEEDS:
        ours, theirs = fitted("dualgnn", seed)[1], fitted("lightgcn", seed)[1]
        assert ours.mean("ndcg@20") > theirs.mean("ndcg@20") + 0.02
        assert ours.mean("recall@20") > theirs.mean("recall@20")


@pytest.mark.parametrize("scarce", [False, True])
def test_mmgcn_and_grcn_stay_below_lightgcn(scarce):
    for seed in SEEDS:
        below = [fitted(name, seed, scarce=scarce)[1].mean("recall@20") for name in ("mmgcn", "grcn", "lightgcn")]
        assert below == sorted(below)


def test_with_few_purchases_every_item_graph_helps():
    for name in ITEM_GRAPHS:
        for seed in SEEDS:
            ours, theirs = fitted(name, seed, scarce=True)[1], fitted("lightgcn", seed, scarce=True)[1]
            assert ours.mean("recall@20") > theirs.mean("recall@20") + 0.015
            assert ours.mean("ndcg@20") > theirs.mean("ndcg@20")
        assert rare(name, scarce=True) > rare("lightgcn", scarce=True) + 0.03
        assert mean(name, scarce=True) > mean("dualgnn", scarce=True) > mean("lightgcn", scarce=True)
    assert mean("freedom", scarce=True) / mean("lightgcn", scarce=True) > 1.04


def test_cold_items_are_in_the_right_order_and_not_at_the_right_level():
    chance = results("lightgcn")[0].cold()["chance_among_cold@20"]
    for name in CONTENT:
        assert min(cold(name)) > 0.85 > chance + 0.4
        assert max(cold(name, "recall@20")) < 0.1, "the lesson's nearest answer is 'about 0'"


def test_without_the_user_item_graph_cold_items_rise_and_warm_ones_pay():
    for seed in SEEDS:
        alone, joined = fitted("freedom", seed, n_layers=0)[1], fitted("freedom", seed)[1]
        assert bucket(alone, 0) > max(0.5, bucket(vbpr(seed), 0))
        assert bucket(joined, 0) < 0.06
        assert alone.mean("ndcg@20") < joined.mean("ndcg@20") - 0.03
        for row in (2, 3, 4):
            assert bucket(alone, row) < bucket(joined, row)


def test_another_item_s_content_hurts_by_several_percent_where_purchases_are_few():
    baseline = mean("lightgcn", scarce=True)
    change = [mean(name, scarce=True, swapped=True) / baseline - 1 for name in CONTENT]
    assert -0.2 < np.mean(change) < -0.02
    assert max(change) < 0
    for name in CONTENT:
        for seed in SEEDS:
            own, other = (fitted(name, seed, scarce=True, swapped=swapped)[1].mean("recall@20") for swapped in (False, True))
            assert other < own - 0.03


def test_another_item_s_content_hurts_a_little_with_all_purchases():
    pooled = [np.mean([r.per_user["recall@20"] for r in results("freedom", swapped=s)], axis=0) for s in (True, False)]
    assert -0.04 < paired_comparison("recall@20", *pooled).difference < 0


def test_under_another_item_s_content_cold_items_fall_to_about_random_order():
    chance = results("lightgcn", scarce=True)[0].cold()["chance_among_cold@20"]
    for name in CONTENT:
        assert all(abs(value - chance) < 0.1 for value in cold(name, swapped=True, scarce=True))
        assert max(cold(name, swapped=True)) < min(cold(name)) - 0.35, "with all purchases too they lose their order"


def test_variants_of_lattice_and_freedom_where_purchases_are_few():
    lattice, freedom = (mean(name, scarce=True) for name in ITEM_GRAPHS[::-1])
    for changed in ({"raw_share": 1.0}, {"graph_gradient": "every"}):
        assert abs(mean("lattice", scarce=True, **changed) - lattice) < 0.01
    assert mean("lattice", scarce=True, user_item_graph="row") < lattice
    trained = mean("freedom", scarce=True, trainable_features=True, projection_bias=True)
    assert abs(trained - freedom) < 0.005
    for changed in ({"image_weight": 0.1}, {"image_weight": 0.9}, {"edge_dropout": 0.8}):
        assert -0.03 < mean("freedom", scarce=True, **changed) - freedom < 0


def of_a_kind(table: torch.Tensor) -> float:
    """Share of each item's ten nearest that are of its category."""
    category = load("bazaar").items["category"].to_numpy()
    ids, near, _ = graph.nearest(table, 10, include_self=False)
    return float((category[near.numpy()] == category[ids.numpy()][:, None]).mean())


def test_of_the_panel_s_five_moves_taking_the_layers_costs_most_and_wrong_content_breaks_up_the_groups():
    changes = ({}, {"image_weight": 0.0}, {"k": 2}, {"edge_dropout": 0.9}, {"n_layers": 0}, {"swapped": "switch"})
    for seed in SEEDS:
        runs = [fitted("freedom", seed, scarce=True, **changed) for changed in changes]
        plain, *others, layers, wrong = (result.mean("recall@20") for _, result in runs)
        assert layers + 0.02 < wrong < min(others) < plain
        assert runs[0][1].cold()["recall@20"] < 0.05 < 0.35 < runs[4][1].cold()["recall@20"]
        kinds = [of_a_kind(model.views()["item/final"]) for model, _ in runs]
        assert kinds[-1] < 0.65 < min(kinds[:-1])


def test_the_item_graph_brings_categories_together_in_the_ids_already():
    for seed in SEEDS:
        tables = [
            fitted(name, seed, scarce=True)[0].views()[view]
            for name, view in (("lightgcn", "item/final"), ("freedom", "item/id"), ("freedom", "item/final"))
        ]
        agree = [of_a_kind(table) for table in tables]
        assert agree[0] + 0.1 < agree[1] < agree[2] - 0.03


def test_cold_items_ids_learn_through_the_item_graph():
    cold = torch.from_numpy(load("bazaar").cold_items)
    for name, moved in (("freedom", True), ("lightgcn", False)):
        start = create(name, load("bazaar"), dim=32, seed=0, **SETTINGS[name][1]).item_id.weight[cold]
        # Adam leaves a vector alone only where its gradient is exactly zero
        assert bool((fitted(name, 0)[0].item_id.weight[cold] != start).any()) is moved


def test_a_graph_in_blocks_never_holds_all_cosines():
    """And it makes as many products as before: n²/block of them, of block x n."""
    n, block = 4000, 100
    table = torch.randn(n, 16, generator=torch.Generator().manual_seed(0))
    with Effort(table) as effort:
        graph.nearest(table, 10, block=block)
    assert effort.largest <= 2 * block * n < n * n / 10


def test_the_graph_is_not_mutual_and_a_cold_item_has_warm_neighbours():
    data = load("bazaar")
    similar = graph.knn_graph(data.features["text"], 10, missing=data.missing["text"]).to_dense() > 0
    assert similar.sum(0).max() > 15
    for modality in data.modalities:
        ids, near, _ = graph.nearest(data.features[modality], 5, include_self=False, missing=data.missing[modality])
        with_buyers = data.item_counts[near.numpy()] > 0
        assert with_buyers[data.cold_items[ids.numpy()]].mean() > 0.7
