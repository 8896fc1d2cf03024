"""Exercises of lesson 12: rivals from the batch with log Q, an item's two views, gates, what an index finds."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from mmrec_teach.grading.exercise import Case, Exercise, expect

# -- rivals from the batch, corrected by how often they are there ------------------------------------------------------------
log_q_softmax = Exercise("log_q_softmax", lesson="12", gradient=("logits",))


@log_q_softmax.cases
def _():
    yield Case(
        "two rows: a popular item, a rare one",
        logits=np.array([[2.0, 1.0], [1.0, 2.0]]),
        items=np.array([7, 3]),
        log_q=np.log(np.array([0.5, 0.01])),
    )
    rng = np.random.default_rng(120)
    yield Case("five rows, two ask for the same item", **_batch(rng, np.array([4, 1, 4, 9, 2])))


def _batch(rng: np.random.Generator, items: np.ndarray) -> dict[str, np.ndarray]:
    """Logits of a batch, and a ln Q that belongs to the item: copies have the same, others differ by a factor of 2 or more."""
    of = {item: place for place, item in enumerate(rng.permutation(np.unique(items)))}
    log_q = np.array([-1.0 - 0.9 * of[item] for item in items])
    return {"logits": rng.normal(0, 1.5, (len(items), len(items))), "items": items, "log_q": log_q}


@log_q_softmax.random
def _(rng):
    few = rng.permutation(30)[:5]
    yield Case("a batch in which items come again", **_batch(rng, rng.permutation(np.concatenate([few, few[:2], few[:1]]))))


@log_q_softmax.hidden
def _():
    rng = np.random.default_rng(121)
    yield Case("all rows ask for one item", **_batch(rng, np.array([5, 5, 5])))
    yield Case("every item once", **_batch(rng, np.array([2, 0, 3, 1])))
    yield Case(
        "very sure, and wrong",
        logits=np.array([[-200.0, 200.0], [200.0, -200.0]]),
        items=np.array([0, 1]),
        log_q=np.log([0.2, 0.4]),
    )


@log_q_softmax.oracle
def _(logits, items, log_q):
    total = 0.0
    for b, own in enumerate(items):
        rivals = [logits[b, k] - log_q[k] for k, item in enumerate(items) if k == b or item != own]
        highest = max(rivals)
        total += highest + np.log(sum(np.exp(value - highest) for value in rivals)) - (logits[b, b] - log_q[b])
    return np.array(total / len(items))


@log_q_softmax.rule("the same share for all changes nothing")
def _(log_q_softmax):
    logits, items = torch.tensor([[1.0, 0.2, -0.4], [0.3, 0.8, 0.1], [-0.5, 0.6, 0.9]]), torch.tensor([4, 8, 6])
    one, two = (log_q_softmax(logits.clone(), items.clone(), torch.full((3,), share)) for share in (-2.0, -5.0))
    expect(
        bool(torch.isclose(one, two, atol=1e-5).all()),
        "with one ln Q for all items, its size must not matter: it stands above and below the line, for the own item too",
    )


def _copies(items):
    return (items[:, None] == items) & ~torch.eye(len(items), dtype=torch.bool)


def _nce(logits, items):
    return (logits.masked_fill(_copies(items), -torch.inf).logsumexp(1) - logits.diagonal()).mean()


@log_q_softmax.wrong("no correction, or ln Q of the row in place of the column, where it cancels")
def _(logits, items, log_q):
    return _nce(logits, items)


@log_q_softmax.wrong("ln Q added in place of subtracted: popular rivals count even more")
def _(logits, items, log_q):
    return _nce(logits + log_q, items)


@log_q_softmax.wrong("only the rivals corrected, not the own item")
def _(logits, items, log_q):
    return _nce(logits - log_q + torch.diag(log_q), items)


@log_q_softmax.wrong("only the own item corrected, not the rivals")
def _(logits, items, log_q):
    return _nce(logits - torch.diag(log_q), items)


@log_q_softmax.wrong("Q itself subtracted, not its logarithm")
def _(logits, items, log_q):
    return _nce(logits - log_q.exp(), items)


@log_q_softmax.wrong("divided by ln Q: a logit is corrected by subtraction")
def _(logits, items, log_q):
    return _nce(logits / -log_q, items)


@log_q_softmax.wrong("rows that ask for the same item are rivals of each other")
def _(logits, items, log_q):
    return cross_entropy(logits - log_q, torch.arange(len(items)))


@log_q_softmax.wrong("copies set to 0: exp(0) = 1 stays below the line")
def _(logits, items, log_q):
    logits = (logits - log_q) * ~_copies(items)
    return (logits.logsumexp(1) - logits.diagonal()).mean()


@log_q_softmax.wrong("the own item masked with its copies: nothing is left to find")
def _(logits, items, log_q):
    logits = logits - log_q
    return (logits.masked_fill(items[:, None] == items, -torch.inf).logsumexp(1) - logits.diagonal()).mean()


@log_q_softmax.wrong("the softmax down the columns: which query wants this item?")
def _(logits, items, log_q):
    return _nce((logits - log_q).T, items)


@log_q_softmax.wrong("exp by hand: it overflows when a logit is large; logsumexp does not")
def _(logits, items, log_q):
    weights = (logits - log_q).exp()
    return -(weights.diagonal() / (weights * ~_copies(items)).sum(1)).log().mean()


@log_q_softmax.wrong("the sum over the batch")
def _(logits, items, log_q):
    return _nce(logits - log_q, items) * len(items)


@log_q_softmax.wrong("the sign turned")
def _(logits, items, log_q):
    return -_nce(logits - log_q, items)


# -- two views of one thing ------------------------------------------------------------------------------------------------
view_triplet = Exercise("view_triplet", lesson="12", gradient=("z_c", "z_id"))


@view_triplet.cases
def _():
    yield Case(
        "two items, the second's views are far apart",
        z_c=np.array([[1.0, 0.0], [0.8, 0.6]]),
        z_id=np.array([[0.6, 0.8], [0.96, 0.28]]),
        margin=0.2,
    )
    yield Case("four items", **_views(np.random.default_rng(122), 4), margin=0.3)


def _views(rng: np.random.Generator, n: int, d: int = 3, apart: float = 0.7) -> dict[str, np.ndarray]:
    """Unit rows, each item's views alike as far as ``apart`` allows: some pairs are far enough from each other, some are not."""

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    base = rng.normal(size=(n, d))
    return {"z_c": unit(base), "z_id": unit(base + apart * rng.normal(size=(n, d)))}


