"""What lesson 08 claims of judging features before training, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.sparse as sp

from mmrec_teach.data import load
from mmrec_teach.evaluation import Evaluation, evaluate, protocols
from mmrec_teach.evaluation.content_use import with_features
from mmrec_teach.evaluation.feature_sets import aligned, joined, noise, shuffled, unit_rows, with_table
from mmrec_teach.evaluation.long_tail import long_tail
from mmrec_teach.models import Recommender, create
from mmrec_teach.training import train
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
CONTENT = ("pictures", "words", "joined, even", "joined, raw", "aligned")
NOTHING = ("shuffled", "noise")


@functools.cache
def makers() -> dict:
    data = load("bazaar")
    made = {
        "pictures": joined(data, "image"),
        "words": joined(data, "text"),
        "joined, even": joined(data),
        "joined, raw": joined(data, scaling="raw"),
        "aligned": aligned(data),
    }
    return {name: lambda hide=None, make=make: unit_rows(make(hide)) for name, make in made.items()}


@functools.cache
def tables() -> dict[str, np.ndarray]:
    data, sets = load("bazaar"), {name: make() for name, make in makers().items()}
    both = sets["joined, even"]
    return sets | {"shuffled": shuffled(both, data.n_items), "noise": noise(both, data.n_items)}


@functools.cache
def judged(protocol: str, name: str) -> protocols.Judgement:
    return protocols.PROTOCOLS[protocol](tables()[name], load("bazaar"))


def before(protocol: str) -> dict[str, float]:
    return {name: judged(protocol, name).recall(20) for name in tables()}


@functools.cache
def final(name: str, seed: int) -> tuple[Recommender, Evaluation]:
    """The lesson's VBPR: 15 epochs of Adam 1e-2, batches of 1,024, vectors of 32 numbers."""
    shop = with_table(load("bazaar"), tables()[name])
    model = create("vbpr", shop, dim=32, content_dim=32, scaling="unit", seed=seed)
    how = {"epochs": 15, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, shop, weights={"l2": 1e-2}, seed=seed, **how):
        pass
    return model, evaluate(model, shop, "test", ks=(20,))


def after(seed: int) -> dict[str, float]:
    return {name: final(name, seed)[1].mean("recall@20") for name in tables()}


def cold(seed: int) -> dict[str, float]:
    return {name: final(name, seed)[1].cold()["recall@20"] for name in tables()}


def tau(a: dict[str, float], b: dict[str, float], names=CONTENT) -> float:
    told = protocols.rank_agreement([np.array([a[n]]) for n in names], [np.array([b[n]]) for n in names], n_boot=1)
    return told["tau"]


def test_content_finds_ten_times_what_chance_finds_and_controls_stay_at_chance():
    for protocol in protocols.PROTOCOLS:
        found, chance = before(protocol), judged(protocol, "words").chance(20)
        assert max(found, key=found.get) == "joined, even"
        assert found["joined, even"] > 10 * chance
        assert min(found[name] for name in CONTENT) > 6 * chance
        for seed in SEEDS:
            for empty in (shuffled(tables()["joined, even"], 600, seed), noise(tables()["joined, even"], 600, seed)):
                assert abs(protocols.PROTOCOLS[protocol](empty, load("bazaar")).recall(20) - chance) < 0.02


def test_pictures_or_words_is_answered_differently():
    zero, cf = before("zero-shot"), before("item-cf")
    assert 0.01 < zero["words"] - zero["pictures"] < 0.06, "slightly ahead"
    assert cf["pictures"] > cf["words"] + 0.08, "far ahead"
    bounds = {
        (p, n): judged(p, n).interval(20) for p in protocols.PROTOCOLS for n in ("pictures", "words", "joined, even", "aligned")
    }
    assert bounds["zero-shot", "words"][0] < bounds["zero-shot", "pictures"][1], "the intervals overlap"
    assert bounds["item-cf", "pictures"][0] > bounds["item-cf", "words"][1]
    assert bounds["zero-shot", "joined, even"][0] > bounds["zero-shot", "aligned"][1], "clearly first"
    assert bounds["item-cf", "joined, even"][0] < bounds["item-cf", "aligned"][1], "level"
    assert zero["joined, raw"] == zero["pictures"], "a tie"


def test_words_gain_more_from_the_mean():
    data = load("bazaar")
    users, targets, history = protocols.last_events(data)
    rows, items = history.nonzero()
    size = np.diff(history.indptr)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)
    for seed in SEEDS:
        order = np.lexsort((np.random.default_rng(seed).random(len(rows)), rows))
        found = {}
        for n in (1, 16):
            kept = order[place < n]
            fewer = sp.csr_array((np.ones(len(kept)), (rows[kept], items[kept])), shape=history.shape)
            for name in ("pictures", "words"):
                ranks = protocols.target_ranks(fewer @ tables()[name], tables()[name], targets, history)
                found[name, n] = ((ranks > 0) & (ranks <= 20)).mean()
        assert found["pictures", 1] > 1.4 * found["words", 1]
        assert found["words", 16] > found["pictures", 16]


