"""Exercises of lesson 10: density peaks step by step, and a user's interests, each once."""

from __future__ import annotations

import numpy as np
import torch

from mmrec_teach.grading.exercise import Case, Exercise

# -- how dense is it here? -------------------------------------------------------------------------------------------------
local_density = Exercise("local_density", lesson="10")


@local_density.cases
def _():
    yield Case("five points on a plane", x=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.5], [2.0, 2.0], [2.5, 2.0]]), k=3)
    yield Case("seven points, three numbers each", x=np.random.default_rng(100).normal(size=(7, 3)), k=4)


@local_density.random
def _(rng):
    n, d = int(rng.integers(9, 13)), int(rng.integers(3, 6))
    yield Case("points at random", x=rng.normal(size=(n, d)) * rng.uniform(0.7, 1.3), k=int(rng.integers(3, 6)))


@local_density.hidden
def _():
    rng = np.random.default_rng(101)
    yield Case("k = 1: the only neighbour is the point itself", x=rng.normal(size=(4, 3)), k=1)
    yield Case("every point a neighbour", x=rng.normal(size=(5, 2)), k=5)
    yield Case("one point three times", x=np.repeat(rng.normal(size=(3, 2)), [3, 1, 2], axis=0), k=4)


@local_density.oracle
def _(x, k):
    n, d = x.shape
    answer = []
    for i in range(n):
        squares = sorted(sum((x[i] - x[j]) ** 2) / d for j in range(n))
        answer.append(np.exp(-sum(squares[:k]) / k))
    return np.array(answer)


def _table(x):
    """(N, N) of d_ij, from the differences."""
    return (x[:, None] - x).square().sum(2).sqrt() / x.shape[1] ** 0.5


def _near(x, k):
    return _table(x).sort(1).values[:, :k]


@local_density.wrong("the point itself left out: k others")
def _(x, k):
    return torch.exp(-_table(x).sort(1).values[:, 1 : k + 1].square().mean(1))


@local_density.wrong(
    "the point itself dropped from k + 1 neighbours: k others are left, and it fails where there are only k points"
)
def _(x, k):
    return torch.exp(-_table(x).topk(k + 1, dim=1, largest=False).values[:, 1:].square().mean(1))


@local_density.wrong("the point itself left out of the k, the sum of k others divided by k")
def _(x, k):
    return torch.exp(-_table(x).sort(1).values[:, 1 : k + 1].square().sum(1) / k)


@local_density.wrong("the point itself on top of k others: k + 1 neighbours")
def _(x, k):
    return torch.exp(-_near(x, k + 1).square().mean(1))


@local_density.wrong("the zero of the point itself not counted in the mean: divided by k - 1")
def _(x, k):
    return torch.exp(-_near(x, k).square().sum(1) / (k - 1))


@local_density.wrong("not divided by the root of the dimension")
def _(x, k):
    return torch.exp(-(_near(x, k) * x.shape[1] ** 0.5).square().mean(1))


@local_density.wrong("divided by the dimension, not by its root")
def _(x, k):
    return torch.exp(-(_near(x, k) / x.shape[1] ** 0.5).square().mean(1))


@local_density.wrong("squared first, then divided by the root of the dimension: a squared distance is divided by D")
def _(x, k):
    return torch.exp(-(_near(x, k).square() * x.shape[1] ** 0.5).mean(1))


@local_density.wrong("distances not squared")
def _(x, k):
    return torch.exp(-_near(x, k).mean(1))


@local_density.wrong("the mean squared, and not the mean of squares")
def _(x, k):
    return torch.exp(-_near(x, k).mean(1).square())


@local_density.wrong("the sum over neighbours: the 1/k is missing")
def _(x, k):
    return torch.exp(-_near(x, k).square().sum(1))


@local_density.wrong("the k farthest")
def _(x, k):
    return torch.exp(-_table(x).topk(k, dim=1).values.square().mean(1))


@local_density.wrong("all points, not the k nearest")
def _(x, k):
    return torch.exp(-_table(x).square().mean(1))


@local_density.wrong("the k-th neighbour alone")
def _(x, k):
    return torch.exp(-_near(x, k)[:, -1].square())


@local_density.wrong("the minus forgotten: a lonely point is the densest")
def _(x, k):
    return torch.exp(_near(x, k).square().mean(1))