@view_triplet.random
def _(rng):
    yield Case("items at random", **_views(rng, int(rng.integers(7, 10)), apart=1.2), margin=float(rng.choice([0.2, 0.3, 0.4])))


@view_triplet.hidden
def _():
    rng = np.random.default_rng(123)
    yield Case("as many items as numbers in a vector", **_views(rng, 3), margin=0.2)
    yield Case("views that agree, items at right angles: nothing to ask for", z_c=np.eye(3), z_id=np.eye(3), margin=0.5)
    yield Case("one item only: nobody to be told from", **_views(rng, 1), margin=0.2)
    yield Case("margin 0", **_views(rng, 5), margin=0.0)


@view_triplet.oracle
def _(z_c, z_id, margin):
    n, total = len(z_c), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                own = float(np.dot(z_c[i], z_id[i]))
                total += max(0.0, margin - own + float(np.dot(z_c[i], z_id[j])))
                total += max(0.0, margin - own + float(np.dot(z_id[i], z_c[j])))
    return np.array(total / (n * (n - 1)) if n > 1 else 0.0)


@view_triplet.rule("which view comes first makes no difference")
def _(view_triplet):
    given = {name: torch.tensor(table, dtype=torch.float32) for name, table in _views(np.random.default_rng(124), 5).items()}
    there = view_triplet(given["z_c"].clone(), given["z_id"].clone(), 0.3)
    back = view_triplet(given["z_id"].clone(), given["z_c"].clone(), 0.3)
    expect(
        bool(torch.isclose(there, back, atol=1e-5).all()),
        "swap the two views and the loss should stay: both directions are in it",
    )


