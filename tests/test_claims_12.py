"""What lesson 12 claims of towers, gates, clusters and searches, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from mmrec_teach.data import load
from mmrec_teach.data.counts import check_counts, with_future
from mmrec_teach.errors import DataError
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.long_tail import long_tail
from mmrec_teach.evaluation.retrieval import item_table, query_table
from mmrec_teach.models import TwoTower, create
from mmrec_teach.ops.index import VectorIndex, recall_of
from mmrec_teach.training import train
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
SETTINGS = {"dim": 32, "temperature": 0.2}
APART = {"id": 1.0, "content": 1.0, "triplet": 0.0, "l2": 1e-4}
ONLY = {"id": 0.0, "content": 0.0, "triplet": 0.0, "l2": 1e-4}
SHOWN = {"gate": "sum", "new_share": 0.3}


@functools.cache
def _trained(seed: int, options: tuple, weights: tuple) -> tuple[TwoTower, dict[str, float]]:
    data = load("bazaar")
    model = create("two-tower", data, seed=seed, **SETTINGS, **dict(options))
    how = {"seed": seed, "epochs": 5, "lr": 5e-3, "batch_size": 512, "device": "cpu", "metrics_every": 0}
    *_, last = train(model, data, weights=dict(weights) or None, **how)
    return model, last.losses


def trained(seed: int, weights: dict[str, float] | None = None, **options) -> tuple[TwoTower, dict[str, float]]:
    """The lesson's model, and the losses of its last epoch."""
    return _trained(seed, tuple(sorted(options.items())), tuple((weights or {}).items()))


def new() -> np.ndarray:
    return load("bazaar").cold_items


def judged(model: TwoTower) -> tuple[Evaluation, np.ndarray]:
    """The evaluation; recall@20, the share found of purchases of known and of new items."""
    result = evaluate(model, load("bazaar"), "test", ks=(20,))
    return result, np.array([result.mean("recall@20"), *shares(result.relevant_ranks, new()[result.relevant[1]])])


def shares(ranks: np.ndarray, cold: np.ndarray) -> tuple[float, float]:
    found = (ranks > 0) & (ranks <= 20)
    return found[~cold].mean(), found[cold].mean()


@functools.cache
def alone(seed: int) -> dict[str, tuple[Evaluation, np.ndarray]]:
    """One training without a gate, judged by each tower and by both."""
    model, _ = trained(seed, APART, gate="none")
    told = {}
    for model.serve in ("id", "content", "both"):
        told[model.serve] = judged(model)
    return told


@functools.cache
def gated(seed: int, **options) -> tuple[Evaluation, np.ndarray, np.ndarray]:
    """Evaluation, what is found, g of every item."""
    model, _ = trained(seed, **options)
    with model.evaluating():
        g = model.gates().numpy()
    return *judged(model), g


def test_the_shop_window_closes_before_any_new_item():
    bazaar = load("bazaar")
    assert not bazaar.exposures[new()].any()
    assert not bazaar.clicks[new()].any()
    assert bazaar.exposures[~new()].min() > 100


def test_behaviour_knows_nothing_of_new_items_content_does_and_added_they_lose_it():
    for seed in SEEDS:
        behaviour, content, both = (alone(seed)[serve][1] for serve in ("id", "content", "both"))
        assert behaviour[2] == 0
        assert content[2] > 0.45
        assert content[0] > behaviour[0] - 0.01
        assert both[2] < 0.1
        assert -0.005 < both[1] - behaviour[1] < 0.02, "little is gained"


def test_a_triplet_joins_the_views_and_finds_no_more():
    for seed in SEEDS:
        first = []
        for model in (trained(seed, APART, gate="none")[0], trained(seed, APART | {"triplet": 10.0}, gate="none")[0]):
            model.serve = "both"
            with model.evaluating():
                cosine = model.z_c()[~new()] @ model.z_id()[~new()].T
            first.append((cosine.argmax(1) == torch.arange(len(cosine))).float().mean().item())
            if len(first) == 1:
                assert cosine.diagonal().mean() > 0.7, "close already"
        assert first[1] > first[0] + 0.3
        assert -0.04 < judged(model)[1][0] - alone(seed)["both"][1][0] < -0.01


