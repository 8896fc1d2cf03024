"""What lesson 02 claims of content, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.models import create
from mmrec_teach.training import train

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
EDGES = (1, 10, 20, 40)
UNIT = {"scaling": "unit"}


@pytest.fixture(autouse=True)
def _one_thread():
    """Tables this small gain nothing from a second thread, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def shuffled() -> Dataset:
    """The bazaar in which every item has another item's features."""
    bazaar = load("bazaar")
    order = np.random.default_rng(0).permutation(bazaar.n_items)
    return bazaar.with_features(
        {m: f[order] for m, f in bazaar.features.items()}, {m: gone[order] for m, gone in bazaar.missing.items()}
    )


@functools.cache
def judged(
    name: str, seed: int, l2: float, swapped: bool = False, negatives: str = "warm", l2_content: float = 0.0, **options
) -> Evaluation:
    """The test split's evaluation after the lesson's training: 30 epochs of Adam 1e-2, batches of 1,024, vectors of 32 numbers."""
    data = shuffled() if swapped else load("bazaar")
    model = create(name, data, dim=32, seed=seed, **options)
    weights = {"l2": l2, "l2_content": l2_content} if l2_content else {"l2": l2}
    how = {"epochs": 30, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights=weights, seed=seed, negatives=negatives, **how):
        pass
    return evaluate(model, data, "test")


def bpr(seed: int) -> Evaluation:
    return judged("bpr", seed, 0.03)


def vbpr(seed: int, **options) -> Evaluation:
    return judged("vbpr", seed, 0.01, content_dim=32, **options)


def warm_recall(result: Evaluation) -> float:
    table = result.by_frequency(edges=EDGES).query("low > 0")
    return float((table["recall@20"] * table["relevant"]).sum() / table["relevant"].sum())


def mean_of(measure, results) -> float:
    return float(np.mean([measure(result) for result in results]))


def bucket(result: Evaluation, row: int) -> float:
    return float(result.by_frequency(edges=EDGES)["recall@20"].iloc[row])


@pytest.mark.parametrize("options", [{}, UNIT], ids=["raw", "unit"])
def test_content_rescues_cold_items(options):
    for seed in SEEDS:
        cold = vbpr(seed, **options).cold()
        assert bucket(bpr(seed), 0) < 0.02
        assert 0.3 < bucket(vbpr(seed, **options), 0) < 0.6, "the lesson's right answer is 'about 0.4'"
        assert cold["recall_among_cold@20"] > 0.85 > cold["chance_among_cold@20"] + 0.3


def test_content_helps_the_rarest_warm_items_and_costs_the_head():
    for options in ({}, UNIT):
        assert mean_of(lambda r: bucket(r, 1), [vbpr(s, **options) for s in SEEDS]) > mean_of(
            lambda r: bucket(r, 1), [bpr(s) for s in SEEDS]
        )
        for seed in SEEDS:
            assert bucket(vbpr(seed, **options), 4) < bucket(bpr(seed), 4) - 0.02


def test_raw_features_hurt_and_length_one_gives_part_of_it_back():
    for seed in SEEDS:
        none, raw, unit = bpr(seed), vbpr(seed), vbpr(seed, **UNIT)
        assert raw.mean("recall@20") + 0.05 < unit.mean("recall@20") < none.mean("recall@20")
        assert raw.mean("ndcg@20") < unit.mean("ndcg@20") < none.mean("ndcg@20")
        assert warm_recall(raw) + 0.05 < warm_recall(unit) < warm_recall(none)


def test_a_smaller_content_weight_costs_the_whole_nothing_and_still_reaches_cold_items():
    gains = []
    for seed in SEEDS:
        none, third, full = (vbpr(seed, **UNIT, content_weight=w) for w in (0.0, 0.3, 1.0))
        gains.append(third.mean("recall@20") - none.mean("recall@20"))
        assert third.mean("recall@20") > full.mean("recall@20") + 0.01, "better than the paper's 1"
        assert bucket(none, 0) < 0.02 < 0.2 < bucket(third, 0) < bucket(full, 0), "w buys cold items …"
        assert warm_recall(none) > warm_recall(third) > warm_recall(full), "… with warm ones"
    assert min(gains) > 0, "a little ahead of no content at every seed"
    of_third = [vbpr(seed, **UNIT, content_weight=0.3).mean("recall@20") for seed in SEEDS]
    assert np.mean(gains) < max(of_third) - min(of_third), "on average by less than seeds differ"


def test_cold_items_as_negatives_halve_the_rescue():
    share = []
    for seed in SEEDS:
        warm, everything = vbpr(seed, **UNIT), judged("vbpr", seed, 0.01, content_dim=32, negatives="all", **UNIT)
        share.append(bucket(everything, 0) / bucket(warm, 0))
        assert share[-1] < 0.65
        assert warm_recall(everything) > warm_recall(warm)
    assert 0.35 < np.mean(share) < 0.6, "about half is left"


def test_regularising_the_projection_ends_the_rescue_and_recall_over_all_does_not_tell():
    for seed in SEEDS:
        none = vbpr(seed, **UNIT)
        little, more = (judged("vbpr", seed, 0.01, content_dim=32, l2_content=v, **UNIT) for v in (1e-4, 1e-3))
        assert bucket(little, 0) > 0.3
        assert bucket(more, 0) < 0.15
        assert abs(more.mean("recall@20") - none.mean("recall@20")) < 0.02
        assert warm_recall(more) > warm_recall(none) + 0.03, "warm items get the places"


def test_the_released_form_finds_a_little_more_and_fewer_cold_items():
    form = {"modalities": ("text", "image"), "item_bias": False, "content_bias": False, "projection_bias": True}
    for seed in SEEDS:
        released, paper = judged("vbpr", seed, 1e-4, content_dim=32, regularizer="emb_norm", **form), vbpr(seed)
        assert 0 < released.mean("recall@20") - paper.mean("recall@20") < 0.03
        assert bucket(released, 0) < bucket(paper, 0)


def test_features_of_other_items_are_worse_than_none():
    for seed in SEEDS:
        wrong = vbpr(seed, **UNIT, swapped=True)
        assert warm_recall(wrong) < warm_recall(bpr(seed)) - 0.15
        assert bucket(wrong, 0) < 0.1


def test_each_modality_serves_those_who_mind_it():
    care = load("bazaar").truth.care[:, 0]
    for seed in SEEDS:
        picture, words, both = (vbpr(seed, **UNIT, **o) for o in ({"modalities": ("image",)}, {"modalities": ("text",)}, {}))

        def camp(result, members):
            return result.per_user["recall@20"][members[result.users]].mean()

        eyes, readers = care > 0.67, care < 0.33
        assert camp(picture, eyes) > camp(words, eyes) + 0.04
        assert camp(words, readers) > camp(picture, readers) + 0.04
        assert camp(words, readers) > camp(bpr(seed), readers), "words help those who mind them"
        assert camp(picture, eyes) < camp(bpr(seed), eyes), "pictures do not lift theirs above history"
        assert both.mean("recall@20") > max(picture.mean("recall@20"), words.mean("recall@20"))