def _gaps(z_c, z_id, margin):
    """(n, n) of both directions: row i's gap to its rival j."""
    cosine = z_c @ z_id.T
    own = cosine.diagonal()[:, None]
    return torch.relu(margin - own + cosine), torch.relu(margin - own + cosine.T)


def _pairs(table):
    n = len(table)
    return (table.sum() - table.diagonal().sum()) / max(1, n * (n - 1))


@view_triplet.wrong("one direction only: content looks for its ID view, not the other way round")
def _(z_c, z_id, margin):
    return _pairs(_gaps(z_c, z_id, margin)[0])


@view_triplet.wrong("the other direction only: the ID view looks for its content")
def _(z_c, z_id, margin):
    return _pairs(_gaps(z_c, z_id, margin)[1])


@view_triplet.wrong("an item is its own rival: each gives the margin, twice")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, margin)
    return (there + back).sum() / (len(z_c) * (len(z_c) - 1)) if len(z_c) > 1 else 0 * there.sum()


@view_triplet.wrong("an item is its own rival, averaged over n² pairs")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, margin)
    return (there + back).mean() if len(z_c) > 1 else 0 * there.sum()


@view_triplet.wrong("the mean over n² pairs, with n (n - 1) of them")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, margin)
    return (_pairs(there) + _pairs(back)) * (len(z_c) - 1) / len(z_c)


@view_triplet.wrong("the mean of both directions in place of their sum")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, margin)
    return (_pairs(there) + _pairs(back)) / 2


@view_triplet.wrong("no hinge: pairs that are far enough apart are pushed on, and pay for others")
def _(z_c, z_id, margin):
    cosine = z_c @ z_id.T
    return _pairs(margin - cosine.diagonal()[:, None] + cosine) + _pairs(margin - cosine.diagonal()[:, None] + cosine.T)


@view_triplet.wrong("no margin: as near as the own view is near enough")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, 0.0)
    return _pairs(there) + _pairs(back)


@view_triplet.wrong("the margin subtracted")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, -margin)
    return _pairs(there) + _pairs(back)


@view_triplet.wrong("cosines taken for distances: own and rival change places")
def _(z_c, z_id, margin):
    cosine = z_c @ z_id.T
    own = cosine.diagonal()[:, None]
    return _pairs(torch.relu(margin + own - cosine)) + _pairs(torch.relu(margin + own - cosine.T))


@view_triplet.wrong("squared distances in place of inner products: the gaps are twice as wide")
def _(z_c, z_id, margin):
    cosine = z_c @ z_id.T
    own = cosine.diagonal()[:, None]
    return _pairs(torch.relu(margin + 2 * (cosine - own))) + _pairs(torch.relu(margin + 2 * (cosine.T - own)))


@view_triplet.wrong("rivals from the same view: content against content, ID against ID")
def _(z_c, z_id, margin):
    own = (z_c * z_id).sum(1, keepdim=True)
    return _pairs(torch.relu(margin - own + z_c @ z_c.T)) + _pairs(torch.relu(margin - own + z_id @ z_id.T))


@view_triplet.wrong("the own match of the rival, not of the item that asks")
def _(z_c, z_id, margin):
    cosine = z_c @ z_id.T
    other = cosine.diagonal()
    return 2 * _pairs(torch.relu(margin - other + cosine))


@view_triplet.wrong("the same direction twice: own was turned together with the table")
def _(z_c, z_id, margin):
    return 2 * _pairs(_gaps(z_c, z_id, margin)[0])


@view_triplet.wrong("one hinge over both directions: a good one pays for a bad one")
def _(z_c, z_id, margin):
    cosine = z_c @ z_id.T
    own = cosine.diagonal()[:, None]
    return _pairs(torch.relu(2 * (margin - own) + cosine + cosine.T))


