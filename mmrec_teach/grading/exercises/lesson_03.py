"""Exercises of lesson 03: the edge values of the graph, one step along the edges, the mean of the layers."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from mmrec_teach.grading.exercise import Case, Exercise, expect
from mmrec_teach.grading.watch import Effort, ask_large
from mmrec_teach.ops.graph import csr


def _random_edges(seed: int | np.random.Generator, n_users: int, n_items: int, n_edges: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct edges in random order."""
    rng = np.random.default_rng(seed)
    flat = rng.permutation(n_users * n_items)[:n_edges]
    return flat // n_items, flat % n_items


def _edge_values(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> np.ndarray:
    """One over the root of both degrees, by a plain count for every edge."""
    values = np.empty(len(users))
    for e, (u, i) in enumerate(zip(users, items)):
        values[e] = 1.0 / (np.sqrt(np.sum(users == u)) * np.sqrt(np.sum(items == i)))
    return values


# -- the values of the edges -----------------------------------------------------------------------------------------------
normalize_adjacency = Exercise("normalize_adjacency", lesson="03")


@normalize_adjacency.cases
def _():
    yield Case("one user, one item", users=np.array([0]), items=np.array([0]), n_users=1, n_items=1)
    yield Case(
        "a user of two items, one of them shared",
        users=np.array([0, 0, 1]),
        items=np.array([0, 1, 1]),
        n_users=2,
        n_items=2,
    )


@normalize_adjacency.random
def _(rng):
    users, items = _random_edges(rng, 12, 9, int(rng.integers(30, 50)))
    yield Case("some forty edges in any order", users=users, items=items, n_users=12, n_items=9)


@normalize_adjacency.hidden
def _():
    yield Case(
        "a user and an item without any edge",
        users=np.array([2, 0, 2]),
        items=np.array([1, 3, 3]),
        n_users=4,
        n_items=5,
    )
    yield Case(
        "an item that everybody took",
        users=np.arange(7),
        items=np.zeros(7, dtype=np.int64),
        n_users=7,
        n_items=1,
    )


@normalize_adjacency.oracle
def _(users, items, n_users, n_items):
    return _edge_values(users, items, n_users, n_items)


@normalize_adjacency.rule("the matrix never stretches a vector: its largest eigenvalue is 1")
def _(normalize_adjacency):
    users, items = _random_edges(1, 8, 6, 20)
    values = normalize_adjacency(torch.from_numpy(users), torch.from_numpy(items), 8, 6).detach().double().numpy()
    square = np.zeros((14, 14))
    square[users, items + 8] = square[items + 8, users] = values
    largest = np.abs(np.linalg.eigvalsh(square)).max()
    expect(
        abs(largest - 1.0) < 1e-5,
        f"the largest eigenvalue of the matrix of these values is {largest:.3g}: layers would grow or fade",
    )


@normalize_adjacency.rule("no Python loop over the edges")
def _(normalize_adjacency):
    complaint = "the edges are gone through one by one: count all degrees at once, then look them up"
    users, items = torch.arange(400) % 20, torch.arange(400) // 20
    with Effort() as effort:
        normalize_adjacency(users, items, 20, 20)
    expect(effort.calls < 200, f"{effort.calls:,} torch calls for 400 edges: {complaint}")
    users, items = torch.arange(160_000) % 400, torch.arange(160_000) // 400
    answer, right = ask_large(normalize_adjacency, _right_values, lambda: (users.clone(), items.clone(), 400, 400), complaint)
    expect(tuple(answer.shape) == (160_000,) and bool(torch.allclose(answer, right)), "160,000 edges have other values")


def _right_values(users: torch.Tensor, items: torch.Tensor, n_users: int, n_items: int) -> torch.Tensor:
    degrees = torch.bincount(users, minlength=n_users)[users] * torch.bincount(items, minlength=n_items)[items]
    return degrees.float().rsqrt()


@normalize_adjacency.wrong("dividing by the user's degree alone, so each user takes a plain mean")
def _(users, items, n_users, n_items):
    degree = torch.bincount(users, minlength=n_users)
    return 1.0 / degree[users].float()


@normalize_adjacency.wrong("dividing by both degrees without the square root")
def _(users, items, n_users, n_items):
    user_degree = torch.bincount(users, minlength=n_users).float()
    item_degree = torch.bincount(items, minlength=n_items).float()
    return 1.0 / (user_degree[users] * item_degree[items])


@normalize_adjacency.wrong("every edge counts the same: no normalisation")
def _(users, items, n_users, n_items):
    return torch.ones(len(users))


@normalize_adjacency.wrong("a self-loop counted into every degree")
def _(users, items, n_users, n_items):
    user_degree = torch.bincount(users, minlength=n_users).float() + 1
    item_degree = torch.bincount(items, minlength=n_items).float() + 1
    return (user_degree[users] * item_degree[items]).rsqrt()


@normalize_adjacency.wrong("the degree taken by position in the list of edges and not by who is at the end of the edge")
def _(users, items, n_users, n_items):
    user_degree = torch.bincount(users, minlength=max(n_users, len(users))).float().clamp_min(1)
    item_degree = torch.bincount(items, minlength=max(n_items, len(items))).float().clamp_min(1)
    return (user_degree[: len(users)] * item_degree[: len(items)]).rsqrt()


@normalize_adjacency.wrong("the square root of the sum of the degrees in place of their product")
def _(users, items, n_users, n_items):
    user_degree = torch.bincount(users, minlength=n_users).float()
    item_degree = torch.bincount(items, minlength=n_items).float()
    return (user_degree[users] + item_degree[items]).rsqrt()


@normalize_adjacency.wrong("a Python loop that counts for every edge anew")
def _(users, items, n_users, n_items):
    return torch.stack([((users == u).sum() * (items == i).sum()).float().rsqrt() for u, i in zip(users, items)])


@normalize_adjacency.wrong("off by one: each user's count read from the user before")
def _(users, items, n_users, n_items):
    user_degree = torch.bincount(users, minlength=n_users).float().clamp_min(1)
    item_degree = torch.bincount(items, minlength=n_items).float()
    return (user_degree[users - 1] * item_degree[items]).rsqrt()


# -- one step along the edges ----------------------------------------------------------------------------------------------
propagate = Exercise("propagate", lesson="03", gradient=("h",))


@propagate.cases
def _():
    yield Case(
        "one edge: the two ends swap their vectors",
        users=np.array([0]),
        items=np.array([0]),
        values=np.array([1.0]),
        h=np.array([[1.0, 2.0], [-3.0, 0.5]]),
        n_users=1,
    )
    yield Case(
        "a user of two items hears both",
        users=np.array([0, 0, 1]),
        items=np.array([0, 1, 1]),
        values=np.array([0.5, 1.0, 0.25]),
        h=np.array([[1.0], [2.0], [10.0], [100.0]]),
        n_users=2,
    )


@propagate.random
def _(rng):
    users, items = _random_edges(rng, 7, 5, 18)
    yield Case(
        "eighteen edges at random",
        users=users,
        items=items,
        values=rng.uniform(0.2, 0.9, size=18),
        h=rng.normal(size=(12, 4)),
        n_users=7,
    )


@propagate.hidden
def _():
    rng = np.random.default_rng(0)
    yield Case(
        "who has no edge hears nothing",
        users=np.array([2, 0]),
        items=np.array([1, 1]),
        values=np.array([0.7, 0.7]),
        h=rng.normal(size=(3 + 3, 2)),
        n_users=3,
    )
    yield Case(
        "no edge at all",
        users=np.zeros(0, dtype=np.int64),
        items=np.zeros(0, dtype=np.int64),
        values=np.zeros(0),
        h=rng.normal(size=(3, 2)),
        n_users=1,
    )


@propagate.oracle
def _(users, items, values, h, n_users):
    square = np.zeros((len(h), len(h)))
    for u, i, a in zip(users, items, values):
        square[u, n_users + i] = square[n_users + i, u] = a
    return square @ h


def _right_step(users: torch.Tensor, items: torch.Tensor, values: torch.Tensor, h: torch.Tensor, n_users: int) -> torch.Tensor:
    new = torch.zeros_like(h).index_add(0, users, values[:, None] * h[n_users + items])
    return new.index_add(0, n_users + items, values[:, None] * h[users])


@propagate.rule("no user-by-item table: memory grows with the edges")
def _(propagate):
    n_users, n_items = 800, 600
    users, items = torch.arange(50) * 7, torch.arange(50) * 11
    h = torch.ones(n_users + n_items, 2)
    with Effort(h) as effort:
        out = propagate(users, items, torch.ones(50), h, n_users)
    expect(tuple(out.shape) == (n_users + n_items, 2), f"{n_users + n_items} rows went in and {out.shape[0]} came out")
    expect(
        effort.largest <= 4 * h.numel(),
        f"your function makes a table of {effort.largest:,} numbers; 50 edges between {n_users} users and {n_items} items need none",
    )
    # sixty times as many of both: a table of users and items would be 1.7 GB at a byte each
    h = torch.ones(60 * (n_users + n_items), 2)
    answer, right = ask_large(
        propagate,
        _right_step,
        lambda: (users.clone(), items.clone(), torch.ones(50), h.clone(), 60 * n_users),
        "a table of users and items is made; the edges need none",
        spare=4.0,
    )
    expect(answer.shape == right.shape and bool(torch.allclose(answer, right)), "a larger graph has another answer")


@propagate.rule("no Python loop over the edges")
def _(propagate):
    complaint = "the edges are gone through one by one: deliver all messages at once with index_add"
    users, items = torch.arange(400) % 20, torch.arange(400) // 20
    with Effort() as effort:
        propagate(users, items, torch.ones(400), torch.ones(40, 2), 20)
    expect(effort.calls < 200, f"{effort.calls:,} torch calls for 400 edges: {complaint}")
    users, items = torch.arange(90_000) % 300, torch.arange(90_000) // 300
    answer, right = ask_large(
        propagate,
        _right_step,
        lambda: (users.clone(), items.clone(), torch.ones(90_000), torch.ones(600, 2), 300),
        complaint,
    )
    expect(answer.shape == right.shape and bool(torch.allclose(answer, right)), "a larger graph has another answer")


@propagate.wrong("users first, and items then hear the users' NEW vectors")
def _(users, items, values, h, n_users):
    new = torch.zeros_like(h)
    new = new.index_add(0, users, values[:, None] * h[n_users + items])
    return new.index_add(0, n_users + items, values[:, None] * new[users])


@propagate.wrong("the last neighbour overwrites the ones before it")
def _(users, items, values, h, n_users):
    new = torch.zeros_like(h)
    new[users] = values[:, None] * h[n_users + items]
    new[n_users + items] = values[:, None] * h[users]
    return new


@propagate.wrong("the result of index_add thrown away: it returns a new table and leaves the old one as it was")
def _(users, items, values, h, n_users):
    new = 0.0 * h
    new.index_add(0, users, values[:, None] * h[n_users + items])
    new.index_add(0, n_users + items, values[:, None] * h[users])
    return new


@propagate.wrong("a node keeps its own vector as well")
def _(users, items, values, h, n_users):
    new = h.clone()
    new = new.index_add(0, users, values[:, None] * h[n_users + items])
    return new.index_add(0, n_users + items, values[:, None] * h[users])


@propagate.wrong("neighbours summed without the edges' values")
def _(users, items, values, h, n_users):
    new = torch.zeros_like(h)
    new = new.index_add(0, users, h[n_users + items])
    return new.index_add(0, n_users + items, h[users])


@propagate.wrong("the items' rows looked up without the offset of the users")
def _(users, items, values, h, n_users):
    new = torch.zeros_like(h)
    new = new.index_add(0, users, values[:, None] * h[items])
    return new.index_add(0, items, values[:, None] * h[users])


@propagate.wrong("news travels to the users only")
def _(users, items, values, h, n_users):
    new = torch.zeros_like(h)
    return new.index_add(0, users, values[:, None] * h[n_users + items])


@propagate.wrong("a table of users and items in between")
def _(users, items, values, h, n_users):
    table = torch.zeros(n_users, len(h) - n_users).index_put((users, items), values)
    return torch.cat([table @ h[n_users:], table.T @ h[:n_users]])


@propagate.wrong("a Python loop over the edges")
def _(users, items, values, h, n_users):
    new = torch.zeros_like(h)
    for u, i, value in zip(users.tolist(), items.tolist(), values):
        new[u] += value * h[n_users + i]
        new[n_users + i] += value * h[u]
    return new


@propagate.wrong("cut off from the gradient: h.detach()")
def _(users, items, values, h, n_users):
    news = h.detach()
    new = torch.zeros_like(news).index_add(0, users, values[:, None] * news[n_users + items])
    return new.index_add(0, n_users + items, values[:, None] * news[users])


# -- the mean of the layers ------------------------------------------------------------------------------------------------
layer_mean = Exercise("layer_mean", lesson="03", gradient=("h0",))


def _graph(seed: int | np.random.Generator, n_users: int, n_items: int, n_edges: int) -> sp.csr_array:
    users, items = _random_edges(seed, n_users, n_items, n_edges)
    square = np.zeros((n_users + n_items, n_users + n_items))
    square[users, items + n_users] = square[items + n_users, users] = _edge_values(users, items, n_users, n_items)
    return sp.csr_array(square)


@layer_mean.cases
def _():
    pair = sp.csr_array(np.array([[0.0, 1.0], [1.0, 0.0]]))
    yield Case("one edge, one layer: both ends meet in the middle", adjacency=pair, h0=np.array([[2.0], [4.0]]), n_layers=1)
    yield Case("one edge, two layers", adjacency=pair, h0=np.array([[3.0, 0.0], [0.0, 6.0]]), n_layers=2)


@layer_mean.random
def _(rng):
    graph = _graph(rng, 4, 3, 8)
    yield Case("seven nodes, a few layers", adjacency=graph, h0=rng.normal(size=(7, 2)), n_layers=int(rng.integers(2, 5)))


@layer_mean.hidden
def _():
    rng = np.random.default_rng(3)
    pair = sp.csr_array(np.array([[0.0, 1.0], [1.0, 0.0]]))
    yield Case("no layer: the vectors as they are", adjacency=pair, h0=np.array([[2.0, 1.0], [4.0, 0.0]]), n_layers=0)
    yield Case("five layers", adjacency=_graph(4, 6, 5, 14), h0=rng.normal(size=(11, 2)), n_layers=5)


@layer_mean.oracle
def _(adjacency, h0, n_layers):
    dense = adjacency.toarray()
    powers = [np.linalg.matrix_power(dense, layer) for layer in range(n_layers + 1)]
    return np.mean([power @ h0 for power in powers], axis=0)


@layer_mean.rule("the matrix stays sparse: memory grows with the edges")
def _(layer_mean):
    def ring(n: int) -> tuple:
        """n nodes, each with two neighbours."""
        columns = torch.stack([(torch.arange(n) - 1) % n, (torch.arange(n) + 1) % n], dim=1).sort(1).values.flatten()
        rows = torch.arange(n).repeat_interleave(2)
        return csr(rows, columns, torch.full((2 * n,), 0.5), (n, n)), torch.arange(2.0 * n).remainder(3).reshape(n, 2), 2

    complaint = "multiply layer by layer with `adjacency @ layer`"
    given = ring(1000)
    with Effort(*given[:2]) as effort:
        layer_mean(*given)
    expect(
        effort.largest <= 20_000,
        f"your function makes a table of {effort.largest:,} numbers from a graph of 1000 edges: {complaint}",
    )
    answer, right = ask_large(layer_mean, _right_mean, lambda: ring(30_000), complaint, spare=4.0)
    expect(answer.shape == right.shape and bool(torch.allclose(answer, right)), "a larger graph has another answer")


def _right_mean(adjacency: torch.Tensor, h0: torch.Tensor, n_layers: int) -> torch.Tensor:
    layers = [h0]
    for _ in range(n_layers):
        layers.append(adjacency @ layers[-1])
    return torch.stack(layers).mean(0)


@layer_mean.wrong("the last layer alone")
def _(adjacency, h0, n_layers):
    h = h0
    for _ in range(n_layers):
        h = adjacency @ h
    return h * 1.0


@layer_mean.wrong("the sum of the layers")
def _(adjacency, h0, n_layers):
    h = total = h0 * 1.0
    for _ in range(n_layers):
        h = adjacency @ h
        total = total + h
    return total


@layer_mean.wrong("layer 0 left out of the mean")
def _(adjacency, h0, n_layers):
    if n_layers == 0:
        return h0 * 1.0
    h, layers = h0, []
    for _ in range(n_layers):
        h = adjacency @ h
        layers.append(h)
    return torch.stack(layers).mean(0)


@layer_mean.wrong("divided by the number of steps, one too few")
def _(adjacency, h0, n_layers):
    h = total = h0 * 1.0
    for _ in range(n_layers):
        h = adjacency @ h
        total = total + h
    return total / max(n_layers, 1)


@layer_mean.wrong("layer 0 left out of the sum, though the sum is divided by L + 1")
def _(adjacency, h0, n_layers):
    layer, total = h0, 0.0 * h0
    for _ in range(n_layers):
        layer = adjacency @ layer
        total = total + layer
    return total / (n_layers + 1)


@layer_mean.wrong("one step too many")
def _(adjacency, h0, n_layers):
    layer = total = h0 * 1.0
    for _ in range(n_layers + 1):
        layer = adjacency @ layer
        total = total + layer
    return total / (n_layers + 2)


@layer_mean.wrong("every layer starts again from layer 0")
def _(adjacency, h0, n_layers):
    return torch.stack([h0, *[adjacency @ h0 for _ in range(n_layers)]]).mean(0)


@layer_mean.wrong("every layer is a step from the running sum")
def _(adjacency, h0, n_layers):
    total = h0 * 1.0
    for _ in range(n_layers):
        total = total + adjacency @ total
    return total / (n_layers + 1)


@layer_mean.wrong("the matrix made dense")
def _(adjacency, h0, n_layers):
    dense = adjacency.to_dense()
    return sum(torch.matrix_power(dense, layer) @ h0 for layer in range(n_layers + 1)) / (n_layers + 1)


@layer_mean.wrong("the sum kept in the learned vectors themselves")
def _(adjacency, h0, n_layers):
    layer = total = h0
    for _ in range(n_layers):
        layer = adjacency @ layer
        total += layer
    return total / (n_layers + 1)


@layer_mean.wrong("cut off from the gradient: the layers taken with torch.no_grad()")
def _(adjacency, h0, n_layers):
    with torch.no_grad():
        layer = total = h0
        for _ in range(n_layers):
            layer = adjacency @ layer
            total = total + layer
    return total / (n_layers + 1)
