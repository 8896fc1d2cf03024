"""What lesson 01 claims of BPR, measured over three seeds with the lesson's settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mmrec_teach.evaluation import Evaluation, compare, evaluate
from mmrec_teach.models import BPR, create
from mmrec_teach.ops import losses
from mmrec_teach.training import fit, train
from mmrec_teach.views import Setting, replay

pytestmark = pytest.mark.claim
SEEDS = (0, 1, 2)


class EmbLossBPR(BPR):
    """BPR with the released code's penalty."""

    def losses(self, batch, active=None):
        terms = super().losses(batch, active)
        if "l2" in terms:
            terms["l2"] = losses.emb_norm(self.user_id(batch.users), self.item_id(batch.items), self.item_id(batch.negatives))
        return terms


@dataclass
class Run:
    """A trained model, its test lists, and the item vectors it began with."""

    model: BPR
    found: Evaluation
    start: torch.Tensor

    @property
    def items(self) -> torch.Tensor:
        return self.model.item_id.weight.detach()


@pytest.fixture(scope="module")
def run(bazaar):
    """Train once for each setting asked for: run(seed, l2=, negatives=, cls=)."""
    done: dict[tuple, Run] = {}

    def get(seed: int, l2: float = 0.01, negatives: str = "warm", cls: type[BPR] = BPR) -> Run:
        key = (seed, l2, negatives, cls)
        if key not in done:
            model = cls(bazaar, dim=32, seed=seed)
            start = model.item_id.weight.detach().clone()
            settings = {"epochs": 25, "lr": 5e-3, "batch_size": 1024, "metrics_every": 0, "seed": seed}
            for _ in train(model, bazaar, weights={"l2": l2}, negatives=negatives, device="cpu", **settings):
                pass
            done[key] = Run(model, evaluate(model, bazaar, "test"), start)
        return done[key]

    return get


@pytest.mark.parametrize("seed", SEEDS)
def test_beats_popularity_by_far_but_not_item_neighbours(run, bazaar, seed):
    bpr, knn = run(seed).found, evaluate(create("item-knn", bazaar), bazaar, "test")
    assert bpr.mean() > 2.5 * evaluate(create("popularity", bazaar), bazaar, "test").mean()
    assert bpr.mean() < knn.mean() < 1.15 * bpr.mean(), "a little ahead"
    assert compare(knn, bpr, "ndcg@20").low > 0, "clearly so for NDCG, user by user"


@pytest.mark.parametrize("seed", SEEDS)
def test_validation_flattens_while_the_loss_falls_on(bazaar, seed):
    model = create("bpr", bazaar, dim=32, seed=seed)
    settings = {"epochs": 60, "patience": 6, "metrics_every": 2, "progress": False, "lr": 5e-3, "batch_size": 1024}
    result = fit(model, bazaar, weights={"l2": 0.01}, seed=seed, device="cpu", **settings)
    near = next(e for e in result.history if e.metrics and e.metrics["recall@20"] >= 0.97 * result.best["recall@20"])
    last = result.history[-1]
    assert near.epoch < 0.7 * last.epoch
    assert last.losses["bpr"] < 0.8 * near.losses["bpr"]
    assert last.losses["l2"] > near.losses["l2"]
    knn = evaluate(create("item-knn", bazaar), bazaar, "test")
    found = evaluate(model, bazaar, "test")
    assert found.mean() < knn.mean()
    assert compare(knn, found, "ndcg@20").low > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_cold_items_get_nothing(run, bazaar, seed):
    found = run(seed)
    cold = found.found.cold()
    assert cold["items"] > 30
    assert cold["relevant"] > 100
    assert cold["recall@20"] < 0.005
    assert abs(cold["recall_among_cold@20"] - cold["chance_among_cold@20"]) < 0.12
    rows = torch.from_numpy(bazaar.cold_items.copy())
    assert torch.equal(found.items[rows], found.start[rows]), "no gradient ever reaches a cold item"
    assert float((found.items - found.start)[~rows].norm(dim=1).mean()) > 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rarer_an_item_the_less_is_found(run, seed):
    assert run(seed).found.by_frequency()["recall@20"].is_monotonic_increasing


def test_among_themselves_cold_items_are_ranked_by_chance(run):
    cold = [run(seed).found.cold() for seed in SEEDS]
    beyond = [c["recall_among_cold@20"] - c["chance_among_cold@20"] for c in cold]
    assert abs(np.mean(beyond)) < 0.06
    assert min(beyond) < 0 < max(beyond), "now below, now above"