@view_triplet.wrong("only the nearest rival of each")
def _(z_c, z_id, margin):
    if len(z_c) < 2:
        return (z_c.sum() + z_id.sum()) * 0
    same = torch.eye(len(z_c), dtype=torch.bool)
    return sum(table.masked_fill(same, 0.0).amax(1).mean() for table in _gaps(z_c, z_id, margin))


@view_triplet.wrong("the ID view held still: only content learns")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id.detach(), margin)
    return _pairs(there) + _pairs(back) + 0 * z_id.sum()


@view_triplet.wrong("a single item: 0 / 0 is nan")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, margin)
    both = there + back
    return (both.sum() - both.diagonal().sum()) / (len(both) * (len(both) - 1))


@view_triplet.wrong("the sum over pairs")
def _(z_c, z_id, margin):
    there, back = _gaps(z_c, z_id, margin)
    return (_pairs(there) + _pairs(back)) * len(z_c) * (len(z_c) - 1)


# -- gates -----------------------------------------------------------------------------------------------------------------
gated_vectors = Exercise("gated_vectors", lesson="12", gradient=("z_id", "z_c", "g"))


@gated_vectors.cases
def _():
    two = {"z_id": np.array([[0.6, 0.8], [0.0, 0.0]]), "z_c": np.array([[1.0, 0.0], [0.0, 1.0]]), "g": np.array([0.25, 0.9])}
    yield Case("sum: a known item, and a new one without an ID", **two, form="sum")
    yield Case("concat: the same two", **two, form="concat")


def _items(rng: np.random.Generator, n: int, d: int) -> dict[str, np.ndarray]:
    tables = {name: rng.normal(size=(n, d)) for name in ("z_id", "z_c")}
    unit = {name: table / np.linalg.norm(table, axis=1, keepdims=True) for name, table in tables.items()}
    unit["z_id"][0] = 0.0  # a new item
    g = rng.permutation(np.linspace(0.1, 0.9, n) + rng.uniform(-0.02, 0.02, n))
    return unit | {"g": g}


@gated_vectors.random
def _(rng):
    yield Case("sum, items at random", **_items(rng, int(rng.integers(5, 8)), 3), form="sum")
    yield Case("concat, items at random", **_items(rng, int(rng.integers(5, 8)), 3), form="concat")


@gated_vectors.hidden
def _():
    rng = np.random.default_rng(125)
    yield Case("sum, as many items as numbers in a vector", **_items(rng, 4, 4), form="sum")
    yield Case("concat, as many items as numbers in a vector", **_items(rng, 4, 4), form="concat")


@gated_vectors.oracle
def _(z_id, z_c, g, form):
    rows = []
    for a, b, weight in zip(z_id, z_c, g, strict=True):
        if form == "sum":
            rows.append([(1 - weight) * x + weight * y for x, y in zip(a, b, strict=True)])
        else:
            rows.append([*a, *(weight * y for y in b)])
    return np.array(rows)


@gated_vectors.rule("concat: the inner product is the sum of two matches")
def _(gated_vectors):
    made = _items(np.random.default_rng(126), 6, 3)
    z_id, z_c, g = (torch.tensor(made[name], dtype=torch.float32) for name in ("z_id", "z_c", "g"))
    q_id, q_c = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 0.3, -0.7])
    got = gated_vectors(z_id.clone(), z_c.clone(), g.clone(), "concat")
    expect(
        got.shape == (6, 6) and bool(torch.allclose(got @ torch.cat([q_id, q_c]), z_id @ q_id + g * (z_c @ q_c), atol=1e-5)),
        "with the query [q_id ; q_c] the score should be q_id·z_id + g q_c·z_c: ID first, then content times g",
    )


def _mixed(z_id, z_c, g):
    return (1 - g[:, None]) * z_id + g[:, None] * z_c


def _beside(z_id, z_c, g):
    return torch.cat([z_id, g[:, None] * z_c], 1)


@gated_vectors.wrong("g weighs the ID: the more, the less content")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, 1 - g) if form == "sum" else torch.cat([g[:, None] * z_id, z_c], 1)


