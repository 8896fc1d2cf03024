"""What lesson 00 claims, measured over three seeds: floor and ceiling, what is hidden, how the split is made, who chooses on test."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mmrec_teach.data import Interactions, load, splits
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import create

pytestmark = pytest.mark.claim
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module", params=SEEDS)
def shop(request):
    """The bazaar, split at random with one of three seeds."""
    return load("bazaar", split="random", seed=request.param)


def recall(name: str, data, **settings) -> float:
    return evaluate(create(name, data), data, "test", ks=(20,), **settings).mean("recall@20")


def test_random_popularity_neighbours_oracle_in_this_order(shop):
    found = {
        name: evaluate(create(name, shop), shop, "test", ks=(20,)) for name in ("random", "popularity", "item-knn", "oracle")
    }
    for metric in ("recall@20", "ndcg@20"):
        values = [found[name].mean(metric) for name in found]
        assert all(b > 1.2 * a for a, b in pairwise(values)), (metric, values)
    times = found["popularity"].mean() / found["random"].mean()
    assert 2.5 < times < 9, times


def test_hiding_less_costs_those_who_know_the_user_most(shop):
    by_mask = {
        mask: {name: recall(name, shop, mask=mask) for name in ("popularity", "item-knn", "oracle")}
        for mask in ((), ("train",), ("train", "valid"))
    }
    nothing, train, both = by_mask.values()
    for name in ("item-knn", "oracle"):
        assert nothing[name] < 0.92 * both[name], name
        assert train[name] < both[name], name
        assert train[name] > 0.95 * both[name], "a small gain, the lesson says"
    assert nothing["item-knn"] < 0.9 * both["item-knn"]
    lost = {name: 1 - nothing[name] / both[name] for name in both}
    assert lost["popularity"] < 0.75 * lost["item-knn"], lost


@pytest.fixture(scope="module")
def exams(bazaar):
    """The same events split in three ways; the random one with three seeds."""
    events = Interactions.concatenate(bazaar.train, bazaar.valid, bazaar.test)

    def judged(how: str, seed: int = 0):
        data = bazaar.with_splits(*splits.make(events, how, seed=seed))
        return {name: evaluate(create(name, data), data, "test", ks=(20,)) for name in ("item-knn", "oracle")}

    return {("random", seed): judged("random", seed) for seed in SEEDS} | {
        (how, 0): judged(how) for how in ("user-time", "global-time")
    }


def fair(evaluation, users: np.ndarray) -> float:
    """Share of these users' warm test items among the first 20."""
    rows, items = evaluation.relevant
    counted = np.isin(evaluation.users[rows], users) & (evaluation.item_counts[items] > 0)
    ranks = evaluation.relevant_ranks[counted]
    return float(((ranks > 0) & (ranks <= 20)).mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_more_future_leaks_the_higher_the_number(exams, seed):
    order = [exams["random", seed], exams["user-time", 0], exams["global-time", 0]]
    knn = [found["item-knn"].mean() for found in order]
    assert knn[0] > 1.03 * knn[1] > 1.03 * 1.1 * knn[2], knn
    assert 0.62 < knn[0] < 0.71, "about two thirds"
    assert knn[2] < 0.5
    share = [found["item-knn"].mean() / found["oracle"].mean() for found in order]
    assert share[0] > share[1] > share[2], share

    late = order[2]["item-knn"].users
    # the same users, warm items only: what is left of a fall that the oracle falls, too, is no leak
    knn, oracle = ([fair(found[name], late) for found in order] for name in ("item-knn", "oracle"))
    assert knn[0] > knn[1] > knn[2]
    assert oracle[1] < 0.95 * oracle[0], "late purchases are harder to guess for anybody"
    of_oracle = [mine / best for mine, best in zip(knn, oracle, strict=True)]
    assert abs(of_oracle[0] - of_oracle[1]) < 0.05, of_oracle
    assert of_oracle[2] < min(of_oracle[:2]) - 0.05, of_oracle


def test_people_take_what_they_like_best_early(bazaar):
    everything = Interactions.concatenate(bazaar.train, bazaar.valid, bazaar.test)
    order = np.lexsort((everything.timestamps, everything.users))
    users, items = everything.users[order], everything.items[order]
    counts = np.bincount(users, minlength=bazaar.n_users)
    place = (np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)) / np.maximum(
        np.repeat(counts, counts) - 1, 1
    )
    liking = bazaar.truth.utility[users, items]
    assert liking[place < 1 / 3].mean() > liking[place > 2 / 3].mean() + 0.1


