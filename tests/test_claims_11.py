"""What lesson 11 claims of pre-training, transfer and fusion, measured over seeds with the lesson's settings."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import MISSRec, create
from mmrec_teach.models.missrec import alikeness
from mmrec_teach.training import train
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
SMALL = {"dim": 32, "length": 10, "heads": 2, "inner": 64}
SHOPS = "bazaar/garden+bazaar/kitchen+bazaar/attic"
HOW = {"device": "cpu", "metrics_every": 0}


@functools.cache
def pretrained(name: str, epochs: int, seed: int) -> MISSRec:
    """The lesson's pre-training."""
    data = load(name)
    model = create("missrec", data, ids=False, seed=seed, **SMALL)
    weights = MISSRec.pretraining | {"seq_seq": 0.0}
    for _ in train(model, data, weights=weights, seed=seed, epochs=epochs, lr=5e-3, batch_size=512, **HOW):
        pass
    return model


@functools.cache
def other_encoder() -> Dataset:
    """The main domain, the columns of its features in another order."""
    bazaar, order = load("bazaar"), np.random.default_rng(7)
    moved = {name: table[:, order.permutation(table.shape[1])] for name, table in bazaar.features.items()}
    return bazaar.with_features(moved, bazaar.missing)


def fewer(data: Dataset, share: float, seed: int) -> Dataset:
    chosen = np.random.default_rng(seed).permutation(data.n_users)[: int(share * data.n_users)]
    parts = {name: data.split(name) for name in ("train", "valid", "test")}
    return dataclasses.replace(data, **{name: part.select(np.isin(part.users, chosen)) for name, part in parts.items()})


def judged(model, data: Dataset) -> tuple[float, float]:
    result = evaluate(model, data, "test")
    return result.mean("recall@20"), result.cold()["recall@20"]


@functools.cache
def told(seed: int, start: tuple[str, int] | None, share: float, epochs: int, columns: str, options: tuple):
    data = load("bazaar") if columns == "own" else other_encoder()
    model = create("missrec", data, seed=seed, **({"ids": False} | SMALL | dict(options)))
    if start is not None:
        model.adopt(pretrained(*start, seed))
    learned_from, how = data if share == 1 else fewer(data, share, seed), {"lr": 3e-3, "batch_size": 128 if share < 1 else 512}
    rows = [judged(model, data)]
    for record in train(model, learned_from, seed=seed, epochs=epochs, **how, **HOW):
        rows.append(judged(model, data) if record.epoch in (1, epochs) else (np.nan, np.nan))
    return model, np.array(rows)


THREE, ATTIC, GARDEN = (SHOPS, 6), ("bazaar/attic", 10), ("bazaar/garden", 10)


def few(seed: int, start=None, columns: str = "own", **options) -> np.ndarray:
    """Recall (all, cold) before, after the first and after the last of five epochs with a tenth of the users."""
    return told(seed, start, 0.1, 5, columns, tuple(sorted(options.items())))[1]


def full(seed: int, start=None, **options):
    """The model, and recall (all, cold) before, after the first and after the last of three epochs with all users."""
    return told(seed, start, 1.0, 3, "own", tuple(sorted(options.items())))


@functools.cache
def baseline(name: str) -> float:
    return judged(create(name, load("bazaar")), load("bazaar"))[0]


def test_the_small_weight_of_diversity_does_not_keep_interests_apart():
    shops = load(SHOPS)
    for seed in SEEDS:
        terms = []
        for model in (create("missrec", shops, ids=False, seed=seed, **SMALL), pretrained(*THREE, seed)):
            with model.evaluating():
                _, z, known = model.read(*model.history(torch.arange(0, shops.n_users, 4)))
                terms.append(alikeness(z, known).item())
        assert terms[1] > terms[0] + 0.1


def test_before_any_training_a_pre_trained_model_is_ahead_of_an_untrained_one_and_that_of_popularity():
    for seed in SEEDS:
        untrained, elsewhere = few(seed)[0], few(seed, THREE)[0]
        assert baseline("random") + 0.05 < baseline("popularity") < untrained[0] < elsewhere[0] - 0.04
        assert elsewhere[1] > untrained[1] + 0.05, "cold items too"


def test_with_few_users_the_lead_depends_on_which_users_they_are():
    whole = [few(seed, THREE)[:, 0] - few(seed)[:, 0] for seed in SEEDS]
    parts = [few(seed, THREE, tune="adapters")[:, 0] - few(seed)[:, 0] for seed in SEEDS]
    assert min(lead[1] for lead in whole) > 0, "ahead after one epoch, whoever they are"
    assert np.mean([lead[5] for lead in whole]) > 0.015
    assert np.mean([lead[5] for lead in parts]) > 0.01
    assert [lead[5] > 0.02 for lead in whole] == [True, False, True], "and a small loss with the second draw"
    assert -0.03 < whole[1][5] < 0
    cold = [[few(seed, THREE, **how)[5, 1] - few(seed)[5, 1] for seed in SEEDS] for how in ({}, {"tune": "adapters"})]
    assert 0.005 < min(map(np.mean, cold)) <= max(map(np.mean, cold)) < 0.055, "cold items, on average"
    assert cold[0][0] < 0.01, "used up at the lesson's seed"


def test_adapters_are_a_sixth_of_the_numbers():
    model = create("missrec", load("bazaar"), ids=False, tune="adapters", **SMALL)
    trained, total = model.trained_share()
    assert 0.15 < trained / total < 0.18


