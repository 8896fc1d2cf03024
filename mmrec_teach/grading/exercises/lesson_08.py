"""Exercises of lesson 08: the mean taste, its target among the first k, co-purchase scores, hiding a modality, Kendall's τ."""

from __future__ import annotations

import math

import numpy as np

from mmrec_teach.grading.exercise import Case, Exercise, expect

# -- the mean of what a user took ---------------------------------------------------------------------------------------------
taste_vectors = Exercise("taste_vectors", lesson="08", arrays="numpy")


@taste_vectors.cases
def _():
    yield Case(
        "two users, three items",
        features=np.array([[2.0, 0.0], [0.0, 4.0], [6.0, 2.0]]),
        rows=np.array([0, 1, 0, 1]),
        items=np.array([0, 1, 2, 2]),
        n_users=2,
    )
    yield Case(
        "one item has no content, one user took nothing",
        features=np.array([[3.0, 1.0], [0.0, 0.0], [1.0, -1.0]]),
        rows=np.array([2, 0, 0, 2]),
        items=np.array([0, 1, 2, 2]),
        n_users=3,
    )


@taste_vectors.random
def _(rng):
    features = rng.normal(size=(9, 4)) * rng.uniform(0.5, 4, (9, 1))
    gone = rng.permutation(9)[:2]
    features[gone] = 0.0
    full = np.setdiff1d(np.arange(9), gone)
    order = rng.permutation(6)  # user order[0] took nothing, order[1] one full and one empty item, the others three full ones
    pairs = [(order[1], rng.choice(full)), (order[1], gone[0])]
    pairs += [(user, item) for user in order[2:] for item in rng.choice(full, 3, replace=False)]
    pairs = np.array(pairs)[rng.permutation(len(pairs))]
    yield Case("six users at random", features=features, rows=pairs[:, 0], items=pairs[:, 1], n_users=6)


@taste_vectors.hidden
def _():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(5, 3))
    features[2] = 0.0
    yield Case("everything she took is without content", features=features, rows=np.array([1]), items=np.array([2]), n_users=2)
    yield Case(
        "opposite tastes cancel",
        features=np.array([[1.0, -2.0], [-1.0, 2.0], [0.5, 0.5]]),
        rows=np.array([0, 0]),
        items=np.array([0, 1]),
        n_users=1,
    )


@taste_vectors.oracle
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    for user in range(n_users):
        taken = [features[i] for r, i in zip(rows, items, strict=True) if r == user and any(features[i])]
        for column in range(features.shape[1]):
            out[user, column] = math.fsum(v[column] for v in taken) / max(len(taken), 1)
    return out


@taste_vectors.wrong("the sum: nobody divided")
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    np.add.at(out, rows, features[items])
    return out


@taste_vectors.wrong("items without content counted in the mean")
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    np.add.at(out, rows, features[items])
    return out / np.maximum(np.bincount(rows, minlength=n_users), 1)[:, None]


@taste_vectors.wrong("out[rows] += …: of a user who stands there several times numpy adds only once")
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    out[rows] += features[items]
    full = features.any(1)[items]
    return out / np.maximum(np.bincount(rows[full], minlength=n_users), 1)[:, None]


@taste_vectors.wrong("nothing divided by nothing: a user without items is not a number")
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    np.add.at(out, rows, features[items])
    full = features.any(1)[items]
    with np.errstate(all="ignore"):
        return out / np.bincount(rows[full], minlength=n_users)[:, None]


@taste_vectors.wrong("each vector scaled to length 1 before the mean")
def _(features, rows, items, n_users):
    length = np.sqrt((features**2).sum(1, keepdims=True))
    features = features / np.where(length > 0, length, 1)
    out = np.zeros((n_users, features.shape[1]))
    np.add.at(out, rows, features[items])
    full = features.any(1)[items]
    return out / np.maximum(np.bincount(rows[full], minlength=n_users), 1)[:, None]