@local_density.wrong("the exponential forgotten")
def _(x, k):
    return -_near(x, k).square().mean(1)


@local_density.wrong("a mean of exponentials: the mean belongs inside")
def _(x, k):
    return torch.exp(-_near(x, k).square()).mean(1)


@local_density.wrong("angles in place of distances: rows scaled to length 1 first")
def _(x, k):
    return torch.exp(-_near(torch.nn.functional.normalize(x, dim=1), k).square().mean(1))


# -- how far is it to somewhere denser? --------------------------------------------------------------------------------------
distance_to_denser = Exercise("distance_to_denser", lesson="10")


def _distances(x: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None] - x) ** 2).sum(2) / x.shape[1])


def _hill(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Points whose middle is the densest; equal densities at the top and on the way down, of which the earlier row is not always
    the one in the middle."""
    x = rng.normal(size=(n, 2))
    order = np.argsort(((x - x.mean(0)) ** 2).sum(1))
    density = np.empty(n)
    levels = np.linspace(0.9, 0.1, n)
    levels[1] = levels[0]
    levels[4] = levels[3]
    density[order] = levels
    return {"distance": _distances(x), "density": density}


@distance_to_denser.cases
def _():
    line = np.array([[0.0], [1.0], [1.5], [4.0]])
    yield Case("four points on a line", distance=_distances(line), density=np.array([0.5, 0.9, 0.7, 0.3]))
    yield Case("two equal densities", **_hill(np.random.default_rng(102), 8))


@distance_to_denser.random
def _(rng):
    yield Case("points at random", **_hill(rng, int(rng.integers(8, 12))))


@distance_to_denser.hidden
def _():
    rng = np.random.default_rng(103)
    yield Case("all equally dense", distance=_distances(rng.normal(size=(5, 2))), density=np.full(5, 0.5))
    yield Case("one point", distance=np.zeros((1, 1)), density=np.array([0.7]))
    copies = np.repeat(rng.normal(size=(2, 2)), 3, axis=0)
    yield Case("two heaps of equal points", distance=_distances(copies), density=np.repeat([0.4, 0.6], 3))


@distance_to_denser.oracle
def _(distance, density):
    n = len(density)
    answer = []
    for i in range(n):
        denser = [j for j in range(n) if density[j] > density[i] or (density[j] == density[i] and j < i)]
        answer.append(min(distance[i, j] for j in denser) if denser else max(distance[i]))
    return np.array(answer)


def _denser(density):
    """(N, N) bool: whether the column's point counts as denser than the row's."""
    row = torch.arange(len(density))
    return (density > density[:, None]) | ((density == density[:, None]) & (row < row[:, None]))


def _nearest(distance, allowed):
    found = distance.masked_fill(~allowed, torch.inf).amin(1)
    return torch.where(allowed.any(1), found, distance.amax(1))


@distance_to_denser.wrong("equal densities: neither counts as denser, so both are peaks")
def _(distance, density):
    return _nearest(distance, density > density[:, None])


@distance_to_denser.wrong("equal densities: the later row counts as denser")
def _(distance, density):
    row = torch.arange(len(density))
    return _nearest(distance, (density > density[:, None]) | ((density == density[:, None]) & (row > row[:, None])))


@distance_to_denser.wrong("equal densities: each counts as denser than the other, and no peak is left")
def _(distance, density):
    return _nearest(distance, (density >= density[:, None]) & ~torch.eye(len(density), dtype=torch.bool))


@distance_to_denser.wrong("a 0 in every row wins: the point itself, or points that are not denser set to 0")
def _(distance, density):
    return _nearest(distance, density >= density[:, None])


@distance_to_denser.wrong("the nearest point that is less dense")
def _(distance, density):
    return _nearest(distance, _denser(density).T)


@distance_to_denser.wrong("the nearest point that is less dense; of equal ones neither counts")
def _(distance, density):
    return _nearest(distance, density < density[:, None])


@distance_to_denser.wrong("the nearest point that is less dense, or equal and in an earlier row")
def _(distance, density):
    row = torch.arange(len(density))
    return _nearest(distance, (density < density[:, None]) | ((density == density[:, None]) & (row < row[:, None])))


@distance_to_denser.wrong("the smallest of each column, not of each row")
def _(distance, density):
    allowed = _denser(density)
    return torch.where(allowed.any(1), distance.masked_fill(~allowed, torch.inf).amin(0), distance.amax(1))


@distance_to_denser.wrong("points that are not denser count as distance 0, and 0 is the smallest; the peak alone is right")
def _(distance, density):
    allowed = _denser(density)
    return torch.where(allowed.any(1), (distance * allowed).amin(1), distance.amax(1))


@distance_to_denser.wrong("the nearest point, whatever its density")
def _(distance, density):
    return _nearest(distance, ~torch.eye(len(density), dtype=torch.bool))


@distance_to_denser.wrong("the distance to the densest of all")
def _(distance, density):
    order = density.argsort(descending=True, stable=True)
    found = distance[:, order[0]].clone()
    found[order[0]] = distance[order[0]].amax()
    return found


@distance_to_denser.wrong("the distance to the next denser in rank: others are denser too, and may be nearer")
def _(distance, density):
    order = density.argsort(descending=True, stable=True)
    found = torch.empty_like(density)
    found[order[1:]] = distance[order[1:], order[:-1]]
    found[order[0]] = distance[order[0]].amax()
    return found


@distance_to_denser.wrong("the farthest of the denser points")
def _(distance, density):
    allowed = _denser(density)
    found = distance.masked_fill(~allowed, -1.0).amax(1)
    return torch.where(allowed.any(1), found, distance.amax(1))


@distance_to_denser.wrong("the farthest of the denser points, and 0 for the peak")
def _(distance, density):
    return distance.masked_fill(~_denser(density), 0.0).amax(1)


@distance_to_denser.wrong("the mean distance to the denser points")
def _(distance, density):
    allowed = _denser(density)
    found = (distance * allowed).sum(1) / allowed.sum(1)
    return torch.where(allowed.any(1), found, distance.amax(1))


@distance_to_denser.wrong("the row number of that point, not the distance to it")
def _(distance, density):
    return distance.masked_fill(~_denser(density), torch.inf).argmin(1)


@distance_to_denser.wrong("the peak gets the largest distance between any two points; its own farthest is wanted")
def _(distance, density):
    allowed = _denser(density)
    found = distance.masked_fill(~allowed, torch.inf).amin(1)
    return torch.where(allowed.any(1), found, distance.amax())


@distance_to_denser.wrong("the peak gets infinity")
def _(distance, density):
    return distance.masked_fill(~_denser(density), torch.inf).amin(1)


@distance_to_denser.wrong("the peak gets 0: its product is the smallest, and it can never be a centre")
def _(distance, density):
    return (distance.masked_fill(~_denser(density), torch.inf).amin(1)).nan_to_num(posinf=0.0)


@distance_to_denser.wrong("the peak gets the distance to its nearest point")
def _(distance, density):
    allowed = _denser(density)
    found = distance.masked_fill(~allowed, torch.inf).amin(1)
    nearest = distance.masked_fill(torch.eye(len(density), dtype=torch.bool), torch.inf).amin(1)
    return torch.where(allowed.any(1), found, nearest)


# -- who is a centre? --------------------------------------------------------------------------------------------------------
choose_centres = Exercise("choose_centres", lesson="10")


@choose_centres.cases
def _():
    yield Case(
        "two of five", density=np.array([0.9, 0.5, 0.8, 0.4, 0.6]), delta=np.array([0.2, 1.0, 0.9, 1.5, 0.3]), n_clusters=2
    )
    yield Case("an equal product", **_scores(np.random.default_rng(104), 7), n_clusters=4)


def _scores(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """The best product is that of two rows, with density and delta swapped, and an earlier row is third; the densest and the
    farthest row are poor."""
    density, delta = rng.uniform(0.3, 0.6, n), rng.uniform(0.3, 0.6, n)
    third, a, b = np.sort(rng.permutation(n)[:3])
    dense, far = rng.permutation(np.setdiff1d(np.arange(n), [third, a, b]))[:2]
    density[a], delta[a] = 0.8, 0.75
    density[b], delta[b] = 0.75, 0.8
    density[third], delta[third] = 0.7, 0.7
    density[dense], delta[dense] = 0.95, 0.05
    density[far], delta[far] = 0.05, 1.9
    return {"density": density, "delta": delta}


@choose_centres.random
def _(rng):
    n = int(rng.integers(7, 12))
    yield Case("points at random", **_scores(rng, n), n_clusters=4)
    density, delta = rng.uniform(0.3, 0.4, 12), rng.uniform(0.3, 0.4, 12)
    equal = rng.permutation(12)[:8]
    density[equal], delta[equal] = np.tile([0.5, 0.75], 4), np.tile([0.75, 0.5], 4)
    yield Case("eight equal products", density=density, delta=delta, n_clusters=5)


@choose_centres.hidden
def _():
    yield Case("every point a centre", **_scores(np.random.default_rng(105), 5), n_clusters=5)
    yield Case("all products equal", density=np.full(4, 0.5), delta=np.full(4, 0.5), n_clusters=3)
    yield Case("a heap of copies, delta 0", density=np.full(4, 0.5), delta=np.array([0.0, 0.0, 0.7, 0.0]), n_clusters=2)


@choose_centres.oracle
def _(density, delta, n_clusters):
    return np.array(sorted(range(len(density)), key=lambda i: (-np.float32(density[i]) * np.float32(delta[i]), i))[:n_clusters])


def _best(score, n):
    return score.argsort(descending=True, stable=True)[:n]


@choose_centres.wrong("density alone: all centres lie in one heap")
def _(density, delta, n_clusters):
    return _best(density, n_clusters)


@choose_centres.wrong("delta alone: lonely points win")
def _(density, delta, n_clusters):
    return _best(delta, n_clusters)


@choose_centres.wrong("the sum of the two: a lonely point wins by its distance alone")
def _(density, delta, n_clusters):
    return _best(density + delta, n_clusters)


@choose_centres.wrong("density divided by delta")
def _(density, delta, n_clusters):
    return _best(density / delta.clamp_min(1e-9), n_clusters)


@choose_centres.wrong("the smallest products")
def _(density, delta, n_clusters):
    return (density * delta).argsort(stable=True)[:n_clusters]


@choose_centres.wrong("sorted by row number, not by product")
def _(density, delta, n_clusters):
    return _best(density * delta, n_clusters).sort().values


@choose_centres.wrong("the worst of the chosen first")
def _(density, delta, n_clusters):
    return _best(density * delta, n_clusters).flip(0)


@choose_centres.wrong("sorted upwards: the right rows, but the largest product last")
def _(density, delta, n_clusters):
    return (density * delta).argsort(stable=True)[-n_clusters:]


@choose_centres.wrong("topk: for equal products it promises no order")
def _(density, delta, n_clusters):
    return (density * delta).topk(n_clusters).indices


@choose_centres.wrong("equal products: the later row first")
def _(density, delta, n_clusters):
    return len(density) - 1 - _best((density * delta).flip(0), n_clusters)


@choose_centres.wrong("the products, not the row numbers")
def _(density, delta, n_clusters):
    return (density * delta).sort(descending=True).values[:n_clusters]


@choose_centres.wrong("True and False for each point, not the row numbers")
def _(density, delta, n_clusters):
    score = density * delta
    return score >= score.sort(descending=True).values[n_clusters - 1]


@choose_centres.wrong("everybody's rank, not the row numbers of the best")
def _(density, delta, n_clusters):
    return (density * delta).argsort(descending=True, stable=True).argsort(stable=True)[:n_clusters]


# -- the rest joins ----------------------------------------------------------------------------------------------------------
join_centres = Exercise("join_centres", lesson="10")


@join_centres.cases
def _():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0], [4.0, 5.0], [5.0, 4.5], [0.0, 1.5]])
    yield Case("six points, two centres", x=x, centres=np.array([2, 0]))
    yield Case("ten points, three centres", **_heaps(np.random.default_rng(106), 10, 3))


def _heaps(rng: np.random.Generator, n: int, k: int) -> dict[str, np.ndarray]:
    """Points far from the origin on one side, none halfway between two centres, centres not in order of rows."""
    while True:
        middles = rng.uniform(1.0, 6.0, (k, 2))
        x = middles[rng.permutation(np.arange(n) % k)] * 1.0 + 0.6 * rng.normal(size=(n, 2))
        centres = rng.permutation(n)[:k]
        gaps = np.sort(np.sqrt(((x[:, None] - x[centres]) ** 2).sum(2)), axis=1)
        sizes = np.bincount(np.argmin(((x[:, None] - x[centres]) ** 2).sum(2), 1), minlength=k)
        turned = (np.diff(centres) < 0).any()
        told = [np.argmin(other(x, x[centres]), 1) for other in (_by_product, _by_angle)]
        right = np.argmin(((x[:, None] - x[centres]) ** 2).sum(2), 1)
        if (gaps[:, 1] - gaps[:, 0]).min() > 0.05 and sizes.min() > 1 and turned and all((t != right).any() for t in told):
            return {"x": x, "centres": centres}


def _by_product(x, c):
    return -(x @ c.T)


def _by_angle(x, c):
    return -(x @ c.T) / np.linalg.norm(c, axis=1)


@join_centres.random
def _(rng):
    yield Case("points at random", **_heaps(rng, int(rng.integers(9, 13)), int(rng.integers(3, 5))))


@join_centres.hidden
def _():
    twins = np.array([[1.0, 1.0], [1.0, 1.0], [3.0, 1.0], [0.0, 2.0]])
    yield Case("two centres at the same place", x=twins, centres=np.array([1, 0, 2]))
    yield Case("halfway between two centres", x=np.array([[0.0], [2.0], [1.0], [5.0]]), centres=np.array([1, 0]))
    yield Case("every point a centre", x=np.random.default_rng(107).normal(size=(3, 2)), centres=np.array([2, 0, 1]))
    yield Case("one centre", x=np.random.default_rng(108).normal(size=(5, 2)), centres=np.array([3]))


@join_centres.oracle
def _(x, centres):
    label = []
    for i in range(len(x)):
        own = [c for c in range(len(centres)) if centres[c] == i]
        squares = [sum((x[i] - x[c]) ** 2) for c in centres]
        label.append(own[0] if own else squares.index(min(squares)))
    vectors = []
    for c in range(len(centres)):
        members = [x[i] for i in range(len(x)) if label[i] == c]
        vectors.append(sum(members) / len(members))
    return np.array(label), np.array(vectors)


def _label(x, centres):
    label = (x[:, None] - x[centres]).square().sum(2).argmin(1)
    label[centres] = torch.arange(len(centres))
    return label


def _means(x, label, k):
    return torch.stack([x[label == c].mean(0) for c in range(k)])


@join_centres.wrong("the centre's row number, not the number of the cluster")
def _(x, centres):
    label = _label(x, centres)
    return centres[label], _means(x, label, len(centres))


@join_centres.wrong("clusters numbered by the row of their centre, not in the order given")
def _(x, centres):
    centres = centres.sort().values
    label = _label(x, centres)
    return label, _means(x, label, len(centres))


@join_centres.wrong("the centre itself as vector, not the mean of the members")
def _(x, centres):
    return _label(x, centres), x[centres]


@join_centres.wrong("the sum of the members")
def _(x, centres):
    label = _label(x, centres)
    return label, _means(x, label, len(centres)) * torch.bincount(label, minlength=len(centres))[:, None]


@join_centres.wrong("the mean without the centre itself")
def _(x, centres):
    label = _label(x, centres)
    sizes = torch.bincount(label, minlength=len(centres))[:, None]
    sums = _means(x, label, len(centres)) * sizes - x[centres]
    return label, sums / (sizes - 1).clamp_min(1)


@join_centres.wrong("the mean without the centre itself: not a number where it is alone")
def _(x, centres):
    label = _label(x, centres)
    others = label.clone()
    others[centres] = -1
    return label, _means(x, others, len(centres))


@join_centres.wrong("the centre counted twice")
def _(x, centres):
    label = _label(x, centres)
    sizes = torch.bincount(label, minlength=len(centres))[:, None]
    return label, (_means(x, label, len(centres)) * sizes + x[centres]) / (sizes + 1)


@join_centres.wrong("divided by all points, not by the members")
def _(x, centres):
    label = _label(x, centres)
    sizes = torch.bincount(label, minlength=len(centres))[:, None]
    return label, _means(x, label, len(centres)) * sizes / len(x)


@join_centres.wrong("the farthest centre")
def _(x, centres):
    label = (x[:, None] - x[centres]).square().sum(2).argmax(1)
    label[centres] = torch.arange(len(centres))
    return label, _means(x, label, len(centres))


@join_centres.wrong("the largest inner product, not the smallest distance")
def _(x, centres):
    label = (x @ x[centres].T).argmax(1)
    label[centres] = torch.arange(len(centres))
    return label, _means(x, label, len(centres))


@join_centres.wrong("the smallest angle, not the smallest distance")
def _(x, centres):
    unit = torch.nn.functional.normalize(x, dim=1)
    label = (unit @ unit[centres].T).argmax(1)
    label[centres] = torch.arange(len(centres))
    return label, _means(x, label, len(centres))


@join_centres.wrong("the vectors first, then the clusters: the other way round")
def _(x, centres):
    label = _label(x, centres)
    return _means(x, label, len(centres)), label


@join_centres.wrong("a centre at another's place joins that one: a cluster is left without members")
def _(x, centres):
    label = (x[:, None] - x[centres]).square().sum(2).argmin(1)
    return label, _means(x, label, len(centres))


# -- each interest once --------------------------------------------------------------------------------------------------------
interests_once = Exercise("interests_once", lesson="10")


@interests_once.cases
def _():
    yield Case(
        "two histories",
        interest_of=np.array([[4, 1], [0, 1], [4, 5], [2, 0]]),
        items=np.array([[1, 2, 1], [3, 0, 0]]),
        lengths=np.array([3, 1]),
        none=5,
    )
    yield Case("three histories, items that lack a modality", **_histories(np.random.default_rng(109), 3))


def _histories(rng: np.random.Generator, rows: int) -> dict:
    """Item 0 alone has interest 0; its number pads. Interests come again in and between histories; some tokens are missing."""
    n, none = 9, 7
    of = rng.integers(1, 5, size=(n, 2))
    of[0] = (0, 6)
    of[1], of[2], of[3] = (3, none), (none, 1), (5, 3)
    items, lengths = np.zeros((rows, 5), dtype=np.int64), rng.integers(2, 5, size=rows)
    lengths[0] = 5
    for row, length in enumerate(lengths):
        items[row, :length] = rng.integers(4, n, size=length)
    items[0, :5] = rng.permutation([3, 1, 2, int(items[0, 3]), 3])
    items[1, :2] = (1, 3)
    return {"interest_of": of, "items": items, "lengths": lengths, "none": none}


@interests_once.random
def _(rng):
    yield Case("histories at random", **_histories(rng, int(rng.integers(3, 6))))


@interests_once.hidden
def _():
    of = np.array([[0, 2], [2, 2], [3, 3]])
    yield Case(
        "nothing read yet, and nothing to read",
        interest_of=of,
        items=np.array([[0, 0], [2, 0]]),
        lengths=np.array([0, 1]),
        none=3,
    )
    yield Case("item 0 was taken", interest_of=of, items=np.array([[0, 1, 0]]), lengths=np.array([2]), none=3)
    yield Case(
        "one modality", interest_of=np.array([[1], [0], [1]]), items=np.array([[2, 1, 0]]), lengths=np.array([3]), none=2
    )


@interests_once.oracle
def _(interest_of, items, lengths, none):
    width = items.shape[1] * interest_of.shape[1]
    out = []
    for row, length in zip(items, lengths, strict=True):
        seen = sorted({int(k) for item in row[: int(length)] for k in interest_of[int(item)] if k != none})
        out.append(seen + [none] * (width - len(seen)))
    return np.array(out)


def _found(interest_of, items, lengths, none):
    """(B, L * M) the interests of all tokens read, none elsewhere."""
    there = torch.arange(items.shape[1]) < lengths[:, None]
    return interest_of[items].masked_fill(~there[..., None], none).flatten(1)


def _once(found, none):
    found = found.sort(1).values
    again = torch.zeros_like(found, dtype=torch.bool)
    again[:, 1:] = found[:, 1:] == found[:, :-1]
    return found.masked_fill(again, none).sort(1).values


@interests_once.wrong("the padding read as well: everybody has taken item 0")
def _(interest_of, items, lengths, none):
    return _once(interest_of[items].flatten(1), none)


@interests_once.wrong("every item 0 taken for padding: it may have been taken, the lengths tell")
def _(interest_of, items, lengths, none):
    return _once(interest_of[items].masked_fill((items == 0)[..., None], none).flatten(1), none)


@interests_once.wrong("repeats left in")
def _(interest_of, items, lengths, none):
    return _found(interest_of, items, lengths, none).sort(1).values


@interests_once.wrong("neighbours compared before sorting: repeats further apart are left in")
def _(interest_of, items, lengths, none):
    found = _found(interest_of, items, lengths, none)
    again = torch.zeros_like(found, dtype=torch.bool)
    again[:, 1:] = found[:, 1:] == found[:, :-1]
    return found.masked_fill(again, none).sort(1).values


@interests_once.wrong("holes left where a repeat stood: sort once more")
def _(interest_of, items, lengths, none):
    found = _found(interest_of, items, lengths, none).sort(1).values
    again = torch.zeros_like(found, dtype=torch.bool)
    again[:, 1:] = found[:, 1:] == found[:, :-1]
    return found.masked_fill(again, none)


@interests_once.wrong("all copies dropped, the first one too")
def _(interest_of, items, lengths, none):
    found = _found(interest_of, items, lengths, none)
    count = (found[:, :, None] == found[:, None]).sum(2)
    return found.masked_fill(count > 1, none).sort(1).values


@interests_once.wrong("items made distinct, not interests")
def _(interest_of, items, lengths, none):
    seen = items.masked_fill(torch.arange(items.shape[1]) >= lengths[:, None], -1).sort(1).values
    first = torch.ones_like(seen, dtype=torch.bool)
    first[:, 1:] = seen[:, 1:] != seen[:, :-1]
    kept = (first & (seen >= 0))[..., None]
    return interest_of[seen.clamp_min(0)].masked_fill(~kept, none).flatten(1).sort(1).values


@interests_once.wrong("the first modality alone")
def _(interest_of, items, lengths, none):
    once = _once(_found(interest_of[:, :1], items, lengths, none), none)
    rest = torch.full((len(items), items.shape[1] * (interest_of.shape[1] - 1)), none)
    return torch.cat([once, rest], 1)


@interests_once.wrong("the first modality alone, and columns for it alone")
def _(interest_of, items, lengths, none):
    return _once(_found(interest_of[:, :1], items, lengths, none), none)


@interests_once.wrong("in the order in which they first occur, not ascending")
def _(interest_of, items, lengths, none):
    found, out = _found(interest_of, items, lengths, none), []
    for row in found.tolist():
        seen = [k for k in dict.fromkeys(row) if k != none]
        out.append(seen + [none] * (found.shape[1] - len(seen)))
    return torch.tensor(out)


@interests_once.wrong("descending")
def _(interest_of, items, lengths, none):
    once = _once(_found(interest_of, items, lengths, none), none)
    once = once.masked_fill(once == none, -1).sort(1, descending=True).values
    return once.masked_fill(once < 0, none)


@interests_once.wrong("filled up with -1, not with `none`")
def _(interest_of, items, lengths, none):
    once = _once(_found(interest_of, items, lengths, none), none)
    return once.masked_fill(once == none, -1)


@interests_once.wrong("filled up with 0, which is an interest, and not with `none`")
def _(interest_of, items, lengths, none):
    once = _once(_found(interest_of, items, lengths, none), none)
    return once.masked_fill(once == none, 0)


@interests_once.wrong("an interest of somebody else's history counts as a repeat: distinct over the whole batch")
def _(interest_of, items, lengths, none):
    found, seen, out = _found(interest_of, items, lengths, none), set(), []
    for row in found.tolist():
        new = sorted(set(row) - seen - {none})
        seen |= set(new)
        out.append(new + [none] * (found.shape[1] - len(new)))
    return torch.tensor(out)


@interests_once.wrong("missing tokens kept as one interest more, in front")
def _(interest_of, items, lengths, none):
    found = _found(interest_of, items, lengths, none)
    return _once(found.masked_fill(found == none, -1), none)


@interests_once.wrong("interests of at least two tokens only")
def _(interest_of, items, lengths, none):
    found = _found(interest_of, items, lengths, none)
    count = (found[:, :, None] == found[:, None]).sum(2)
    return _once(found.masked_fill(count < 2, none), none)