def test_with_all_users_the_lead_is_about_two_hundredths_and_adapters_have_less_of_it():
    for seed in SEEDS:
        scratch, whole, parts = full(seed)[1], full(seed, THREE)[1], full(seed, THREE, tune="adapters")[1]
        assert 0.015 < whole[3, 0] - scratch[3, 0] < 0.035
        assert scratch[3, 0] < parts[3, 0] < whole[3, 0]
    cold = [full(seed, THREE)[1][3, 1] - full(seed)[1][3, 1] for seed in SEEDS]
    assert min(cold) < -0.03 < 0.03 < max(cold), "no clear gain for the cold"


def test_ids_add_recall_and_lose_the_cold():
    for seed in SEEDS:
        without, ids = (full(seed, THREE, tune="adapters", **more)[1] for more in ({}, {"ids": True}))
        assert ids[3, 0] > without[3, 0] + 0.01
        assert ids[3, 1] < 0.02 < 0.2 < without[3, 1]


@functools.cache
def in_batch(seed: int) -> np.ndarray:
    """As :func:`full`, pre-trained, the in-batch loss in place of the softmax over all items."""
    data = load("bazaar")
    model = create("missrec", data, ids=False, seed=seed, **SMALL).adopt(pretrained(*THREE, seed))
    weights = {"ce": 0.0, "seq_item": 1.0}
    for _ in train(model, data, weights=weights, seed=seed, epochs=3, lr=3e-3, batch_size=512, **HOW):
        pass
    return np.array(judged(model, data))


def test_a_softmax_over_all_items_learns_that_cold_ones_are_not_taken():
    for seed in SEEDS:
        rows, parts = full(seed, THREE)[1], full(seed, THREE, tune="adapters")[1]
        assert rows[3, 1] < rows[1, 1] - 0.05, "the cold fall from epoch to epoch"
        assert parts[3, 1] < parts[1, 1] - 0.01, "also with adapters only"
        assert in_batch(seed)[1] > rows[3, 1] + 0.1
        assert in_batch(seed)[0] < rows[3, 0] - 0.05, "and over all items it finds less"


def test_another_encoder_hurts_at_first():
    for seed in SEEDS:
        scratch, moved = few(seed)[:, 0], few(seed, THREE, columns="permuted")[:, 0]
        assert baseline("random") + 0.02 < moved[0] < scratch[0] - 0.02
        assert moved[1] < scratch[1] - 0.05
        assert abs(moved[5] - scratch[5]) < 0.04, "and is near after five epochs"


def test_the_attic_teaches_to_step_away_from_what_was_taken_and_the_garden_does_not():
    for seed in SEEDS:
        untrained, attic, three = (few(seed, start)[0, 0] for start in (None, ATTIC, THREE))
        garden = told(seed, GARDEN, 0.1, 0, "own", ())[1][0, 0]  # before any training: no epoch is run
        assert attic < min(untrained, garden) - 0.03
        assert garden < three - 0.03
    first = [few(seed, ATTIC)[1, 0] - few(seed)[1, 0] for seed in SEEDS]
    assert -0.1 < min(first) < -0.05 < max(first) < 0.01
    fifth = [few(seed, ATTIC)[5, 0] - few(seed)[5, 0] for seed in SEEDS]
    assert max(map(abs, fifth)) < 0.04
    assert [lead > 0 for lead in fifth] == [True, False, False]


def picture_shares(model: MISSRec, lam: float | None = None) -> np.ndarray:
    bazaar, before = load("bazaar"), model.sharpness.item()
    taken = torch.zeros(bazaar.n_users, bazaar.n_items, dtype=torch.bool)
    taken[bazaar.train.users, bazaar.train.items] = True
    with model.evaluating():
        model.sharpness.fill_(before if lam is None else lam)
        h = model.encode(*model.history(torch.arange(model.n_users)))
        share = model.shares(torch.einsum("bd,mid->bim", h, model.candidates()))[..., model.modality.names.index("image")]
        model.sharpness.fill_(before)
    own = taken & model.has.all(1)
    return ((share * own).sum(1) / own.sum(1)).numpy()


def test_shares_differ_by_user_and_hardly_follow_care():
    care = pd.Series(load("bazaar").truth.care[:, 0])
    for seed in SEEDS:
        model = full(seed, THREE)[0]
        learned = picture_shares(model)
        assert 0 < model.sharpness.item() < 0.4
        assert 0.46 < learned.min() < learned.max() < 0.54
        assert picture_shares(model, 3.0).max() - picture_shares(model, 3.0).min() > 0.3
        follows = [pd.Series(picture_shares(model, lam)).corr(care, method="spearman") for lam in (None, 10.0)]
        assert 0.0 < min(follows) <= max(follows) < 0.25
        assert abs(follows[0] - follows[1]) < 0.05, "whatever λ is"


def test_a_large_sharpness_costs_recall_and_the_learned_one_is_like_the_mean():
    for seed in SEEDS:
        model, _ = full(seed, THREE)
        before, recall = model.sharpness.item(), {}
        for lam in (0.0, before, 10.0):
            model.sharpness.data.fill_(lam)
            recall[lam] = judged(model, load("bazaar"))[0]
        model.sharpness.data.fill_(before)
        assert abs(recall[0.0] - recall[before]) < 0.01
        assert recall[10.0] < recall[0.0] - 0.02


def test_adapters_around_a_reader_that_never_learned():
    for seed in SEEDS:
        assert few(seed, tune="adapters")[5, 0] > 0.8 * few(seed)[5, 0]


def test_forms_of_paper_and_code_hardly_differ():
    for seed in SEEDS:
        for form in ({"missing": "bias"}, {"regularizer": "released"}):
            assert abs(few(seed, THREE, **form)[5, 0] - few(seed, THREE)[5, 0]) < 0.025