@taste_vectors.wrong("the last item alone: out[rows] += … or out[rows] = … keeps one item a user")
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    for row, item in zip(rows, items, strict=True):
        out[row] = features[item]
    return out


@taste_vectors.wrong("divided by the number of all purchases, everybody's")
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    np.add.at(out, rows, features[items])
    return out / len(rows)


@taste_vectors.wrong("the mean scaled to length 1")
def _(features, rows, items, n_users):
    out = np.zeros((n_users, features.shape[1]))
    np.add.at(out, rows, features[items])
    length = np.sqrt((out**2).sum(1, keepdims=True))
    return out / np.where(length > 0, length, 1)


# -- is the target among the first k? -----------------------------------------------------------------------------------------
found_at_k = Exercise("found_at_k", lesson="08", arrays="numpy")


@found_at_k.cases
def _():
    yield Case(
        "one query, four items, the second by angle",
        queries=np.array([[1.0, 0.0]]),
        features=np.array([[0.1, 0.01], [9.0, 9.0], [0.2, 0.1], [-1.0, 0.0]]),
        rows=np.array([], dtype=np.int64),
        items=np.array([], dtype=np.int64),
        targets=np.array([2]),
        k=2,
    )
    yield Case(
        "three queries: her own items do not compete",
        queries=np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]),
        features=np.array([[1.0, 0.1], [1.0, 0.3], [1.0, 0.6], [0.1, 1.0], [0.9, 1.0]]),
        rows=np.array([0, 0, 2]),
        items=np.array([0, 1, 4]),
        targets=np.array([2, 1, 2]),
        k=1,
    )


def _traps(rng: np.random.Generator, k: int) -> dict[str, np.ndarray | int]:
    """All queries point one way, so every item's place is known; each row is a trap for one mistake."""
    d, up, down, empty = 5, k + 6, k + 3, k + 1
    direction = rng.normal(size=d)
    direction /= np.linalg.norm(direction)
    angles = np.concatenate([np.linspace(0.95, 0.2, up), np.linspace(-0.2, -0.9, down)]) + rng.uniform(-0.01, 0.01, up + down)
    aside = rng.normal(size=(up + down, d))
    aside -= (aside @ direction)[:, None] * direction
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    vectors = angles[:, None] * direction + np.sqrt(1 - angles**2)[:, None] * aside
    vectors /= (angles**2)[:, None]  # the worse the angle, the longer: by inner product the order is another
    n = up + down + empty
    at = rng.permutation(n)  # place by angle -> index; the last are without content
    features = np.zeros((n, d))
    features[at[: up + down]] = vectors
    best, first_down, none = at[:up], at[up], at[up + down :]
    lowest = int(np.flatnonzero(features.any(1))[0])
    cases = [  # length of the query, target, what she took
        (50.0, best[k - 1], []),
        (50.0, best[k], []),
        (1.0, best[k + 1], []),
        (0.1, best[k + 2], best[:3]),
        (0.0, lowest, []),
        (1.0, none[0], best),
        (1.0, first_down, best),
    ]
    order = rng.permutation(len(cases))
    rows = np.concatenate([np.full(len(cases[c][2]), r) for r, c in enumerate(order)]).astype(np.int64)
    return {
        "queries": np.array([cases[c][0] for c in order])[:, None] * direction,
        "features": features,
        "rows": rows,
        "items": np.concatenate([np.asarray(cases[c][2], dtype=np.int64) for c in order]),
        "targets": np.array([cases[c][1] for c in order]),
        "k": k,
    }


@found_at_k.random
def _(rng):
    yield Case("seven queries", **_traps(rng, int(rng.integers(3, 6))))