@pytest.mark.parametrize("seed", SEEDS)
def test_categories_emerge_from_pairs_alone(run, bazaar, seed):
    found, warm = run(seed), ~bazaar.cold_items
    category = bazaar.items["category"].to_numpy()[warm]

    def purity(table: torch.Tensor) -> float:
        unit = torch.nn.functional.normalize(table[warm], dim=1)
        nearest = (unit @ unit.T).fill_diagonal_(-2).topk(10).indices.numpy()
        return float((category[nearest] == category[:, None]).mean())

    assert purity(found.start) < 0.12
    assert purity(found.items) > 0.85


@pytest.mark.parametrize("seed", SEEDS)
def test_leans_to_popular_items_less_than_popularity_and_more_than_taste(run, bazaar, seed):
    def count(evaluation: Evaluation) -> float:
        return float(bazaar.item_counts[evaluation.topk[:, :20]].mean())

    popularity, oracle = (evaluate(create(name, bazaar), bazaar, "test") for name in ("popularity", "oracle"))
    assert 1.1 * count(oracle) < count(run(seed).found) < 0.7 * count(popularity)
    assert run(seed).found.mean("coverage@20") > 5 * popularity.mean("coverage@20")


@pytest.mark.parametrize("seed", SEEDS)
def test_too_much_l2_fills_the_lists_with_cold_items(run, seed):
    mild, far = run(seed, l2=0.1).found, run(seed, l2=1.0).found
    assert mild.mean() > 0.9 * run(seed).found.mean()
    assert mild.cold()["share@20"] < 0.01
    assert far.mean() < 0.3 * run(seed).found.mean()
    assert far.mean("coverage@20") < 0.5 * mild.mean("coverage@20")
    assert far.cold()["share@20"] > 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_four_dimensions_keep_more_than_half_and_cold_items_stay_lost_at_any_size(bazaar, seed):
    found = {}
    for dim in (4, 32, 128):
        model, _ = replay(Setting.from_text(f"bpr?dim={dim}&epochs=30&seed={seed}"), bazaar, metrics_every=0, device="cpu")
        found[dim] = evaluate(model, bazaar, "valid")
        assert found[dim].cold()["recall@20"] < 0.005
    four, most = (found[dim].mean() / found[32].mean() for dim in (4, 128))
    assert 0.5 < four < 0.75
    assert 0.97 < most < 1.1, "most of 128 are spare"


@pytest.mark.parametrize("seed", SEEDS)
def test_emb_loss_hardly_regularises_at_the_same_weight(run, bazaar, seed):
    warm = ~bazaar.cold_items
    none, emb, squared = (
        float(run(seed, l2, cls=cls).items[warm].norm(dim=1).mean())
        for l2, cls in ((0.0, BPR), (0.01, EmbLossBPR), (0.01, BPR))
    )
    assert none - emb < 0.2 * (none - squared)
    assert none - squared > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_negatives_from_all_items_push_cold_items_down(run, bazaar, seed):
    cold = torch.from_numpy(bazaar.cold_items.copy())

    def place(model: BPR) -> float:
        with model.evaluating():
            places = model.score(torch.arange(bazaar.n_users)).argsort(1, descending=True).argsort(1)
        return places[:, cold].double().mean().item() / (bazaar.n_items - 1)

    warm_pool, whole_pool = run(seed), run(seed, negatives="all")
    assert place(whole_pool.model) > place(warm_pool.model) + 0.05
    assert whole_pool.items[cold].norm(dim=1).mean() > 2 * warm_pool.items[cold].norm(dim=1).mean()
    assert abs(whole_pool.found.mean() - warm_pool.found.mean()) < 0.05
    assert whole_pool.found.cold()["recall@20"] < 0.005


def test_the_released_logarithm_gives_up_very_wrong_pairs():
    margins = torch.tensor([-5.0, -40.0], requires_grad=True)
    zero = torch.zeros(2)
    (paper,) = torch.autograd.grad(losses.bpr(margins, zero) * 2, margins)
    (released,) = torch.autograd.grad(losses.bpr_released(margins, zero) * 2, margins)
    torch.testing.assert_close(-paper, torch.tensor([0.9933, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(-released, torch.tensor([0.9933, 0.0]), atol=1e-3, rtol=0)