def test_a_quiet_modality_is_not_missed_an_aligned_one_is_replaced():
    data = load("bazaar")
    told = {
        name: protocols.mask_modality(makers()[name], data, shares=(0.5, 1.0), seeds=SEEDS).set_index(
            ["modality", "share", "seed"]
        )
        for name in ("joined, even", "joined, raw", "aligned")
    }
    for seed in SEEDS:
        for modality in data.modalities:
            assert told["joined, even"]["drop"][modality, 0.5, seed] > 0.03
            assert abs(told["aligned"]["drop"][modality, 0.5, seed]) < 0.025
        assert told["aligned"]["drop"]["image", 1.0, seed] < -0.01, "gains without pictures"
        raw = told["joined, raw"]
        assert raw["drop"]["text", 0.5, seed] < 0.1 * raw["whole"]["text", 0.5, seed], "almost nothing"
        assert raw["hidden"]["image", 0.5, seed] < raw["hidden"]["image", 1.0, seed] - 0.04, "worse than without any"


def test_the_winner_and_the_controls_are_right_and_the_middle_is_not():
    for seed in SEEDS:
        trained = after(seed)
        assert max(trained, key=trained.get) == "joined, even"
        assert max(trained[name] for name in NOTHING) < min(trained[name] for name in CONTENT) - 0.05
        assert trained["shuffled"] < trained["noise"]
        assert sorted(CONTENT, key=trained.get).index("aligned") <= 2, "of five, no better than third"
        for protocol in protocols.PROTOCOLS:
            found = before(protocol)
            assert sorted(CONTENT, key=found.get).index("aligned") == 3, "second for both judges"
            assert tau(found, trained, tuple(tables())) > 0.4
            assert tau(found, trained) < 0.9, "never the whole order"


def test_agreement_with_final_recall_is_flattered_by_controls():
    mean = {name: np.mean([after(seed)[name] for seed in SEEDS]) for name in tables()}
    for protocol in protocols.PROTOCOLS:
        assert tau(before(protocol), mean, tuple(tables())) > tau(before(protocol), mean) + 0.05
    assert tau(before("zero-shot"), mean) > tau(before("item-cf"), mean)


def test_item_cf_orders_the_tables_as_cold_items_do():
    mean = {name: np.mean([cold(seed)[name] for seed in SEEDS]) for name in tables()}
    assert tau(before("item-cf"), mean) >= 0.6
    assert tau(before("item-cf"), mean) > tau(before("item-cf"), {n: np.mean([after(s)[n] for s in SEEDS]) for n in tables()})
    for seed in SEEDS:
        assert "aligned" in sorted(CONTENT, key=cold(seed).get)[-2:], "first or second"


def test_which_modality_is_worth_more_zero_shot_and_the_trained_model_say_differently():
    data, features = load("bazaar"), makers()["joined, even"]
    for seed in SEEDS:
        model, whole = final("joined, even", seed)
        trained, judged_by, by_item = {}, {}, {}
        for modality in data.modalities:
            table = features({modality: protocols.hidden(data, modality, 0.5, seed=seed)})
            less = with_table(data, table)
            told = evaluate(with_features(model, less), less, "test", ks=(20,))
            trained[modality] = whole.mean("recall@20") - told.mean("recall@20")
            judged_by[modality] = judged("zero-shot", "joined, even").recall(20) - protocols.zero_shot(table, data).recall(20)
            by_item[modality] = judged("item-cf", "joined, even").recall(20) - protocols.item_cf(table, data).recall(20)
        assert min(trained.values()) > 0.03
        assert min(judged_by.values()) > 0.03
        assert judged_by["text"] > judged_by["image"]
        assert trained["image"] > trained["text"]
        assert by_item["image"] > by_item["text"]


def test_shuffled_features_leave_most_of_the_recall_and_nothing_for_cold_items():
    for seed in SEEDS:
        assert 0.6 < after(seed)["shuffled"] / after(seed)["joined, even"] < 0.85
        assert cold(seed)["shuffled"] < 0.03


@functools.cache
def lists(name: str, seed: int) -> Evaluation:
    """The lesson's long tail: 20 epochs."""
    data = load("bazaar")
    if name == "popularity":
        return evaluate(create(name, data), data, "test", ks=(20,))
    options = {"scaling": "unit", "content_dim": 32} if name == "vbpr" else {}
    weights = {"lightgcn": {"l2": 1e-3}, "bm3": {"reg": 0.0}, "vbpr": {"l2": 1e-2}, "alignrec": {}}[name]
    model = create(name, data, dim=32, seed=seed, **options)
    how = {"epochs": 20, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights=weights, seed=seed, **how):
        pass
    return evaluate(model, data, "test", ks=(20,))


def test_content_in_the_score_opens_the_shelf_and_costs_at_the_head():
    with_content, without = ("vbpr", "alignrec"), ("lightgcn", "bm3")
    for seed in SEEDS:
        table = long_tail({name: lists(name, seed) for name in ("popularity", *without, *with_content)}, edges=(1, 10, 20, 40))
        table = table.set_index("model")
        assert (table.loc[[*without], "found cold"] < 0.02).all()
        assert (table.loc[[*with_content], "found cold"] > 0.2).all()
        assert table.loc[[*with_content], "reach@20"].min() > 0.93
        assert table.loc[[*without], "reach@20"].between(0.7, 0.9).all(), "about eight in ten"
        assert table.loc[[*with_content], "tail share@20"].min() > table.loc[[*without], "tail share@20"].max()
        assert table["found 40-93"].drop("popularity").idxmax() == "lightgcn"
        assert table.loc["popularity", "reach@20"] < 0.06