@found_at_k.hidden
def _():
    yield Case("only the first place counts", **_traps(np.random.default_rng(1), 1))
    rng = np.random.default_rng(2)
    yield Case(
        "more places than items",
        queries=rng.normal(size=(3, 2)),
        features=rng.normal(size=(4, 2)),
        rows=np.array([0, 1]),
        items=np.array([1, 2]),
        targets=np.array([0, 3, 1]),
        k=9,
    )
    yield Case(
        "more places than items, and a target without content",
        queries=np.array([[1.0, 0.5], [0.0, 0.0], [1.0, -2.0]]),
        features=np.array([[2.0, 1.5], [0.0, 0.0], [-1.0, 0.5]]),
        rows=np.array([0]),
        items=np.array([2]),
        targets=np.array([1, 0, 2]),
        k=9,
    )


@found_at_k.oracle
def _(queries, features, rows, items, targets, k):
    def cosine(a, b):
        return float(np.sum(a * b)) / math.sqrt(float(np.sum(a * a)) * float(np.sum(b * b)))

    out = []
    for row, (query, target) in enumerate(zip(queries, targets, strict=True)):
        taken = {int(i) for r, i in zip(rows, items, strict=True) if r == row}
        open_items = [i for i in range(len(features)) if i not in taken and any(features[i])]
        if not any(query) or target not in open_items:
            out.append(False)
            continue
        ranked = sorted(open_items, key=lambda i: -cosine(query, features[i]))
        out.append(bool(target in ranked[: int(k)]))
    return np.array(out)


@found_at_k.rule("one yes or no a query")
def _(found_at_k):
    given = _traps(np.random.default_rng(5), 3)
    answer = np.asarray(found_at_k(*given.values()))
    expect(answer.shape == (7,), f"seven queries went in, and an array of shape {answer.shape} came back")
    expect(answer.dtype == bool, f"the answers should be True or False; they are {answer.dtype}")


@found_at_k.wrong("inner products: long vectors win")
def _(queries, features, rows, items, targets, k):
    scores = queries @ features.T
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("distances in place of angles")
def _(queries, features, rows, items, targets, k):
    scores = -((queries[:, None] - features[None]) ** 2).sum(-1)
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("what she took competes as well")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[:, ~features.any(1)] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("what one user took is hidden from everybody")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[:, ~features.any(1)] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    scores[:, items] = -np.inf
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("what one user took is struck out for everybody, other users' targets too")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[:, ~features.any(1)] = -np.inf
    scores[:, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("a row of zeros divided by its length: its cosines are not numbers, and nothing is larger than that")
def _(queries, features, rows, items, targets, k):
    with np.errstate(all="ignore"):
        unit = [t / np.sqrt((t**2).sum(1, keepdims=True)) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return (scores > own[:, None]).sum(1) < k


@found_at_k.wrong("with more places than items everything is found, a target without content too")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("an item without content has a cosine of 0, and beats all that point away")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & features.any(1)[targets] & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("a target without content can be found")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    own = scores[np.arange(len(targets)), targets]
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    return queries.any(1) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("a query of zeros finds something: all scores are equal")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return np.isfinite(own) & ((scores > own[:, None]).sum(1) < k)


@found_at_k.wrong("off by one: place k + 1 counts too")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) <= k)


@found_at_k.wrong("off by one: place k is left out")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = unit[0] @ unit[1].T
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) < k - 1)


@found_at_k.wrong("the wrong way round: the least similar come first")
def _(queries, features, rows, items, targets, k):
    unit = [t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (queries, features)]
    scores = -(unit[0] @ unit[1].T)
    scores[:, ~features.any(1)] = -np.inf
    scores[rows, items] = -np.inf
    own = scores[np.arange(len(targets)), targets]
    return queries.any(1) & np.isfinite(own) & ((scores > own[:, None]).sum(1) < k)


# -- co-purchase --------------------------------------------------------------------------------------------------------------
cf_scores = Exercise("cf_scores", lesson="08", arrays="numpy")


@cf_scores.cases
def _():
    yield Case("four users, three items", users=np.array([0, 0, 1, 2, 2, 3]), items=np.array([0, 1, 1, 0, 1, 2]), n_items=3)
    yield Case("nobody bought the last item", users=np.array([0, 0, 1, 1, 2]), items=np.array([0, 1, 0, 1, 0]), n_items=3)


