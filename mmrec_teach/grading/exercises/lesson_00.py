"""Cases of lesson 00: hide what a user already has, recall, NDCG. Arrays are numpy; the oracles loop over users on purpose."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mmrec_teach.grading.exercise import Case, Exercise, expect

# -- mask_seen ------------------------------------------------------------------------------------------------------------
mask_seen = Exercise("mask_seen", lesson="00", arrays="numpy")


@mask_seen.cases
def _mask_cases() -> Iterator[Case]:
    yield Case(
        "one user who owns item 1",
        scores=np.array([[0.1, 0.9, 0.5]]),
        rows=np.array([0]),
        items=np.array([1]),
    )
    yield Case(
        "two users who own different items",
        scores=np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]),
        rows=np.array([0, 1, 1]),
        items=np.array([0, 1, 2]),
    )


@mask_seen.random
def _mask_random(rng: np.random.Generator) -> Iterator[Case]:
    owned = rng.random((12, 30)) < 0.2
    owned[0, 0] = True
    owned[-1] = False
    rows, items = np.nonzero(owned)
    order = rng.permutation(len(rows))
    yield Case("twelve users at random", scores=rng.normal(size=(12, 30)), rows=rows[order], items=items[order])


@mask_seen.hidden
def _mask_hidden() -> Iterator[Case]:
    yield Case(
        "as many users as items",
        scores=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]),
        rows=np.array([0, 1]),
        items=np.array([2, 0]),
    )
    yield Case(
        "all scores below zero",
        scores=np.array([[-5.0, -4.0, -3.0]]),
        rows=np.array([0]),
        items=np.array([2]),
    )
    yield Case(
        "nobody owns anything",
        scores=np.array([[1.0, 2.0], [3.0, 4.0]]),
        rows=np.zeros(0, dtype=np.int64),
        items=np.zeros(0, dtype=np.int64),
    )
    yield Case(
        "a pair that is named twice",
        scores=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        rows=np.array([1, 0, 1]),
        items=np.array([2, 0, 2]),
    )


@mask_seen.oracle
def _mask_oracle(scores: np.ndarray, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    owned = set(zip(rows.tolist(), items.tolist(), strict=True))
    return np.array([[-math.inf if (r, i) in owned else float(s) for i, s in enumerate(row)] for r, row in enumerate(scores)])


@mask_seen.rule("an owned item is never in the list")
def _mask_never(function) -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(50, 20))
    rows, items = np.nonzero(rng.random((50, 20)) < 0.5)
    best = np.argmax(function(scores.copy(), rows, items), axis=1)
    owned = np.zeros((50, 20), dtype=bool)
    owned[rows, items] = True
    expect(not owned[np.arange(50), best].any(), "after masking, some user's best item is still one that the user owns")


@mask_seen.rule("hidden whatever the other scores are")
def _mask_lowest(function) -> None:
    masked = np.asarray(function(np.full((1, 3), -1e30), np.array([0]), np.array([1])))
    expect(
        int(np.argmax(masked[0])) != 1,
        "where all other scores are -1e30, the hidden item comes up first: only -np.inf is below every score",
    )


@mask_seen.wrong("the scores as they came: out[rows][:, items] = … writes into a copy, and out stays what it was")
def _mask_chained(scores, rows, items):
    out = scores.copy()
    out[rows][:, items] = -np.inf
    return out


@mask_seen.wrong("rows and items in each other's place")
def _mask_swapped(scores, rows, items):
    out = scores.copy()
    out[items, rows] = -np.inf
    return out


@mask_seen.wrong("a very low number in place of minus infinity: some score can be lower still")
def _mask_finite(scores, rows, items):
    out = scores.copy()
    out[rows, items] = -1e9
    return out


@mask_seen.wrong("zero in place of minus infinity")
def _mask_zero(scores, rows, items):
    out = scores.copy()
    out[rows, items] = 0.0
    return out


@mask_seen.wrong("the item hidden from everybody")
def _mask_column(scores, rows, items):
    out = scores.copy()
    out[:, items] = -np.inf
    return out


@mask_seen.wrong("every row crossed with every item")
def _mask_crossed(scores, rows, items):
    out = scores.copy()
    out[np.ix_(np.unique(rows), np.unique(items))] = -np.inf
    return out


@mask_seen.wrong("the items kept and all others hidden")
def _mask_inverted(scores, rows, items):
    out = np.full_like(scores, -np.inf)
    out[rows, items] = scores[rows, items]
    return out


@mask_seen.wrong("off by one: the items counted from 1")
def _mask_off_by_one(scores, rows, items):
    out = scores.copy()
    out[rows, items - 1] = -np.inf
    return out


@mask_seen.wrong("the caller's own table overwritten")
def _mask_in_place(scores, rows, items):
    scores[rows, items] = -np.inf
    return scores


# -- recall_at_k -----------------------------------------------------------------------------------------------------------
recall_at_k = Exercise("recall_at_k", lesson="00", arrays="numpy")


def _ranking_cases() -> Iterator[Case]:
    """For recall and NDCG alike."""
    yield Case("one relevant item, found at place 2", hits=np.array([[False, True, False]]), n_relevant=np.array([1]), k=3)
    yield Case("four relevant items, two found", hits=np.array([[True, False, True, False]]), n_relevant=np.array([4]), k=4)
    yield Case("a hit beyond place k", hits=np.array([[False, True, False, True]]), n_relevant=np.array([2]), k=2)
    yield Case(
        "three users with unlike histories",
        hits=np.array([[True, False, False], [False, False, True], [True, True, True]]),
        n_relevant=np.array([1, 6, 3]),
        k=3,
    )


def _ranking_random(rng: np.random.Generator) -> Iterator[Case]:
    """Three of the users are made so that each usual mistake shows, whatever the draw."""
    k = int(rng.integers(5, 9))
    hits = rng.random((12, k + 5)) < 0.25
    hits[0, rng.integers(k)] = hits[0, k + rng.integers(5)] = True  # hits on both sides of the cut
    hits[1] = False
    hits[1, rng.choice(k, size=2, replace=False)] = True  # two hits of three: less than the places
    hits[2, rng.integers(k)] = True
    n_relevant = hits.sum(1) + rng.integers(1, 4, 12)
    n_relevant[1] = 3
    n_relevant[2] = max(n_relevant[2], k) + 2  # more relevant items than places
    order = rng.permutation(12)
    yield Case("twelve users at random", hits=hits[order], n_relevant=n_relevant[order], k=k)


def _ranking_hidden() -> Iterator[Case]:
    yield Case("more relevant items than places", hits=np.array([[True, True]]), n_relevant=np.array([5]), k=2)
    yield Case("nothing found", hits=np.array([[False, False, False]]), n_relevant=np.array([2]), k=3)
    yield Case("the first place alone", hits=np.array([[True, True], [False, True]]), n_relevant=np.array([3, 1]), k=1)
    rng = np.random.default_rng(2)
    hits = rng.random((40, 20)) < 0.15
    yield Case("forty users", hits=hits, n_relevant=hits.sum(1) + rng.integers(1, 4, 40), k=10)


recall_at_k.cases(_ranking_cases)
recall_at_k.random(_ranking_random)
recall_at_k.hidden(_ranking_hidden)


@recall_at_k.oracle
def _recall_oracle(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    return np.array([sum(bool(h) for h in row[:k]) / int(n) for row, n in zip(hits, n_relevant, strict=True)])


@recall_at_k.wrong("precision: divided by k")
def _recall_precision(hits, n_relevant, k):
    return hits[:, :k].sum(1) / k


@recall_at_k.wrong("whole-number division: // throws the fraction away")
def _recall_floor(hits, n_relevant, k):
    return hits[:, :k].sum(1) // n_relevant


@recall_at_k.wrong("the cut-off forgotten")
def _recall_all(hits, n_relevant, k):
    return hits.sum(1) / n_relevant


@recall_at_k.wrong("hit rate: one hit is enough")
def _recall_hitrate(hits, n_relevant, k):
    return hits[:, :k].any(1).astype(float)


@recall_at_k.wrong("divided by the smaller of k and the relevant items")
def _recall_capped(hits, n_relevant, k):
    return hits[:, :k].sum(1) / np.minimum(n_relevant, k)


@recall_at_k.wrong("works for one user only: the hits of all users added up")
def _recall_one_user(hits, n_relevant, k):
    return hits[:, :k].sum() / n_relevant


@recall_at_k.wrong("off by one: the last of the k places left out")
def _recall_short(hits, n_relevant, k):
    return hits[:, : k - 1].sum(1) / n_relevant


@recall_at_k.wrong("all users pooled into one number")
def _recall_pooled(hits, n_relevant, k):
    return hits[:, :k].sum() / n_relevant.sum()


# -- ndcg_at_k -------------------------------------------------------------------------------------------------------------
ndcg_at_k = Exercise("ndcg_at_k", lesson="00", arrays="numpy")


@ndcg_at_k.cases
def _ndcg_cases() -> Iterator[Case]:
    yield Case("a single hit at the top", hits=np.array([[True, False, False]]), n_relevant=np.array([1]), k=3)
    yield from _ranking_cases()


ndcg_at_k.random(_ranking_random)
ndcg_at_k.hidden(_ranking_hidden)


@ndcg_at_k.oracle
def _ndcg_oracle(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    values = []
    for row, n in zip(hits, n_relevant, strict=True):
        found = sum(1.0 / math.log2(place + 1) for place, hit in enumerate(row[:k], start=1) if hit)
        best = sum(1.0 / math.log2(place + 1) for place in range(1, min(int(n), k) + 1))
        values.append(found / best)
    return np.array(values)


@ndcg_at_k.rule("a perfect list scores 1, whatever k is")
def _ndcg_perfect(function) -> None:
    hits = np.array([[True] * 2 + [False] * 8, [True] * 10])
    values = np.asarray(function(hits, np.array([2, 30]), 10), dtype=float)
    expect(values.shape == (2,), "one number a user is expected")
    expect(bool(np.allclose(values, 1.0)), f"two perfect lists score {values.round(3).tolist()} in place of [1.0, 1.0]")


@ndcg_at_k.rule("an earlier hit is worth more")
def _ndcg_order(function) -> None:
    values = np.asarray(function(np.eye(5, dtype=bool), np.ones(5, dtype=np.int64), 5), dtype=float)
    expect(bool((np.diff(values) < 0).all()), "moving the only hit one place down must lower the value every time")


@ndcg_at_k.wrong("place + 1 forgotten: log2(place) is 0 at the first place, and 1/0 is infinite")
def _ndcg_no_shift(hits, n_relevant, k):
    with np.errstate(all="ignore"):
        discount = 1 / np.log2(np.arange(1, k + 1))
        return hits[:, :k] @ discount / np.cumsum(discount)[np.minimum(n_relevant, k) - 1]


@ndcg_at_k.wrong("DCG: not divided by the best possible")
def _ndcg_dcg(hits, n_relevant, k):
    return hits[:, :k] @ (1 / np.log2(np.arange(2, k + 2)))


@ndcg_at_k.wrong("the ideal list made of the hits that were found")
def _ndcg_found(hits, n_relevant, k):
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.sort(hits[:, :k], axis=1)[:, ::-1] @ discount
    return np.divide(hits[:, :k] @ discount, ideal, out=np.zeros(len(hits)), where=ideal > 0)


@ndcg_at_k.wrong("an ideal list of k hits for everybody")
def _ndcg_full(hits, n_relevant, k):
    discount = 1 / np.log2(np.arange(2, k + 2))
    return hits[:, :k] @ discount / discount.sum()


@ndcg_at_k.wrong("1/rank in place of 1/log2(rank + 1)")
def _ndcg_reciprocal(hits, n_relevant, k):
    discount = 1 / np.arange(1, k + 1)
    ideal = np.cumsum(discount)[np.minimum(n_relevant, k) - 1]
    return hits[:, :k] @ discount / ideal


@ndcg_at_k.wrong("an ideal list longer than k")
def _ndcg_uncut(hits, n_relevant, k):
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.array([np.sum(1 / np.log2(np.arange(2, n + 2))) for n in n_relevant])
    return hits[:, :k] @ discount / ideal


@ndcg_at_k.wrong("off by one: the first place paid like the second")
def _ndcg_shifted(hits, n_relevant, k):
    discount = 1 / np.log2(np.arange(3, k + 3))
    ideal = np.cumsum(discount)[np.minimum(n_relevant, k) - 1]
    return hits[:, :k] @ discount / ideal


@ndcg_at_k.wrong("the cut-off forgotten")
def _ndcg_all(hits, n_relevant, k):
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.cumsum(discount[:k])[np.minimum(n_relevant, k) - 1]
    return hits @ discount / ideal