@pytest.mark.parametrize("first_seed", [0, 20, 40])
def test_choosing_on_test_flatters_even_a_coin(bazaar, first_seed):
    on_test = coins_on(bazaar, "test", first_seed)
    assert on_test.max() > 1.08 * on_test.mean()


def test_chosen_on_valid_a_coin_is_judged_honestly_on_average(bazaar):
    on_valid, on_test = (np.array([coins_on(bazaar, split, first) for first in (0, 20, 40)]) for split in ("valid", "test"))
    chosen = on_test[np.arange(3), on_valid.argmax(axis=1)] / on_test.mean(axis=1)
    assert chosen[0] > 1.2
    assert chosen[1] < 0.8
    assert 0.9 < chosen.mean() < 1.1


def coins_on(bazaar, split: str, first_seed: int) -> np.ndarray:
    """Recall@20 of twenty random models."""
    return np.array(
        [evaluate(create("random", bazaar, seed=first_seed + n), bazaar, split, ks=(20,)).mean() for n in range(20)]
    )


@pytest.mark.parametrize("k", [100])
def test_a_longer_list_makes_popularity_look_twice_as_good(shop, k):
    found = evaluate(create("popularity", shop), shop, "test", ks=(20, k))
    assert found.mean(f"recall@{k}") > 2 * found.mean("recall@20")
    for name in ("popularity", "item-knn", "oracle"):
        found = evaluate(create(name, shop), shop, "test", ks=(5, 20, k))
        falling = [found.mean(f"precision@{n}") for n in (5, 20, k)]
        assert falling[0] > falling[1] > falling[2], (name, falling)


def test_mia_is_there(bazaar):
    """The visitor whom the lessons follow: a large interest and a smaller one, hidden things of both, some of them findable."""
    mia = int(np.flatnonzero(bazaar.user_ids == "v0660")[0])
    category = bazaar.items["category"].to_numpy()
    taken, hidden = (part.items[part.users == mia] for part in (bazaar.train, bazaar.test))
    kinds, counts = np.unique(category[taken], return_counts=True)
    assert len(taken) > 15
    assert len(kinds) == 2
    assert counts.max() > 1.5 * counts.min()
    assert "rug" in kinds
    assert len(hidden) >= 3
    assert set(category[hidden]) == set(kinds)
    knn = evaluate(create("item-knn", bazaar), bazaar, "test")
    top = knn.topk[np.flatnonzero(knn.users == mia)[0], :14]
    assert 0 < np.isin(top, hidden).sum() < len(hidden)
    smaller = kinds[counts.argmin()]
    assert (category[top] == smaller).mean() < counts.min() / counts.sum(), "crowded out"
    unhidden = evaluate(create("item-knn", bazaar), bazaar, "test", mask=())
    assert np.isin(unhidden.topk[np.flatnonzero(unhidden.users == mia)[0], :7], taken).any()


def test_a_longer_list_flatters_the_weak(shop):
    def lead(data):
        knn, popularity = (evaluate(create(name, data), data, "test", ks=(20, 100)) for name in ("item-knn", "popularity"))
        return [knn.mean(metric) / popularity.mean(metric) for metric in ("recall@20", "recall@100")]

    few, many = lead(load("bazaar"))  # the panel's numbers
    assert 4.5 < few < 5.5, "five times"
    assert 1.7 < many < 2.5, "about twice"
    few, many = lead(shop)
    assert many < 0.6 * few