@cf_scores.random
def _(rng):
    bought = rng.random((14, 6)) < np.linspace(0.15, 0.7, 6)
    bought[0], bought[1:4, 0], bought[1:9, 5] = True, True, True
    users, items = np.nonzero(bought)
    order, name = rng.permutation(len(users)), rng.permutation(7)  # one of the seven has no buyer
    yield Case("fourteen users at random", users=users[order], items=name[items[order]], n_items=7)


@cf_scores.hidden
def _():
    yield Case("nobody bought two things", users=np.arange(4), items=np.array([0, 1, 2, 2]), n_items=4)
    users, items = np.nonzero(np.random.default_rng(8).random((30, 9)) < 0.3)
    yield Case("thirty users", users=users, items=items, n_items=9)


@cf_scores.oracle
def _(users, items, n_items):
    buyers = [{int(u) for u, i in zip(users, items, strict=True) if i == item} for item in range(int(n_items))]
    out = np.zeros((len(buyers), len(buyers)))
    for i, a in enumerate(buyers):
        for j, b in enumerate(buyers):
            if i != j and a and b:
                out[i, j] = len(a & b) / math.sqrt(len(a) * len(b))
    return out


@cf_scores.wrong("common buyers alone: everybody's partner is the bestseller")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    scores = taken.T @ taken
    np.fill_diagonal(scores, 0)
    return scores


@cf_scores.wrong("every item is its own partner: the diagonal stays")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    n = np.maximum(taken.sum(0), 1)
    return taken.T @ taken / np.sqrt(np.outer(n, n))


@cf_scores.wrong("the root is missing")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    n = np.maximum(taken.sum(0), 1)
    scores = taken.T @ taken / np.outer(n, n)
    np.fill_diagonal(scores, 0)
    return scores


@cf_scores.wrong("Jaccard: divided by the buyers of either")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    common, n = taken.T @ taken, taken.sum(0)
    scores = common / np.maximum(n[:, None] + n - common, 1)
    np.fill_diagonal(scores, 0)
    return scores


@cf_scores.wrong("divided by the item's own buyers only")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    scores = taken.T @ taken / np.maximum(taken.sum(0), 1)[:, None]
    np.fill_diagonal(scores, 0)
    return scores


@cf_scores.wrong("nothing divided by nothing where an item has no buyer")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    n = taken.sum(0)
    with np.errstate(all="ignore"):
        scores = taken.T @ taken / np.sqrt(np.outer(n, n))
    np.fill_diagonal(scores, 0)
    return scores


@cf_scores.wrong("users compared in place of items")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    n = np.maximum(taken.sum(1), 1)
    scores = taken @ taken.T / np.sqrt(np.outer(n, n))
    np.fill_diagonal(scores, 0)
    return scores


@cf_scores.wrong("divided by the larger of the two numbers of buyers")
def _(users, items, n_items):
    taken = np.zeros((users.max() + 1, n_items))
    taken[users, items] = 1
    n = np.maximum(taken.sum(0), 1)
    scores = taken.T @ taken / np.maximum(n[:, None], n)
    np.fill_diagonal(scores, 0)
    return scores


# -- hide a modality ------------------------------------------------------------------------------------------------------------
hide_share = Exercise("hide_share", lesson="08", arrays="numpy")


@hide_share.cases
def _():
    yield Case(
        "half of four items",
        table=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]),
        order=np.array([2, 0, 3, 1]),
        share=0.5,
    )
    yield Case(
        "three of five have it, a third of them lose it",
        table=np.array([[1.0, -1.0], [0.0, 0.0], [2.0, 5.0], [0.0, 0.0], [0.5, 0.0]]),
        order=np.array([3, 1, 4, 0, 2]),
        share=1 / 3,
    )


