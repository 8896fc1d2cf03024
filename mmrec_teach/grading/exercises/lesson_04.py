"""Exercises of lesson 04: the k most similar items in blocks, the edge values of their graph, modalities fused item by item."""

from __future__ import annotations

import numpy as np
import torch

from mmrec_teach.grading.exercise import Case, Exercise, expect
from mmrec_teach.grading.watch import Effort, ask_large


# -- the k most similar items ----------------------------------------------------------------------------------------------
def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors; 0 where one of them is zero."""
    lengths = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    return float(a @ b) / lengths if lengths > 0 else 0.0


nearest_items = Exercise("nearest_items", lesson="04")


@nearest_items.cases
def _():
    corner = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 5.0], [-2.0, 0.1], [8.0, 1.0]])
    yield Case("five items in a plane, two at a time", features=corner, k=2, include_self=False, block=2)
    yield Case("the same five, each its own first neighbour", features=corner, k=3, include_self=True, block=2)


@nearest_items.random
def _(rng):
    table = rng.normal(size=(17, 5)) * rng.uniform(0.2, 5.0, size=(17, 1))
    yield Case("seventeen items, blocks of four", features=table, k=int(rng.integers(3, 6)), include_self=False, block=4)
    table = rng.normal(size=(11, 6)) * rng.uniform(0.2, 5.0, size=(11, 1))
    yield Case("eleven items, themselves among their neighbours", features=table, k=4, include_self=True, block=5)


@nearest_items.hidden
def _():
    table = np.random.default_rng(7).normal(size=(6, 3))
    yield Case("one block that holds everything", features=table, k=2, include_self=False, block=100)
    yield Case("as many neighbours as there are others", features=table, k=5, include_self=False, block=3)
    yield Case("only itself", features=table, k=1, include_self=True, block=4)


@nearest_items.oracle
def _(features, k, include_self, block):
    n = len(features)
    neighbours = np.zeros((n, k), dtype=np.int64)
    for i in range(n):
        found = [(_cosine(features[i], features[j]), j) for j in range(n) if j != i]
        best = sorted(found, key=lambda pair: -pair[0])
        if include_self:
            best = [(1.0, i), *best]
        neighbours[i] = [j for _, j in best[:k]]
    return neighbours


@nearest_items.rule("no table of all items by all items: memory grows with the block")
def _(nearest_items):
    features = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    with Effort(features) as effort:
        neighbours = nearest_items(features, 3, False, 50)
    expect(
        tuple(neighbours.shape) == (2000, 3), f"2000 items went in, and neighbours of shape {tuple(neighbours.shape)} came out"
    )
    expect(
        effort.largest <= 4 * 50 * 2000,
        f"your function makes a table of {effort.largest:,} numbers; a block of 50 of 2,000 items needs {50 * 2000:,}",
    )


@nearest_items.rule("an item whose features are all zero disturbs nobody")
def _(nearest_items):
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    alone = nearest_items(features, 2, False, 4)
    joined = nearest_items(torch.cat([features, torch.zeros(1, 4)]), 2, False, 4)
    expect(
        bool(torch.equal(alone, joined[:9])),
        "with a row of zeros among them, other items get other neighbours: was it divided by its length, 0?",
    )


@nearest_items.rule("items with the same features: each is still first of its own, or still left out")
def _(nearest_items):
    features = torch.randn(7, 4, generator=torch.Generator().manual_seed(2))
    features = torch.cat([features, features[:3], features[:3]])
    everyone = torch.arange(len(features))[:, None]
    out = nearest_items(features, 3, False, 4)
    expect(
        not bool((out == everyone).any()),
        "three items have the same features, and one of them is its own neighbour: its cosine to itself is not the only 1",
    )
    first = nearest_items(features, 3, True, 4)[:, :1]
    expect(
        bool((first == everyone).all()), "three items have the same features, and one of them is not its own first neighbour"
    )


def _blocked(features, k, include_self, block, *, own: str = "id", last: bool = True, unit: bool = True):
    """The right way, with one thing at a time that can be wrong."""
    scaled = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12) if unit else features
    neighbours = []
    n = len(features)
    for start in range(0, n if last else n - n % block, block):
        rows = torch.arange(start, min(start + block, n))
        similar = scaled[rows] @ scaled.T
        places = rows if own == "id" else torch.arange(len(rows))
        if own != "never touched":
            similar[torch.arange(len(rows)), places] = float("inf") if include_self else -float("inf")
        neighbours.append(similar.topk(k, dim=1).indices)
    return torch.cat(neighbours)


@nearest_items.wrong("inner products, so that long vectors are everybody's neighbours")
def _(features, k, include_self, block):
    return _blocked(features, k, include_self, block, unit=False)


@nearest_items.wrong("the item's own column taken by its place in the block and not by its id")
def _(features, k, include_self, block):
    return _blocked(features, k, include_self, block, own="place")


@nearest_items.wrong("the diagonal of the block kept out, which is the items' own only in the first block")
def _(features, k, include_self, block):
    return _blocked(features, k, include_self, block, own="never touched" if include_self else "place")


@nearest_items.wrong("the first of k + 1 dropped as if it were always the item itself")
def _(features, k, include_self, block):
    found = _blocked(features, k + 1, True, block, own="never touched")
    return found[:, :k] if include_self else found[:, 1:]


@nearest_items.wrong("k neighbours besides the item itself")
def _(features, k, include_self, block):
    return _blocked(features, k + include_self, include_self, block)


@nearest_items.wrong("the item always among its own neighbours")
def _(features, k, include_self, block):
    return _blocked(features, k, True, block)


@nearest_items.wrong("the item never among its own neighbours")
def _(features, k, include_self, block):
    return _blocked(features, k, False, block)


@nearest_items.wrong("the least similar items")
def _(features, k, include_self, block):
    scaled = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (scaled @ scaled.T).topk(k, dim=1, largest=False).indices


@nearest_items.wrong("the items left over after the last full block forgotten")
def _(features, k, include_self, block):
    return _blocked(features, k, include_self, block, last=False)


@nearest_items.wrong("the item cut off as the first of k, which leaves one neighbour too few")
def _(features, k, include_self, block):
    neighbours = _blocked(features, k, True, block)
    return neighbours if include_self else neighbours[:, 1:]


@nearest_items.wrong("neighbours looked for within the block only")
def _(features, k, include_self, block):
    scaled = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
    n = len(features)
    neighbours = torch.zeros(n, k, dtype=torch.int64)
    for start in range(0, n, block):
        own = scaled[start : start + block]
        similar = own @ own.T
        similar.fill_diagonal_(float("inf") if include_self else -float("inf"))
        best = similar.topk(min(k, len(own)), dim=1)
        neighbours[start : start + block, : min(k, len(own))] = best.indices + start
    return neighbours


@nearest_items.wrong("the distance between the vectors in place of the angle")
def _(features, k, include_self, block):
    apart = torch.cdist(features, features)
    apart.fill_diagonal_(-1.0 if include_self else float("inf"))
    return apart.topk(k, dim=1, largest=False).indices


@nearest_items.wrong("the whole table of similarities at once")
def _(features, k, include_self, block):
    return _blocked(features, k, include_self, len(features))


@nearest_items.wrong("a zero vector divided by its length")
def _(features, k, include_self, block):
    scaled = features / features.norm(dim=1, keepdim=True)
    return _blocked(scaled, k, include_self, block, unit=False)


# -- the values of its edges -----------------------------------------------------------------------------------------------
edge_values = Exercise("edge_values", lesson="04")


def _neighbours(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """For every one of n items k others, all different."""
    return np.stack([rng.permutation(np.delete(np.arange(n), i))[:k] for i in range(n)])


@edge_values.cases
def _():
    yield Case(
        "three items, two neighbours each",
        neighbours=np.array([[0, 1], [1, 2], [2, 1]]),
        cosine=np.array([[1.0, 0.6], [1.0, 0.2], [1.0, 0.2]]),
    )
    yield Case(
        "a neighbour that points the other way",
        neighbours=np.array([[1, 2], [0, 2], [1, 0]]),
        cosine=np.array([[0.9, -0.4], [0.9, 0.3], [0.3, -0.4]]),
    )


@edge_values.random
def _(rng):
    # in every draw each row has a positive value first and a negative one last
    value = np.concatenate([rng.uniform(0.2, 1.0, size=(9, 2)), rng.uniform(-0.6, -0.1, size=(9, 1))], axis=1)
    yield Case("nine items, three neighbours each", neighbours=_neighbours(rng, 9, 3), cosine=value)


@edge_values.hidden
def _():
    rng = np.random.default_rng(3)
    yield Case("all similarities 1, as FREEDOM has them", neighbours=_neighbours(rng, 6, 4), cosine=np.ones((6, 4)))
    value = rng.uniform(0.1, 1.0, size=(5, 2))
    value[2] = -0.3, 0.0
    yield Case("an item similar to nobody", neighbours=np.array([[1, 2], [2, 0], [4, 3], [2, 4], [0, 2]]), cosine=value)


@edge_values.oracle
def _(neighbours, cosine):
    kept = np.where(cosine > 0, cosine, 0.0)
    degree = [sum(row) for row in kept]
    out = np.zeros(cosine.shape)
    for i in range(len(cosine)):
        for place, j in enumerate(neighbours[i]):
            if degree[i] > 0 and degree[j] > 0:
                out[i, place] = kept[i, place] / np.sqrt(degree[i] * degree[j])
    return out


@edge_values.rule("no Python loop over the items")
def _(edge_values):
    complaint = "the items are gone through one by one: look all degrees up at once with degree[neighbours]"

    def ring(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        everyone = torch.arange(n)
        return torch.stack([(everyone + 1) % n, (everyone + 2) % n], dim=1), (everyone[:, None] % 3 + torch.ones(n, 2)) / 4

    with Effort() as effort:
        edge_values(*ring(300))
    expect(effort.calls < 100, f"{effort.calls:,} torch calls for 300 items: {complaint}")
    answer, right = ask_large(edge_values, _right_values, lambda: ring(100_000), complaint)
    expect(answer.shape == right.shape and bool(torch.allclose(answer, right)), "100,000 items have other values")


def _right_values(neighbours: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
    kept = cosine.clamp_min(0)
    degree = kept.sum(1)
    scale = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    return scale[:, None] * kept * scale[neighbours]


@edge_values.wrong("divided by the item's own sum, so that each row is a mean")
def _(neighbours, cosine):
    kept = cosine.clamp_min(0)
    return kept / kept.sum(1, keepdim=True).clamp_min(1e-12)


@edge_values.wrong("negative similarities kept")
def _(neighbours, cosine):
    degree = cosine.sum(1)
    scale = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    return scale[:, None] * cosine * scale[neighbours]


@edge_values.wrong("negative similarities kept, and the root taken of sums below 0")
def _(neighbours, cosine):
    root = cosine.sum(1).sqrt()
    return cosine / (root[:, None] * root[neighbours])


@edge_values.wrong("negative similarities made positive")
def _(neighbours, cosine):
    return _right_values(neighbours, cosine.abs())


@edge_values.wrong("divided by both sums without the square root")
def _(neighbours, cosine):
    kept = cosine.clamp_min(0)
    degree = kept.sum(1).clamp_min(1e-12)
    return kept / (degree[:, None] * degree[neighbours])


@edge_values.wrong("neighbours counted where their similarities should be summed")
def _(neighbours, cosine):
    return cosine.clamp_min(0) / cosine.shape[1]


@edge_values.wrong("the degree taken from the edges that come in and not from those that go out")
def _(neighbours, cosine):
    kept = cosine.clamp_min(0)
    degree = torch.zeros(len(cosine)).index_add(0, neighbours.flatten(), kept.flatten())
    scale = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    return scale[:, None] * kept * scale[neighbours]


@edge_values.wrong("the neighbour's degree left out")
def _(neighbours, cosine):
    kept = cosine.clamp_min(0)
    degree = kept.sum(1)
    return kept * torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()[:, None]


@edge_values.wrong("one over the root of zero, for an item similar to nobody")
def _(neighbours, cosine):
    kept = cosine.clamp_min(0)
    scale = kept.sum(1).rsqrt()
    return scale[:, None] * kept * scale[neighbours]


@edge_values.wrong("one over the root of a tiny number, huge, for an item similar to nobody")
def _(neighbours, cosine):
    kept = cosine.clamp_min(0)
    scale = kept.sum(1).clamp_min(1e-12).rsqrt()
    return scale[:, None] * kept * scale[neighbours]


@edge_values.wrong("a Python loop over the items")
def _(neighbours, cosine):
    kept = cosine.clamp_min(0)
    degree = kept.sum(1)
    rows = []
    for i in range(len(kept)):
        scale = (degree[i] * degree[neighbours[i]]).clamp_min(1e-12).sqrt()
        rows.append(kept[i] / scale * (degree[neighbours[i]] > 0))
    return torch.stack(rows)


# -- modalities fused ------------------------------------------------------------------------------------------------------
fuse = Exercise("fuse", lesson="04", gradient=("tables", "weights"))


@fuse.cases
def _():
    yield Case(
        "two modalities, everybody has both",
        tables=np.array([[[1.0, 0.0], [2.0, 2.0]], [[0.0, 4.0], [6.0, -2.0]]]),
        weights=np.array([0.25, 0.75]),
        has=np.array([[True, True], [True, True]]),
    )
    yield Case(
        "the second item lacks its picture: its words speak alone",
        tables=np.array([[[1.0], [9.0], [3.0]], [[5.0], [2.0], [4.0]]]),
        weights=np.array([3.0, 1.0]),
        has=np.array([[True, True], [False, True], [True, True]]),
    )


@fuse.random
def _(rng):
    has = np.array([[True, True, True], [True, False, True], [False, True, True], [True, False, False], [False, True, False]])
    has = has[rng.permutation(5)]
    yield Case(
        "three modalities, some missing",
        tables=rng.normal(size=(3, 5, 2)) + rng.choice([-2.0, 2.0], size=(3, 5, 2)),
        weights=np.array([0.3, 0.9, 1.8]) * rng.uniform(0.8, 1.2, size=3),
        has=has,
    )


@fuse.hidden
def _():
    rng = np.random.default_rng(5)
    yield Case(
        "an item without anything gets zeros",
        tables=rng.normal(size=(2, 3, 2)) + 1.0,
        weights=np.array([0.5, 2.0]),
        has=np.array([[True, True], [False, False], [False, True]]),
    )
    yield Case(
        "a single modality",
        tables=rng.normal(size=(1, 3, 2)),
        weights=np.array([0.4]),
        has=np.array([[True], [False], [True]]),
    )


@fuse.oracle
def _(tables, weights, has):
    n_modalities, n_items, d = tables.shape
    out = np.zeros((n_items, d))
    for i in range(n_items):
        there = [m for m in range(n_modalities) if has[i, m]]
        for m in there:
            out[i] += weights[m] / sum(weights[other] for other in there) * tables[m, i]
    return out


@fuse.rule("no Python loop over the items")
def _(fuse):
    complaint = "the items are gone through one by one: multiply whole tables"

    def many(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        has = torch.stack([torch.arange(n) % 3 > 0, torch.arange(n) % 5 > 0], dim=1)
        return torch.arange(4.0 * n).remainder(7).reshape(2, n, 2), torch.tensor([0.2, 0.5]), has

    with Effort() as effort:
        fuse(*many(300))
    expect(effort.calls < 150, f"{effort.calls:,} torch calls for 300 items: {complaint}")
    answer, right = ask_large(fuse, _right_fusion, lambda: many(100_000), complaint)
    expect(answer.shape == right.shape and bool(torch.allclose(answer, right)), "100,000 items have other vectors")


@fuse.rule("an item without anything leaves the gradient of the weights finite")
def _(fuse):
    weights = torch.tensor([0.5, 2.0], requires_grad=True)
    answer = fuse(torch.ones(2, 2, 3), weights, torch.tensor([[True, True], [False, False]]))
    if not answer.requires_grad:
        return  # that no gradient flows is said elsewhere
    (slope,) = torch.autograd.grad(answer.sum(), [weights], allow_unused=True)
    expect(
        slope is None or bool(slope.isfinite().all()),
        "0 / 0 was mended after the division (nan_to_num, torch.where): the value is right, its gradient is NaN. "
        "Mend the sum before you divide",
    )


def _right_fusion(tables: torch.Tensor, weights: torch.Tensor, has: torch.Tensor) -> torch.Tensor:
    kept = weights * has
    total = kept.sum(1, keepdim=True)
    shares = kept / torch.where(total > 0, total, torch.ones_like(total))
    return (shares.T[:, :, None] * tables).sum(0)


@fuse.wrong("a missing modality counts as a zero opinion: its share is lost")
def _(tables, weights, has):
    return (((weights / weights.sum()) * has).T[:, :, None] * tables).sum(0)


@fuse.wrong("a missing modality takes part with whatever stands in its row")
def _(tables, weights, has):
    return ((weights / weights.sum())[:, None, None] * tables).sum(0) * has.any(1)[:, None]


@fuse.wrong("the plain mean of what an item has")
def _(tables, weights, has):
    return _right_fusion(tables, torch.ones_like(weights), has) + 0.0 * weights.sum()


@fuse.wrong("weights that need not sum to 1 taken as they are")
def _(tables, weights, has):
    return ((weights * has).T[:, :, None] * tables).sum(0)


@fuse.wrong("the sum scaled by how many modalities are missing, whatever their weights")
def _(tables, weights, has):
    share = (weights / weights.sum()) * has * (len(weights) / has.sum(1, keepdim=True).clamp_min(1))
    return (share.T[:, :, None] * tables).sum(0)


@fuse.wrong("a softmax of the weights over what the item has")
def _(tables, weights, has):
    logits = weights.expand(len(has), -1).masked_fill(~has, -1e9)
    share = logits.softmax(1) * has
    return (share.T[:, :, None] * tables).sum(0)


@fuse.wrong("divided by zero where an item has nothing")
def _(tables, weights, has):
    kept = weights * has
    return ((kept / kept.sum(1, keepdim=True)).T[:, :, None] * tables).sum(0)


@fuse.wrong("0 / 0 mended after the division, which leaves a gradient of NaN")
def _(tables, weights, has):
    kept = weights * has
    return ((kept / kept.sum(1, keepdim=True)).nan_to_num().T[:, :, None] * tables).sum(0)


@fuse.wrong("the heaviest modality an item has speaks alone")
def _(tables, weights, has):
    chosen = (weights * has).argmax(1)
    return tables[chosen, torch.arange(len(has))] * has.any(1)[:, None] + 0.0 * weights.sum()


@fuse.wrong("a Python loop over the items")
def _(tables, weights, has):
    rows = []
    for i in range(len(has)):
        total = (weights * has[i]).sum()
        share = weights * has[i] / torch.where(total > 0, total, torch.ones_like(total))
        rows.append((share[:, None] * tables[:, i]).sum(0))
    return torch.stack(rows)


@fuse.wrong("cut off from the gradient: the weights taken with .detach()")
def _(tables, weights, has):
    return _right_fusion(tables, weights.detach(), has)
