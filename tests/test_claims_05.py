"""What lesson 05 claims of learning without negatives, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from mmrec_teach.data import load
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.diagnostics import effective_rank, mean_cosine
from mmrec_teach.models import BM3, Batch, Recommender, create
from mmrec_teach.training import train
from tests.test_claims_02 import _one_thread, shuffled  # noqa: F401 - a fixture
from tests.test_claims_03 import light

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
FREE = {"stop_gradient": False}
BARE = {"predictor": False}


@functools.cache
def fitted(name: str, seed: int, epochs: int = 30, weights: tuple = (), swapped: bool = False, **options) -> Recommender:
    """The lesson's training: Adam 1e-2, batches of 1,024, vectors of 32 numbers."""
    data = shuffled() if swapped else load("bazaar")
    model = create(name, data, dim=32, seed=seed, **options)
    how = {"epochs": epochs, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights=dict(weights), seed=seed, **how):
        pass
    return model


def bm3(seed: int, align: float = 2.0, mask: float = 2.0, reg: float = 0.0, **options) -> Recommender:
    return fitted("bm3", seed, weights=(("reg", reg), ("align", align), ("mask", mask)), **options)


def buir(seed: int, **options) -> Recommender:
    return fitted("buir", seed, **options)


@functools.cache
def without_predictor(seed: int) -> tuple[Recommender, Recommender]:
    """BUIR without its predictor, after 30 epochs and after 90 of one training."""
    early, model = (create("buir", load("bazaar"), dim=32, seed=seed, **BARE) for _ in range(2))
    how = {"epochs": 90, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for record in train(model, load("bazaar"), seed=seed, **how):
        if record.epoch == 30:
            early.load_state_dict(model.state_dict())
    return early, model


@functools.cache
def outcome(model: Recommender) -> Evaluation:
    return evaluate(model, load("bazaar"), "test")


def recall(model: Recommender) -> float:
    return outcome(model).mean("recall@20")


def items_of(model: Recommender) -> torch.Tensor:
    """Warm items' vectors before any predictor."""
    with model.evaluating():
        return model.views()["item/online"][~load("bazaar").cold_items]


def rank(model: Recommender) -> float:
    return effective_rank(items_of(model))


def cosine(model: Recommender) -> float:
    return mean_cosine(items_of(model))


@functools.cache
def popularity() -> float:
    return evaluate(create("popularity", load("bazaar")), load("bazaar"), "test").mean("recall@20")


def test_no_negatives_are_needed_and_they_still_help_a_little():
    for seed in SEEDS:
        with_no = light(seed)[1].mean("recall@20")
        assert 4 * popularity() < recall(bm3(seed)) < recall(buir(seed)) < with_no
        assert with_no - recall(buir(seed)) < 0.06
    assert 4.5 < np.mean([recall(buir(seed)) for seed in SEEDS]) / popularity() < 5, "nearly five times"


def test_cold_items_get_nothing_from_either():
    for seed in SEEDS:
        for model in (bm3(seed), buir(seed)):
            assert outcome(model).cold()["recall@20"] < 0.02


def test_buir_without_the_slow_copy_does_not_collapse():
    for seed in SEEDS:
        none = buir(seed, momentum=0.0)
        assert rank(none) > 15
        assert cosine(none) < 0.25
        assert recall(buir(seed)) - 0.04 < recall(none) < recall(buir(seed)), "it loses a little"


def test_buir_without_predictor_collapses_slowly_and_without_both_at_once():
    for seed in SEEDS:
        (early, late), both = without_predictor(seed), buir(seed, momentum=0.0, **BARE)
        assert 0.4 < cosine(early) < 0.7 < 0.8 < cosine(late)
        assert rank(early) > rank(late) + 5
        assert recall(buir(seed)) - 0.05 > recall(early) > recall(late) + 0.15
        assert rank(both) < 1.2
        assert cosine(both) > 0.99
        assert abs(recall(both) - popularity()) < 0.02


def test_a_frozen_target_has_the_highest_rank_and_teaches_nothing():
    for seed in SEEDS:
        frozen = buir(seed, momentum=1.0)
        assert rank(frozen) > max(rank(buir(seed)), 29)
        assert recall(frozen) < popularity()


@pytest.mark.parametrize("options", [FREE, BARE], ids=["no stop-gradient", "no predictor"])
def test_bm3_collapses_onto_popularity_without_stop_gradient_or_predictor(options):
    for seed in SEEDS:
        fallen = bm3(seed, **options)
        assert cosine(fallen) > 0.95
        assert rank(fallen) < 10 < 20 < rank(bm3(seed))
        assert abs(recall(fallen) - popularity()) < 0.02


def test_what_is_left_of_a_collapsed_model_is_popularity():
    data = load("bazaar")
    warm = ~data.cold_items
    for seed in SEEDS:
        model = bm3(seed, **FREE)
        with model.evaluating():
            average = model.score(torch.arange(data.n_users)).mean(0).numpy()[warm]
        assert np.corrcoef(average, np.sqrt(data.item_counts[warm]))[0, 1] > 0.9


def test_bm3_without_dropout_stays_healthy_unless_the_predictor_is_gone_too():
    for seed in SEEDS:
        none, both = bm3(seed, dropout=0.0), bm3(seed, dropout=0.0, **BARE)
        assert rank(none) > 17
        assert cosine(none) < 0.25
        assert recall(none) > recall(bm3(seed)), "here it even finds a little more"
        assert recall(none) < recall(bm3(seed)) + 0.03
        assert rank(both) < 1.2 < 5 < rank(bm3(seed, **BARE))


def test_features_are_not_used_after_training():
    data = load("bazaar")
    order = torch.from_numpy(np.random.default_rng(0).permutation(data.n_items))
    for seed in SEEDS:
        model = bm3(seed).eval()
        before = model.score(torch.arange(data.n_users))
        for change in (lambda table: table[order], torch.zeros_like):
            kept = {name: model.modality.table(name).data for name in model.modality.names}
            for name, table in kept.items():
                model.modality.table(name).data = change(table)
            after = model.score(torch.arange(data.n_users))
            for name, table in kept.items():
                model.modality.table(name).data = table
            assert torch.equal(before, after)


def test_content_terms_have_no_gradient_on_the_ids():
    data = load("bazaar")
    batch = Batch(*(torch.from_numpy(ids[:512].copy()) for ids in (data.train.users, data.train.items)))
    for seed in SEEDS:
        model = BM3(data, dim=32, seed=seed).train()
        for term, value in model.losses(batch, {"rec", "align", "mask"}).items():
            tables = [model.user_id.weight, model.item_id.weight, model.predict.weight, model.modality.layer("image").weight]
            reached = [g is not None for g in torch.autograd.grad(value, tables, allow_unused=True, retain_graph=True)]
            assert reached == ([True, True, True, False] if term == "rec" else [False, False, True, True]), term


def test_content_moves_recall_by_no_more_than_seeds_do():
    own = [recall(bm3(seed)) for seed in SEEDS]
    none = [recall(bm3(seed, align=0.0, mask=0.0)) for seed in SEEDS]
    other = [recall(bm3(seed, swapped=True)) for seed in SEEDS]
    assert abs(np.mean(own) - np.mean(none)) < 0.01
    assert abs(np.mean(own) - np.mean(other)) < 0.015
    assert abs(np.mean(own) - np.mean(none)) < max(own) - min(own)
    for seed in SEEDS:
        for model in (bm3(seed, align=0.0, mask=0.0), bm3(seed, swapped=True)):
            assert outcome(model).cold()["recall@20"] < 0.02


def test_content_alone_teaches_the_ids_nothing():
    data = load("bazaar")
    for seed in SEEDS:
        alone = fitted("bm3", seed, epochs=2, weights=(("reg", 0.0), ("rec", 0.0)))  # no step moves them, so two tell
        start = create("bm3", data, dim=32, seed=seed)
        assert torch.equal(alone.item_id.weight, start.item_id.weight)
        assert torch.equal(alone.user_id.weight, start.user_id.weight)
        assert recall(alone) < 0.06, "about chance, which is 0.033"


def test_dropped_edges_are_no_guard_of_buir_and_are_not_missed():
    for seed in SEEDS:
        for share in (0.0, 0.9):
            other = buir(seed, edge_dropout=share)
            assert abs(recall(other) / recall(buir(seed)) - 1) < 0.03
            assert rank(other) > 20


def test_forms_of_paper_and_code():
    data = load("bazaar")
    root = np.sqrt(data.item_counts[~data.cold_items])

    def follows(model):
        return np.corrcoef(items_of(model).norm(dim=1).detach().numpy(), root)[0, 1]

    for seed in SEEDS:
        plain, norm = bm3(seed), bm3(seed, reg=0.1, regularizer="emb_norm")
        trained, squared = bm3(seed, reg=0.1, regularizer="emb_norm", trainable_features=True), bm3(seed, reg=0.01)
        assert abs(recall(norm) - recall(plain)) < 0.015
        assert recall(trained) < recall(norm) + 0.01, "training the features finds nothing more"
        assert sum(p.numel() for p in trained.parameters()) > 2 * sum(p.numel() for p in plain.parameters())
        assert recall(squared) < recall(plain) - 0.04
        assert follows(squared) < 0.1 < 0.7 < follows(plain)