@hide_share.random
def _(rng):
    table = rng.normal(size=(13, 3))
    order = rng.permutation(13)
    while (
        sorted(order[:4]) == list(order[:4])
        or set(order[:4]) & {0, 1, 2, 3}
        # read as ranks, the order must hide others than the three that lose it
        or set([i for i in order.argsort() if i not in order[[0, 2, 9]]][:3]) == set(order[[1, 3, 4]])
    ):
        order = rng.permutation(13)
    table[order[[1, 6, 7]], 0] = 0.0  # one zero is not a row of zeros
    table[order[[0, 2, 9]]] = 0.0
    yield Case(
        "thirteen items, three have none, a share at random",
        table=table,
        order=order,
        share=float(rng.choice([0.27, 0.28, 0.29])),
    )


@hide_share.hidden
def _():
    table = np.random.default_rng(4).normal(size=(6, 2))
    yield Case("nobody loses it", table=table, order=np.arange(6)[::-1].copy(), share=0.0)
    yield Case("everybody loses it", table=table, order=np.arange(6)[::-1].copy(), share=1.0)


@hide_share.oracle
def _(table, order, share):
    having = [int(i) for i in order if any(table[int(i)])]
    gone = set(having[: math.floor(float(share) * len(having) + 0.5)])
    return np.array([[0.0] * table.shape[1] if i in gone else list(table[i]) for i in range(len(table))])


@hide_share.wrong("the share kept in place of the share hidden")
def _(table, order, share):
    there = order[table.any(1)[order]]
    out = table.copy()
    out[there[round(share * len(there)) :]] = 0
    return out


@hide_share.wrong("items that have none use up the share")
def _(table, order, share):
    out = table.copy()
    out[order[: round(share * len(order))]] = 0
    return out


@hide_share.wrong("the first items of the shop: the order is not read")
def _(table, order, share):
    there = np.flatnonzero(table.any(1))
    out = table.copy()
    out[there[: round(share * len(there))]] = 0
    return out


@hide_share.wrong("rounded down")
def _(table, order, share):
    there = order[table.any(1)[order]]
    out = table.copy()
    out[there[: int(share * len(there))]] = 0
    return out


@hide_share.wrong("a share of all items, not of those that have content")
def _(table, order, share):
    there = order[table.any(1)[order]]
    out = table.copy()
    out[there[: round(share * len(order))]] = 0
    return out


@hide_share.wrong("the last of the order lose it, not the first")
def _(table, order, share):
    there = order[table.any(1)[order]]
    out = table.copy()
    out[there[len(there) - round(share * len(there)) :]] = 0
    return out


@hide_share.wrong("the order read as ranks: order[i] taken for the place of item i")
def _(table, order, share):
    there = order.argsort()
    there = there[table.any(1)[there]]
    out = table.copy()
    out[there[: round(share * len(there))]] = 0
    return out


@hide_share.wrong("columns hidden in place of items")
def _(table, order, share):
    out = table.copy()
    out[:, : max(1, round(share * table.shape[1]))] = 0
    return out


@hide_share.wrong("the mean item in place of nothing: that is content, too")
def _(table, order, share):
    there = order[table.any(1)[order]]
    out = table.copy()
    out[there[: round(share * len(there))]] = table[there].mean(0)
    return out


@hide_share.wrong("the caller's own table overwritten")
def _(table, order, share):
    there = order[table.any(1)[order]]
    table[there[: round(share * len(there))]] = 0
    return table


@hide_share.wrong("an item with a zero somewhere taken for one without content")
def _(table, order, share):
    there = order[table.all(1)[order]]
    out = table.copy()
    out[there[: round(share * len(there))]] = 0
    return out


# -- do two judges agree? ---------------------------------------------------------------------------------------------------------
kendall_tau = Exercise("kendall_tau", lesson="08", arrays="numpy")


@kendall_tau.cases
def _():
    yield Case("four sets, one pair the other way", a=np.array([1.0, 2.0, 3.0, 4.0]), b=np.array([0.1, 0.3, 0.2, 0.9]))
    yield Case("three sets, all the other way", a=np.array([0.5, 0.1, 0.3]), b=np.array([1.0, 8.0, 2.0]))


