"""What lesson 10 claims of density peaks and interests, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from mmrec_teach.data import load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.evaluation.recovery import Tokens, recovery, token_table, tokens_of
from mmrec_teach.models import create
from mmrec_teach.ops.clustering import density_peaks, dpc_knn, minibatch_kmeans
from mmrec_teach.training import train
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
SMALL = {"dim": 32, "length": 10, "inner": 64, "heads": 2, "dropout": 0.2, "scaling": "unit", "ids": False}


def kmeans(x: torch.Tensor, n: int, seed: int) -> np.ndarray:
    return KMeans(n, n_init=1, random_state=seed).fit(x.numpy()).labels_


def ari(found, truth) -> float:
    return recovery(found, truth)["ari"]


@functools.cache
def tokens(name: str, scaling: str) -> Tokens:
    return tokens_of(load("bazaar"), name, scaling)


def kind(of: Tokens) -> np.ndarray:
    return load("bazaar").truth.item_interest[of.items]


@functools.cache
def fitted(seed: int, epochs: int = 3, interests: str = "dpc"):
    """The lesson's training."""
    data = load("bazaar")
    model = create("missrec", data, seed=seed, interests=interests, **SMALL)
    for _ in train(model, data, seed=seed, epochs=epochs, lr=5e-3, batch_size=512, metrics_every=0, device="cpu"):
        pass
    model.find_interests()
    return model


@pytest.mark.parametrize("seed", SEEDS)
def test_heaps_of_uneven_width(seed):
    rng = np.random.default_rng(seed)
    heap = np.repeat(np.arange(3), (150, 30, 20))
    middle, spread = np.array([[0, 0], [3.2, 0.8], [3.2, -0.8]]), np.array((1.0, 0.25, 0.25))
    x = torch.tensor(3 * (middle[heap] + spread[heap, None] * rng.normal(size=(200, 2))), dtype=torch.float32)
    nearest, uphill = ari(dpc_knn(x, 3, 10).assignment, heap), ari(dpc_knn(x, 3, 10, assign="parent").assignment, heap)
    assert uphill > nearest > 0.7
    assert uphill > 0.85
    assert max(ari(kmeans(x, 3, start), heap) for start in SEEDS) < 0.45
    peaks = density_peaks(x, 10)
    assert (heap[peaks.density.argsort(descending=True)[:10]] > 0).all(), "the densest points lie in the small heaps"
    if seed == 1:  # the lesson's picture
        score = peaks.score.sort(descending=True).values
        assert float(score[2]) > 2 * float(score[3])
        third = dpc_knn(x, 3, peaks=peaks).centres[2]
        longer = peaks.delta > peaks.delta[third]
        longer[dpc_knn(x, 3, peaks=peaks).centres] = False
        assert int(longer.sum()) == 2, "outliers with longer lines than the third hilltop"
        assert float(peaks.density[longer].max()) < 0.01


def test_on_raw_pictures_dpc_is_within_what_the_seeds_of_kmeans_differ_by_and_on_unit_rows_below():
    raw, unit = tokens("image", "raw"), tokens("image", "unit")
    means = [ari(kmeans(raw.x, 12, seed), kind(raw)) for seed in SEEDS]
    dpc = ari(dpc_knn(raw.x, 12, 5).assignment, kind(raw))
    assert min(means) < dpc < max(means)
    assert max(means) - min(means) > 0.05
    assert max(*means, dpc) < 0.4, "a third of the way"
    scaled = ari(dpc_knn(unit.x, 12, 5).assignment, kind(unit))
    assert scaled < min(ari(kmeans(unit.x, 12, seed), kind(unit)) for seed in SEEDS)
    assert scaled < min(ari(minibatch_kmeans(unit.x, 12, seed=seed).assignment, kind(unit)) for seed in SEEDS)


def test_uphill_on_raw_pictures_is_the_best_of_density_peaks_and_loses_on_unit_rows():
    raw, unit = tokens("image", "raw"), tokens("image", "unit")
    uphill = {k: [ari(dpc_knn(raw.x, n, k, assign="parent").assignment, kind(raw)) for n in (12, 24)] for k in (10, 13, 20)}
    means = [max(ari(kmeans(raw.x, n, seed), kind(raw)) for seed in SEEDS) for n in (12, 24)]
    assert uphill[10][0] > means[0] + 0.05
    assert max(uphill[20][1], uphill[10][1]) > means[1]
    assert uphill[13][0] < means[0] - 0.02
    for k in (5, 10, 20):
        low = min(ari(kmeans(unit.x, 12, seed), kind(unit)) for seed in SEEDS)
        assert ari(dpc_knn(unit.x, 12, k, assign="parent").assignment, kind(unit)) < low


def test_density_depends_on_the_scale():
    peaks = density_peaks(tokens("image", "unit").x, 5)
    assert float(peaks.density.min()) > np.exp(-4 / 64)
    assert float(peaks.density.min()) > 0.98
    score = peaks.score.sort(descending=True).values
    assert float(score[11] / score[12]) < 1.1, "no gap after the twelfth"
    raw = tokens("image", "raw")
    dpc = {c: ari(dpc_knn(c * raw.x, 12, 5).assignment, kind(raw)) for c in (0.25, 0.5, 1.0, 2.0)}
    assert dpc[1.0] == max(dpc.values())
    assert dpc[0.25] < dpc[1.0] / 2
    for seed in SEEDS:
        own = [ari(kmeans(c * raw.x, 12, seed), kind(raw)) for c in dpc]
        assert max(own) - min(own) < 0.02, "k-means does not care"


