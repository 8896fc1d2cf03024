"""Graphs and losses against dense formulas, brute force and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmrec_teach.errors import OptionError
from mmrec_teach.ops import losses
from mmrec_teach.ops.graph import knn_graph, normalized_adjacency, propagate


def edges(n_users: int = 7, n_items: int = 9, n: int = 25, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    keys = np.random.default_rng(seed).permutation(n_users * n_items)[:n]
    return keys // n_items, keys % n_items


# -- adjacency and propagation --------------------------------------------------------------------------------------------
def test_adjacency_is_the_dense_formula():
    users, items = edges()
    a = np.zeros((16, 16))
    a[users, items + 7] = a[items + 7, users] = 1
    degree = a.sum(1)
    scale = np.divide(1, np.sqrt(degree), where=degree > 0, out=np.zeros(16))
    ours = normalized_adjacency(users, items, 7, 9, torch.float64).to_dense().numpy()
    np.testing.assert_allclose(ours, scale[:, None] * a * scale, atol=1e-12)


def test_nodes_without_edges_have_empty_rows():
    adjacency = normalized_adjacency(np.array([0]), np.array([1]), 3, 2)
    dense = adjacency.to_dense()
    assert dense.sum() == 2.0
    assert torch.isfinite(dense).all()


def test_rows_are_sorted_whatever_the_order_of_edges():
    users, items = edges()
    shuffled = np.random.default_rng(1).permutation(len(users))
    a = normalized_adjacency(users, items, 7, 9)
    b = normalized_adjacency(users[shuffled], items[shuffled], 7, 9)
    assert torch.equal(a.col_indices(), b.col_indices())
    assert torch.equal(a.values(), b.values())


def test_propagate_gradcheck():
    users, items = edges()
    adjacency = normalized_adjacency(users, items, 7, 9, torch.float64)
    h = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: propagate(adjacency, x), (h,))
    assert torch.autograd.gradgradcheck(lambda x: propagate(adjacency, x), (h,))


def test_propagate_takes_tables_of_any_layout():
    users, items = edges()
    adjacency = normalized_adjacency(users, items, 7, 9, torch.float64)
    h = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).T
    assert torch.allclose(propagate(adjacency, h), adjacency.to_dense() @ h)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_propagate_on_cuda():
    users, items = edges()
    adjacency = normalized_adjacency(users, items, 7, 9)
    h = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(propagate(adjacency.cuda(), h.cuda()).cpu(), propagate(adjacency, h), atol=1e-6)


# -- kNN graphs -----------------------------------------------------------------------------------------------------------
def brute_force(x: np.ndarray, k: int, include_self: bool) -> np.ndarray:
    """The graph before normalisation, written as loops."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    n = len(x)
    graph = np.zeros((n, n))
    for i in range(n):
        similar = [(math.inf if j == i else float(x[i] @ x[j]), j) for j in range(n) if include_self or j != i]
        for s, j in sorted(similar, key=lambda t: (-t[0], t[1]))[:k]:
            graph[i, j] = 1.0 if math.isinf(s) else max(s, 0.0)
    return graph


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("block", [1, 5, 100])
def test_knn_graph_equals_brute_force(include_self, block):
    x = np.random.default_rng(0).normal(size=(23, 6))
    expected = brute_force(x, 4, include_self)
    options = {"include_self": include_self, "block": block}
    ours = knn_graph(torch.from_numpy(x), 4, normalization="none", **options).to_dense().numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    degree = expected.sum(1)
    symmetric = knn_graph(torch.from_numpy(x), 4, **options).to_dense().numpy()
    np.testing.assert_allclose(symmetric, expected / np.sqrt(np.outer(degree, degree)), atol=1e-12)
    row = knn_graph(torch.from_numpy(x), 4, normalization="row", **options).to_dense().numpy()
    np.testing.assert_allclose(row.sum(1), 1.0)
    binary = knn_graph(torch.from_numpy(x), 4, weights="binary", normalization="none", **options).to_dense().numpy()
    np.testing.assert_array_equal(binary.sum(1), 4)


def test_knn_ties_go_to_the_lower_index():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    graph = knn_graph(x, 2, weights="binary", normalization="none").to_dense()
    assert graph.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]


def test_missing_items_have_no_neighbours():
    x = np.random.default_rng(0).normal(size=(6, 3))
    missing = np.array([False, True, False, False, False, False])
    graph = knn_graph(x, 3, missing=missing).to_dense()
    assert graph[1].sum() == 0
    assert graph[:, 1].sum() == 0
    with pytest.raises(OptionError, match="1 to 5 for 5 items"):
        knn_graph(x, 6, missing=missing)
    with pytest.raises(OptionError, match="too few items with features to find neighbours among .found 0 of 6"):
        knn_graph(x, 3, missing=np.ones(6, bool))


@pytest.mark.parametrize(
    "options", [{"weights": "l2"}, {"normalization": "max"}, {"k": 0}, {"k": 7}, {"k": 6, "include_self": False}]
)
def test_knn_bad_options(options):
    with pytest.raises(OptionError):
        knn_graph(np.eye(6), **options)


# -- losses ---------------------------------------------------------------------------------------------------------------
def test_bpr_against_plain_python():
    positive, negative = [2.0, -1.0, 0.5], [1.0, 3.0, 0.5]
    expected = -sum(math.log(1 / (1 + math.exp(-(p - n)))) for p, n in zip(positive, negative, strict=True)) / 3
    assert losses.bpr(torch.tensor(positive), torch.tensor(negative)).item() == pytest.approx(expected, rel=1e-6)
    assert losses.bpr_released(torch.tensor(positive), torch.tensor(negative)).item() == pytest.approx(expected, rel=1e-5)


def test_bpr_gradient_survives_where_the_released_form_loses_it():
    x = torch.tensor([-60.0], requires_grad=True)
    (paper,) = torch.autograd.grad(losses.bpr(x, torch.zeros(1)), x)
    (released,) = torch.autograd.grad(losses.bpr_released(x, torch.zeros(1)), x)
    assert paper.item() == pytest.approx(-1.0)
    assert abs(released.item()) < 1e-6


def test_bpr_gradcheck():
    generator = torch.Generator().manual_seed(0)
    p, n = (torch.randn(6, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(losses.bpr, (p, n))


def test_l2_is_half_the_squares_per_row():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[2.0], [0.0]])
    assert losses.l2(a, b).item() == pytest.approx((1 + 4 + 9 + 4) / 4)


def test_emb_norm_is_unsquared_and_divided_by_the_last_table():
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0], [8.0]])
    assert losses.emb_norm(a, b).item() == pytest.approx((5 + 10) / 2)