def test_a_gate_that_never_saw_a_new_item_gives_it_no_more_content():
    for seed in SEEDS:
        _, told, g = gated(seed, gate="sum")
        assert g[new()].mean() < g[~new()].mean() + 0.02
        assert told[2] < 0.1
        _, told, g = gated(seed, gate="concat")
        assert g[new()].mean() > g[~new()].mean() + 0.05, "concat's leans the right way"
        assert told[2] < 0.1, "and it does not help"


def test_shown_new_items_the_gate_gives_them_their_content():
    for seed in SEEDS:
        _, told, g = gated(seed, **SHOWN)
        plain = alone(seed)["both"][1]
        assert g[new()].mean() > 0.95 > 0.7 > g[~new()].mean()
        assert told[2] > 0.5
        assert -0.05 < told[1] - gated(seed, gate="sum")[1][1] < -0.02, "known items lose some"
        assert told[0] > plain[0] + 0.01
        known = load("bazaar").item_counts
        assert abs(g[(known > 0) & (known < 6)].mean() - g[known > 27].mean()) < 0.1, "flat among known items"


def test_the_articles_picture_stands_in_concat_on_training_counts():
    counts = load("bazaar").item_counts
    for seed in SEEDS:
        for form, sign in (("concat", 1), ("sum", -1)):
            _, told, g = gated(seed, gate=form, statistics="others")
            steps = [g[(counts >= low) & (counts <= high)].mean() for low, high in ((0, 0), (1, 5), (6, 17), (18, 99))]
            gaps = -sign * np.diff(steps)
            assert gaps.min() > (0.03 if sign > 0 else -0.01), form
            assert told[2] < 0.25


def test_the_sum_finds_more_new_items_than_concat_and_is_as_good_over_all():
    for seed in SEEDS:
        (_, total, _), (_, beside, g) = gated(seed, **SHOWN), gated(seed, gate="concat", new_share=0.3)
        assert total[2] > beside[2] + 0.05
        assert abs(total[0] - beside[0]) < 0.012
        assert g[~new()].mean() < gated(seed, **SHOWN)[2][~new()].mean() - 0.1, "concat turns down everybody's content"
        assert 0.005 < gated(seed, gate="sum")[1][0] - gated(seed, gate="concat")[1][0] < 0.025


def lists(scores: torch.Tensor) -> tuple[float, float]:
    """Share found of known and new items' purchases among the 20 best of these scores."""
    bazaar = load("bazaar")
    has = torch.zeros(bazaar.n_users, bazaar.n_items, dtype=torch.bool)
    for split in ("train", "valid"):
        has[torch.tensor(bazaar.split(split).users), torch.tensor(bazaar.split(split).items)] = True
    best = scores.masked_fill(has, -torch.inf).topk(20).indices.numpy()
    hit = (best[bazaar.test.users] == bazaar.test.items[:, None]).any(1)
    cold = new()[bazaar.test.items]
    return hit[~cold].mean(), hit[cold].mean()


def test_one_rule_does_what_the_gate_does():
    for seed in SEEDS:
        model, _ = trained(seed, APART, gate="none")
        model.serve = "both"
        with model.evaluating():
            q, (own, seen) = model.users(), model.items()
        rule = lists(q @ (torch.where(model.warm[:, None], own, seen) + seen).T)
        assert np.abs(np.array(rule) - gated(seed, **SHOWN)[1][1:]).max() < 0.04


def test_a_gate_can_be_turned_without_training():
    for seed in SEEDS:
        model, _ = trained(seed, gate="sum")
        with model.evaluating():
            own, seen, q, inside = model.z_id(), model.z_c(), model.users(), torch.logit(model.gates())
        told = []
        for lean in (0.0, 4.0):
            g = (inside + lean).sigmoid()[:, None]
            told.append(lists(q @ ((1 - g) * own + g * seen).T))
        assert told[1][1] > 0.45 > 0.1 > told[0][1]
        assert -0.07 < told[1][0] - told[0][0] < -0.02