def test_scale_is_not_why_density_peaks_lose_on_unit_rows():
    unit = tokens("image", "unit")
    low = min(ari(kmeans(unit.x, 12, seed), kind(unit)) for seed in SEEDS)
    lonely = {}
    for c in (1, 4, 8):
        peaks = density_peaks(c * unit.x, 5)
        found = dpc_knn(c * unit.x, 12, 5, peaks=peaks)
        assert 0.2 < ari(found.assignment, kind(unit)) < low
        lonely[c] = int((peaks.density[found.centres] < peaks.density.quantile(0.25)).sum())
    assert lonely[1] >= 2
    assert lonely[8] == 0
    assert float(peaks.density.max() - peaks.density.min()) > 0.4
    for scaling in ("raw", "unit"):
        of = tokens("image", scaling)
        nearest = torch.cdist(of.x, of.x).fill_diagonal_(torch.inf).argmin(1)
        assert 0.88 < (kind(of)[nearest] == kind(of)).mean() < 0.93, "nine of ten"


def test_pictures_follow_the_kind_and_captions_the_spirit():
    extra = load("bazaar").truth.extra
    for name, best in (("image", "kind"), ("text", "spirit")):
        of = tokens(name, "unit")
        truths = {"kind": kind(of)} | {f: extra[f][of.items] for f in ("hue", "tone", "pattern", "spirit", "making")}
        each = [dpc_knn(of.x, 12, 5).assignment, *(kmeans(of.x, 12, seed) for seed in SEEDS)]
        for found in each:
            told = {f: ari(found, values) for f, values in truths.items()}
            assert max(told, key=told.get) == best
    assert told["kind"] < 0.03


def test_raw_modalities_in_one_table_make_one_heap():
    both = tokens_of(load("bazaar"))
    found = dpc_knn(both.x, 12, 5)
    assert int(found.sizes.max()) > 0.75 * len(both)
    assert len(np.unique(both.modality[found.assignment == found.sizes.argmax()])) == 2
    density = density_peaks(both.x, 5).density
    picture, words = (density[torch.from_numpy(both.modality == m)].median() for m in (0, 1))
    assert float(words) > float(picture) + 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_training_brings_the_kinds_out(seed):
    before, after = fitted(seed, 0), fitted(seed)
    alike = {}
    for name, model in (("before", before), ("after", after)):
        of = token_table(model)
        own = model.interest_of[model.has]
        alike[name] = recovery(own, kind(of))["pairs"]
        assert recovery(own, of.modality)["pairs"] > 0.97, "an interest is of pictures or of words"
    assert 0.5 < alike["before"] < 0.7
    assert alike["after"] > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_after_training_kmeans_is_ahead_at_the_planted_number(seed):
    old, new = token_table(fitted(seed, 0)), token_table(fitted(seed))
    truth = kind(new) * 2 + new.modality
    for form in ("nearest", "parent"):
        dpc = [ari(dpc_knn(of.x, 24, 5, assign=form).assignment, truth) for of in (old, new)]
        assert dpc[1] > dpc[0] + 0.3
        assert dpc[1] < min(ari(kmeans(new.x, 24, start), truth) for start in SEEDS)
    assert dpc[0] < 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_each_once_does_much_with_coarse_interests_and_little_with_half_of_the_tokens(seed):
    model = fitted(seed)
    of, label = token_table(model), torch.from_numpy(kind(token_table(model)))
    few = torch.full_like(model.interest_of, 24)
    few[model.has] = dpc_knn(of.x, 24, 5).assignment
    items, lengths = model.history(torch.arange(model.n_users))
    told = {}
    for name, table, none in (("half", model.interest_of, len(model.interest)), ("24", few, 24)):
        flat = table[model.has]
        kinds = torch.full((none + 1,), -1)
        for number in flat.unique():
            kinds[number] = label[flat == number].mode().values
        shares = []
        for row, length in zip(items, lengths, strict=True):
            have = table[row[:length]].flatten()
            have = have[have < none]
            shares.append(
                [np.bincount(kinds[part]).max() / len(part) for part in (have, have.unique())]
                + [len(have.unique()) / len(have)]
            )
        told[name] = np.mean(shares, axis=0)
    assert told["24"][0] - told["24"][1] > 0.08
    assert told["half"][0] - told["half"][1] < 0.06
    assert told["half"][2] > 0.7
    assert told["24"][2] < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_finder_hardly_matters_for_recall(seed):
    data = load("bazaar")
    recall = [evaluate(fitted(seed, 3, how), data, "test").mean("recall@20") for how in ("dpc", "kmeans", "none")]
    assert max(recall) - min(recall) < 0.03
    assert min(recall) > 0.45


def test_copies_without_a_rule_for_equal_densities():
    of = tokens("image", "raw")
    copies = torch.cat([of.x, of.x[:40].repeat(3, 1)])
    where = np.concatenate([of.items, np.tile(of.items[:40], 3)])
    labels = load("bazaar").truth.item_interest[where]
    ruled, strict = dpc_knn(copies, 12, 5), dpc_knn(copies, 12, 5, ties="strict")
    assert len(copies[ruled.centres].unique(dim=0)) == 12
    assert len(copies[strict.centres].unique(dim=0)) <= 4
    assert ari(ruled.assignment, labels) > ari(strict.assignment, labels) + 0.08
    alone = [dpc_knn(of.x, 12, 5, **form) for form in ({}, {"top": "all"}, {"ties": "strict"})]
    assert all(torch.equal(alone[0].assignment, one.assignment) for one in alone[1:])
    others = dpc_knn(of.x, 12, 5, include_self=False)
    assert abs(ari(others.assignment, kind(of)) - ari(alone[0].assignment, kind(of))) < 0.05