@gated_vectors.wrong("sum: the ID keeps its full weight, z_id + g z_c")
def _(z_id, z_c, g, form):
    return z_id + g[:, None] * z_c if form == "sum" else _beside(z_id, z_c, g)


@gated_vectors.wrong("concat: the ID is turned down by 1 - g as well")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, g) if form == "sum" else torch.cat([(1 - g[:, None]) * z_id, g[:, None] * z_c], 1)


@gated_vectors.wrong("concat: g left out, both at full weight")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, g) if form == "sum" else torch.cat([z_id, z_c], 1) + 0 * g[:, None]


@gated_vectors.wrong("concat: content first, then ID")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, g) if form == "sum" else torch.cat([g[:, None] * z_c, z_id], 1)


@gated_vectors.wrong("concat: one below the other, in place of side by side")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, g) if form == "sum" else torch.cat([z_id, g[:, None] * z_c], 0)


@gated_vectors.wrong("the sum, whatever form says")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, g)


@gated_vectors.wrong("concat, whatever form says")
def _(z_id, z_c, g, form):
    return _beside(z_id, z_c, g)


@gated_vectors.wrong("one gate a number of the vector, not one an item: g[:, None] is missing")
def _(z_id, z_c, g, form):
    g = g.mean() if len(g) != z_id.shape[1] else g
    return (1 - g) * z_id + g * z_c if form == "sum" else torch.cat([z_id, g * z_c], 1)


@gated_vectors.wrong("sum: brought back to length 1, so a new item loses what the gate gave it")
def _(z_id, z_c, g, form):
    return normalize(_mixed(z_id, z_c, g), dim=1) if form == "sum" else _beside(z_id, z_c, g)


@gated_vectors.wrong("concat: brought back to length 1")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, g) if form == "sum" else normalize(_beside(z_id, z_c, g), dim=1)


@gated_vectors.wrong("sum: g weighs the ID, 1 - g the content")
def _(z_id, z_c, g, form):
    return _mixed(z_id, z_c, 1 - g) if form == "sum" else _beside(z_id, z_c, g)


@gated_vectors.wrong("an item without an ID gets its content whole, whatever g says")
def _(z_id, z_c, g, form):
    known = z_id.any(1)
    return (
        _mixed(z_id, z_c, torch.where(known, g, 1 + 0 * g))
        if form == "sum"
        else _beside(z_id, z_c, torch.where(known, g, 1 + 0 * g))
    )


@gated_vectors.wrong("g rounded to a switch: either ID or content")
def _(z_id, z_c, g, form):
    g = (g > 0.5).float() + 0 * g
    return _mixed(z_id, z_c, g) if form == "sum" else _beside(z_id, z_c, g)


# -- what a search finds ---------------------------------------------------------------------------------------------------
index_recall = Exercise("index_recall", lesson="12")


@index_recall.cases
def _():
    yield Case("one query: three of four, in another order", found=np.array([[8, 2, 5, 9]]), exact=np.array([[2, 8, 7, 5]]))
    yield Case(
        "two queries; the second found one item only, and only two exist for the third",
        found=np.array([[4, 1, 3], [6, -1, -1], [0, 2, -1]]),
        exact=np.array([[4, 3, 9], [5, 6, 7], [2, 0, -1]]),
    )