def test_late_counts_hold_the_answers_are_found_out_and_do_nothing_here():
    bazaar, late = load("bazaar"), with_future(load("bazaar"))
    check_counts(bazaar)
    with pytest.raises(DataError, match="know the future"):
        check_counts(late)
    bought = np.bincount(bazaar.test.items, minlength=bazaar.n_items)[new()]
    most = np.argsort(-late.clicks[new()], kind="stable")[:20]
    assert bought[most].sum() / bought.sum() > 20 / new().sum() + 0.2
    for seed in SEEDS:
        model = create("two-tower", late, allow_leak=True, seed=seed, **SHOWN, **SETTINGS)
        model.load_state_dict(trained(seed, **SHOWN)[0].state_dict())
        assert np.abs(judged(model)[1] - gated(seed, **SHOWN)[1])[:2].max() < 0.005
        assert -0.03 < judged(model)[1][2] - gated(seed, **SHOWN)[1][2] < 0.005


def test_a_cluster_number_is_coarse_content_and_in_the_end_an_id():
    for seed in SEEDS:
        told = {}
        for name, tower, clusters in (
            (4, "content", 4),
            (64, "content", 64),
            (600, "content", 600),
            ("x", "content", 0),
            ("id", "id", 0),
        ):
            model, losses = trained(seed, ONLY | {tower: 1.0}, gate="none", serve=tower, clusters=clusters)
            told[name] = losses[tower], *judged(model)[1][1:]
        assert told[4][0] > told[64][0] + 0.5 > told[600][0] + 0.7, "the loss falls"
        assert abs(told[600][0] - told["id"][0]) < 0.04, "to that of the IDs"
        assert told["x"][0] < told["id"][0] + 0.05, "and features are nearly there too"
        assert told[600][2] < 0.03 < 0.45 < told["x"][2], "new items"
        for n in (4, 64):
            assert abs(told[n][1] - told[n][2]) < 0.06, "as poor on known as on new items"
        assert told[64][1] < told[600][1] - 0.15


def test_a_few_lists_find_nearly_all_and_purchases_suffer_less():
    pytest.importorskip("faiss")
    bazaar = load("bazaar")
    owned = [
        np.r_[bazaar.train.items[bazaar.train.users == u], bazaar.valid.items[bazaar.valid.users == u]]
        for u in range(bazaar.n_users)
    ]
    for seed in SEEDS:
        model, _ = trained(seed, **SHOWN)
        with model.evaluating():
            x, q = item_table(model), query_table(model, model.user_vectors(torch.arange(bazaar.n_users)))
        exact = VectorIndex.build(x).search(q, 20, exclude=owned)[1]
        place = torch.arange(1, 21).expand_as(exact)

        def bought(lists: torch.Tensor) -> int:
            return int((lists.numpy()[bazaar.test.users] == bazaar.test.items[:, None]).any(1).sum())

        for probes, least, most in ((1, 0.5, 0.8), (2, 0.8, 0.95), (4, 0.94, 0.99), (8, 0.98, 1.0)):
            found = VectorIndex.build(x, kind="ivf", lists=24, probes=probes).search(q, 20, exclude=owned)[1]
            share = recall_of(found, exact)
            assert least < share < most
            assert bought(found) / bought(exact) > share
            missed = ~(exact[:, :, None] == found[:, None, :]).any(2)
            assert place[missed].float().mean() > 11.5, "rather at the end"
        found = VectorIndex.build(x, kind="hnsw", links=8, search_width=20).search(q, 20, exclude=owned)[1]
        assert recall_of(found, exact) > 0.98


def test_whom_the_lists_reach_with_content_and_without_log_q():
    for seed in SEEDS:
        unfair = judged(trained(seed, logq=False, **SHOWN)[0])
        fair = gated(seed, **SHOWN)
        table = long_tail({"before": alone(seed)["id"][0], "fair": fair[0], "unfair": unfair[0]}).set_index("model")
        assert alone(seed)["id"][0].cold()["share@20"] == 0
        assert fair[0].cold()["share@20"] > 0.1 > new().mean()
        assert table.loc["fair", "reach@20"] > table.loc["before", "reach@20"] + 0.02
        assert table.loc["unfair", "reach@20"] > 0.98 > table.loc["fair", "reach@20"] + 0.03
        rare, popular = "found 1-5", table.columns[table.columns.str.startswith("found")][-1]
        assert abs(table.loc["fair", rare] - table.loc["before", rare]) < 0.08, "the gate does nothing for rare known items"
        assert table.loc["unfair", rare] > 3 * table.loc["fair", rare]
        assert table.loc["unfair", popular] < table.loc["fair", popular] - 0.15
        assert unfair[1][0] < fair[1][0] - 0.06