def _tau(a, b) -> float:
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    return sum(int(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])) for i, j in pairs) / len(pairs)


@kendall_tau.random
def _(rng):
    while True:  # a draw in which the usual mistakes have other values
        a, b = (
            np.cumsum(rng.uniform(0.05, 1, 7))[rng.permutation(7)],
            np.exp(np.cumsum(rng.uniform(0.1, 1, 7)))[rng.permutation(7)],
        )
        rank_a, rank_b = a.argsort().argsort(), b.argsort().argsort()
        tau, steps = _tau(a, b), np.mean(np.sign(np.diff(a)) * np.sign(np.diff(b)))
        others = [
            np.corrcoef(a, b)[0, 1],
            np.corrcoef(rank_a, rank_b)[0, 1],
            np.mean(rank_a == rank_b),
            steps,
            np.corrcoef(a.argsort(), b.argsort())[0, 1],
            0.0,
            abs(tau) if tau < 0 else -1,
        ]
        if min(abs(tau - other) for other in others) > 0.03:
            break
    yield Case("seven sets at random", a=a, b=b)


@kendall_tau.hidden
def _():
    rng = np.random.default_rng(6)
    yield Case("two sets", a=np.array([0.2, 0.1]), b=np.array([5.0, 4.0]))
    yield Case("twelve sets", a=rng.normal(size=12), b=rng.normal(size=12))
    yield Case("one judge cannot tell two sets apart", a=np.array([0.2, 0.5, 0.2, 0.1]), b=np.array([3.0, 4.0, 1.0, 2.0]))


@kendall_tau.oracle
def _(a, b):
    return _tau(a, b)


@kendall_tau.wrong("the share of pairs that agree: from 0 to 1, not from -1 to 1")
def _(a, b):
    above = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign(a[:, None] - a)[above] == np.sign(b[:, None] - b)[above]))


@kendall_tau.wrong("each set paired with itself as well")
def _(a, b):
    return float(np.mean(np.sign(a[:, None] - a) * np.sign(b[:, None] - b)))


@kendall_tau.wrong("Pearson's correlation: it looks at the distances, too")
def _(a, b):
    return float(np.corrcoef(a, b)[0, 1])


@kendall_tau.wrong("Spearman's correlation: of the ranks, not of the pairs")
def _(a, b):
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


@kendall_tau.wrong("neighbours only: not all pairs")
def _(a, b):
    return float(np.mean(np.sign(np.diff(a)) * np.sign(np.diff(b))))


@kendall_tau.wrong("the share of sets at the same place")
def _(a, b):
    return float(np.mean(a.argsort().argsort() == b.argsort().argsort()))


@kendall_tau.wrong("the number of pairs, not their share")
def _(a, b):
    above = np.triu_indices(len(a), 1)
    return float(np.sum((np.sign(a[:, None] - a) * np.sign(b[:, None] - b))[above]))


@kendall_tau.wrong("an equal pair counted as one the other way round")
def _(a, b):
    above = np.triu_indices(len(a), 1)
    return float(np.mean(np.where(((a[:, None] - a) * (b[:, None] - b))[above] > 0, 1, -1)))


@kendall_tau.wrong("every pair counted twice, divided by the number of pairs counted once")
def _(a, b):
    return float(np.sum(np.sign(a[:, None] - a) * np.sign(b[:, None] - b)) / (len(a) * (len(a) - 1) / 2))


@kendall_tau.wrong("an equal pair counted as agreeing")
def _(a, b):
    above = np.triu_indices(len(a), 1)
    return float(np.mean(np.where(((a[:, None] - a) * (b[:, None] - b))[above] >= 0, 1, -1)))


@kendall_tau.wrong("tau-b, as scipy has it: equal pairs make the divisor smaller")
def _(a, b):
    above = np.triu_indices(len(a), 1)
    one, other = np.sign(a[:, None] - a)[above], np.sign(b[:, None] - b)[above]
    return float(np.sum(one * other) / np.sqrt(np.sum(one != 0) * np.sum(other != 0)))