def _lists(rng: np.random.Generator, n: int, k: int) -> dict[str, np.ndarray]:
    """Exact lists and found ones: some of the right, some of a neighbour's list, some of neither, some missing."""
    exact = np.stack([1 + rng.permutation(40)[:k] for _ in range(n)])
    found = np.full_like(exact, -1)
    for row in range(n):
        right = rng.permutation(exact[row])[: int(rng.integers(1, k))]
        other = [
            item for item in rng.permutation(np.r_[exact[(row + 1) % n], 1 + rng.permutation(40)]) if item not in exact[row]
        ]
        names = np.array([*right, *list(dict.fromkeys(other))[: int(rng.integers(0, k - len(right) + 1))]])
        found[row, : len(names)] = sorted(
            rng.permutation(names), key=lambda item: item == exact[row, 0]
        )  # never in the first place
    exact[-1, 1:] = -1  # a query for which a single vector is left
    exact[-2, k - 1] = -1
    found[0] = np.roll(exact[0], 1)  # all found, none in its place
    missed = next(item for item in exact[0] if item not in exact[1][:1])
    exact[1] = [exact[1][0], missed, 0, *range(50, 47 + k)]
    found[1] = [exact[1][2], *[-1] * (k - 1)]  # item 0 found; another of its items stands in the first query's list
    found[-1] = [99, exact[-1, 0], *[-1] * (k - 2)]
    return {"found": found, "exact": exact}


@index_recall.random
def _(rng):
    yield Case("lists at random", **_lists(rng, int(rng.integers(4, 7)), 5))


@index_recall.hidden
def _():
    rng = np.random.default_rng(127)
    one = _lists(rng, 4, 5)
    yield Case(
        "more was fetched than is asked for", found=np.c_[one["found"], one["exact"][:, :1] + 50], exact=one["exact"][:, :3]
    )
    yield Case("there is nothing to find", found=np.array([[-1, -1], [3, -1]]), exact=np.full((2, 2), -1))
    yield Case("item 0 is an item", found=np.array([[0, -1]]), exact=np.array([[0, 1]]))


@index_recall.oracle
def _(found, exact):
    there = total = 0
    for mine, right in zip(found.tolist(), exact.tolist(), strict=True):
        names = [item for item in right if item >= 0]
        total += len(names)
        there += sum(item in mine for item in names)
    return np.array(there / total if total else 0.0)


def _there(found, exact):
    return (exact[:, :, None] == found[:, None, :]).any(2)


@index_recall.wrong("place by place: the right items in another order count as wrong")
def _(found, exact):
    k = min(found.shape[1], exact.shape[1])
    real = exact >= 0
    return ((found[:, :k] == exact[:, :k]) & real[:, :k]).sum().float() / real.sum().clamp_min(1)


@index_recall.wrong("-1 taken for an item: two empty places agree")
def _(found, exact):
    return _there(found, exact).float().mean()


@index_recall.wrong("empty places of the exact list stay below the line")
def _(found, exact):
    return (_there(found, exact) & (exact >= 0)).float().mean()


@index_recall.wrong("the mean over queries: a short list counts as much as a long one")
def _(found, exact):
    real = exact >= 0
    rows = (_there(found, exact) & real).sum(1) / real.sum(1).clamp_min(1)
    return rows[real.any(1)].mean() if real.any() else torch.tensor(0.0)


@index_recall.wrong("divided by how many were found: that is precision")
def _(found, exact):
    return (_there(found, exact) & (exact >= 0)).sum() / (found >= 0).sum().clamp_min(1)


@index_recall.wrong("all queries in one pot: an item found for another query counts")
def _(found, exact):
    real = exact >= 0
    return (torch.isin(exact, found) & real).sum() / real.sum().clamp_min(1)


@index_recall.wrong("one right item is enough: the share of queries with any")
def _(found, exact):
    real = exact >= 0
    return (_there(found, exact) & real).any(1).sum() / real.any(1).sum().clamp_min(1)


@index_recall.wrong("only the first place compared")
def _(found, exact):
    real = exact[:, 0] >= 0
    return ((found[:, 0] == exact[:, 0]) & real).sum() / real.sum().clamp_min(1)


@index_recall.wrong("nothing to find: 0 / 0 is nan")
def _(found, exact):
    real = exact >= 0
    return (_there(found, exact) & real).sum() / real.sum()


@index_recall.wrong("item 0 taken for an empty place")
def _(found, exact):
    real = exact > 0
    return (_there(found, exact) & real).sum() / real.sum().clamp_min(1)


@index_recall.wrong("a count, not a share")
def _(found, exact):
    return (_there(found, exact) & (exact >= 0)).sum().float()
