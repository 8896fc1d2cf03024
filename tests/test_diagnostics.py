"""Diagnostics against closed forms, invariances, and loops written the slow, plain way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.evaluation.diagnostics import (
    alignment,
    effective_rank,
    knn_overlap,
    linear_cka,
    mean_cosine,
    modality_gap,
    report,
    uniformity,
)


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed))[0]


def simplex(n: int) -> torch.Tensor:
    """n points in n dimensions, equally far apart, centred on the origin."""
    return torch.eye(n, dtype=torch.float64) - 1 / n


# -- closed forms -------------------------------------------------------------------------------------------------------
def test_identical_points():
    x = torch.tensor([[0.1, 0.2, 0.7]]).repeat(50, 1)
    assert uniformity(x) == pytest.approx(0, abs=1e-12)
    assert mean_cosine(x) == pytest.approx(1)
    assert effective_rank(x) == pytest.approx(1)
    assert alignment(x, 4 * x) == pytest.approx(0, abs=1e-12)
    assert modality_gap(x, 4 * x) == pytest.approx(0, abs=1e-12)
    assert math.isnan(linear_cka(x, normal(50, 3)))
    assert math.isnan(effective_rank(x, center=True))


@pytest.mark.parametrize("n", [2, 5, 40])
def test_orthonormal_frame(n):
    x = rotation(n)
    assert uniformity(x) == pytest.approx(-4)
    assert uniformity(x, t=3) == pytest.approx(-6)
    assert mean_cosine(x) == pytest.approx(0, abs=1e-12)
    assert effective_rank(x) == pytest.approx(n)
    assert effective_rank(x, center=True) == pytest.approx(n - 1)


@pytest.mark.parametrize("n", [3, 10, 100])
def test_simplex_is_as_spread_as_can_be(n):
    x = simplex(n)
    assert mean_cosine(x) == pytest.approx(-1 / (n - 1))
    assert uniformity(x) == pytest.approx(-4 * n / (n - 1))
    assert effective_rank(x) == pytest.approx(n - 1)


def test_alignment_of_known_angles():
    x = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    y = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert alignment(x[:1], y[:1]) == 0
    assert alignment(x[1:2], y[1:2]) == pytest.approx(2)
    assert alignment(x[2:], y[2:]) == pytest.approx(4)
    assert alignment(x, y) == pytest.approx(2)
    assert alignment(x, y, alpha=1) == pytest.approx((0 + math.sqrt(2) + 2) / 3)


def test_modality_gap_of_known_cones():
    assert modality_gap(torch.tensor([[1.0, 0], [3, 0]]), torch.tensor([[-2.0, 0], [-1, 0], [-7, 0]])) == pytest.approx(2)
    assert modality_gap(torch.tensor([[1.0, 0]]), torch.tensor([[0, 4.0]])) == pytest.approx(math.sqrt(2))
    assert modality_gap(torch.tensor([[1.0, 0], [-1, 0]]), torch.tensor([[0, 1.0], [0, -1]])) == pytest.approx(0, abs=1e-12)


def test_effective_rank_of_known_singular_values():
    values = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    x = rotation(30)[:, :4] @ torch.diag(values) @ rotation(4, 1)
    p = values / values.sum()
    assert effective_rank(x) == pytest.approx(math.exp(-float((p * p.log()).sum())))
    assert effective_rank(x.T) == pytest.approx(effective_rank(x))
    wide = torch.cat([x, torch.zeros(30, 100, dtype=torch.float64)], 1)
    assert effective_rank(wide) == pytest.approx(effective_rank(x))
    assert effective_rank(normal(200, 2) @ normal(2, 64, 1)) <= 2 + 1e-9
    assert math.isnan(effective_rank(torch.zeros(3, 2)))


def test_random_directions_in_many_dimensions():
    x, y = normal(1500, 256, 1), normal(1500, 256, 2)
    # E exp(4 cos) with cos ~ N(0, 1/d) is exp(8/d)
    assert uniformity(x) == pytest.approx(-4 + 8 / 256, abs=0.005)
    assert mean_cosine(x) == pytest.approx(0, abs=0.002)
    assert alignment(x, y) == pytest.approx(2, abs=0.02)
    assert modality_gap(x, y) == pytest.approx(math.sqrt(2 / 1500), rel=0.15)
    assert knn_overlap(x, y, 10) == pytest.approx(10 / 1499, abs=0.004)
    assert linear_cka(normal(4000, 8, 3), normal(4000, 8, 4)) == pytest.approx(8 / 4000, abs=0.002)
    assert effective_rank(normal(5000, 20)) == pytest.approx(20, abs=0.1)


# -- invariances ----------------------------------------------------------------------------------------------------------
def test_rotations_and_scales_change_nothing():
    x, y, q = normal(120, 7), normal(120, 7, 1), rotation(7, 2)
    scale = torch.rand(120, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.5
    for f in (uniformity, mean_cosine):
        assert f((scale * x) @ q) == pytest.approx(f(x))
    assert effective_rank(3 * x @ q) == pytest.approx(effective_rank(x))
    for f in (alignment, modality_gap):
        assert f((scale * x) @ q, y @ q) == pytest.approx(f(x, y))
        assert f(x, y) == pytest.approx(f(y, x))
    assert linear_cka(x, 3 * x @ q + 5) == pytest.approx(1)
    assert linear_cka(x @ q, 0.1 * y - 2) == pytest.approx(linear_cka(x, y))
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))
    assert knn_overlap(x, (scale * x) @ q) == 1
    assert knn_overlap(x, 2 * x @ q + 1, metrics=("euclidean", "euclidean")) == 1
    order = torch.randperm(120, generator=torch.Generator().manual_seed(4))
    assert knn_overlap(x[order], y[order]) == pytest.approx(knn_overlap(x, y))


def test_one_pair_s_distance_does_not_depend_on_its_scale():
    x, y = normal(30, 4), normal(30, 4, 1)
    for size in (1e-150, 1e150):
        assert alignment(size * x, y) == pytest.approx(alignment(x, y))
        assert effective_rank(size * x) == pytest.approx(effective_rank(x))
        assert linear_cka(size * x, y) == pytest.approx(linear_cka(x, y))


def test_both_forms_of_linear_cka_agree():
    x, y = normal(40, 30), normal(40, 35, 1)  # narrow: d x d products
    wide = torch.cat([y, torch.zeros(40, 10, dtype=torch.float64)], 1)  # the same space, wide: n x n kernels
    assert linear_cka(x, wide) == pytest.approx(linear_cka(x, y))


# -- the slow, plain way ------------------------------------------------------------------------------------------------------
def neighbours(x: np.ndarray, k: int, metric: str) -> list[set[int]]:
    if metric == "cosine":
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        near = [[float(np.dot(a, b)) for b in unit] for a in unit]
    else:
        near = [[-float(((a - b) ** 2).sum()) for b in x] for a in x]
    return [set(sorted((j for j in range(len(x)) if j != i), key=lambda j: (-near[i][j], j))[:k]) for i in range(len(x))]


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(4, 30), st.integers(2, 6), st.integers(2, 6), st.integers(1, 3), st.integers(0, 10**6))
def test_everything_equals_plain_loops(n, dx, dy, k, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dx)), rng.normal(size=(n, dy))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    assert mean_cosine(x) == pytest.approx(np.mean([unit[i] @ unit[j] for i, j in pairs]), abs=1e-12)
    assert uniformity(x) == pytest.approx(
        math.log(np.mean([math.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i, j in pairs]))
    )
    assert uniformity(x, dtype=torch.float32) == pytest.approx(uniformity(x), rel=1e-5)
    s = np.linalg.svd(x, compute_uv=False)
    assert effective_rank(x) == pytest.approx(math.exp(-sum(v * math.log(v) for v in s / s.sum())))
    centre = np.eye(n) - 1 / n
    kx, ky = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert linear_cka(x, y) == pytest.approx(np.trace(kx @ ky) / math.sqrt(np.trace(kx @ kx) * np.trace(ky @ ky)))
    for metrics in (("cosine", "cosine"), ("cosine", "euclidean")):
        of_x, of_y = neighbours(x, k, metrics[0]), neighbours(y, k, metrics[1])
        assert knn_overlap(x, y, k, metrics) == pytest.approx(np.mean([len(a & b) / k for a, b in zip(of_x, of_y)]))


def test_blocks_change_nothing(monkeypatch):
    x, y = normal(700, 5), normal(700, 5, 1)  # more than one block
    whole = uniformity(x), knn_overlap(x, y)
    monkeypatch.setattr("mmrec_teach.evaluation.diagnostics._BLOCK", 33)
    assert (uniformity(x), knn_overlap(x, y)) == pytest.approx(whole)


def test_a_sample_estimates_the_whole_and_follows_its_generator():
    x = normal(6000, 3) + torch.tensor([1.0, 0, 0])
    whole = uniformity(x, max_points=6000)
    sample = uniformity(x, max_points=2000, generator=torch.Generator().manual_seed(1))
    assert sample == pytest.approx(whole, abs=0.05)
    assert sample == uniformity(x, max_points=2000, generator=torch.Generator().manual_seed(1))
    assert sample != uniformity(x, max_points=2000, generator=torch.Generator().manual_seed(2))


# -- missing rows, and nonsense ---------------------------------------------------------------------------------------------
def test_rows_without_direction_are_left_out():
    x, y = normal(40, 6), normal(40, 6, 1)
    holed_x, holed_y = x.clone(), y.clone()
    holed_x[:5], holed_y[3:9] = 0, 0
    for f in (uniformity, mean_cosine):
        assert f(holed_x) == pytest.approx(f(x[5:]))
    assert alignment(holed_x, holed_y) == pytest.approx(alignment(x[9:], y[9:]))
    assert knn_overlap(holed_x, holed_y, 4) == pytest.approx(knn_overlap(x[9:], y[9:], 4))
    kept = torch.tensor([0, 1, 2, *range(9, 40)])
    assert modality_gap(holed_x, holed_y) == pytest.approx(modality_gap(x[5:], y[kept]))
    assert math.isnan(mean_cosine(torch.zeros(4, 2)))
    assert math.isnan(uniformity(torch.zeros(4, 2)))
    assert math.isnan(alignment(torch.zeros(4, 2), y[:4, :2]))


def test_numpy_torch_and_gradients_are_all_welcome():
    x, y = normal(20, 4).float(), normal(20, 4, 1).float()
    parameter = torch.nn.Parameter(x)
    for f in (alignment, modality_gap, linear_cka, knn_overlap):
        assert f(parameter, y.numpy()) == f(x, y)
        assert isinstance(f(x, y), float)
    for f in (uniformity, effective_rank, mean_cosine):
        assert f(parameter) == f(x.numpy())
        assert isinstance(f(x), float)


def test_nonsense_is_refused():
    x = normal(6, 3)
    holed = x.clone()
    holed[2, 1] = torch.nan
    for call, error, match in (
        (lambda: uniformity(x[0]), OptionError, "shape"),
        (lambda: uniformity(x[:0]), OptionError, "shape"),
        (lambda: uniformity(x, t=0), OptionError, "t=0"),
        (lambda: mean_cosine(holed), InputError, "row 2"),
        (lambda: effective_rank(holed), InputError, "row 2"),
        (lambda: alignment(x, x[:4]), OptionError, "belong together"),
        (lambda: alignment(x, x[:, :2]), OptionError, "equal shapes"),
        (lambda: alignment(x, x, alpha=0), OptionError, "alpha"),
        (lambda: modality_gap(x, x[:, :2]), OptionError, "width"),
        (lambda: linear_cka(x, x[:4]), OptionError, "rows"),
        (lambda: knn_overlap(x, x, 6), OptionError, "1..5"),
        (lambda: knn_overlap(x, x, 2, ("cosine", "manhattan")), OptionError, "manhattan"),
        (lambda: report({"item/id": x}, pairs=[("item/id", "item/content")]), OptionError, "item/content"),
    ):
        with pytest.raises(error, match=match):
            call()


# -- all at once ---------------------------------------------------------------------------------------------------------------
def test_report_compares_items_with_items_only():
    views = {
        "item/id": normal(60, 8),
        "item/content": normal(60, 5, 1),
        "item/final": normal(60, 8, 2),
        "user/id": normal(80, 8),
    }
    told = report(views, k=5)
    assert set(told) == {*views, "item/id ~ item/content", "item/id ~ item/final", "item/content ~ item/final"}
    assert told["item/id"]["effective_rank"] == effective_rank(views["item/id"])
    assert set(told["item/id ~ item/content"]) == {"linear_cka", "knn_overlap"}  # different widths: no common space
    final = told["item/id ~ item/final"]
    assert final["alignment"] == alignment(views["item/id"], views["item/final"])
    assert final["modality_gap"] == modality_gap(views["item/id"], views["item/final"])
    assert final["knn_overlap"] == knn_overlap(views["item/id"], views["item/final"], 5)


def test_report_samples_the_same_rows_of_every_table():
    x = normal(300, 4)
    told = report({"item/a": x, "item/b": 2 * x}, max_points=100, pairs=[("item/a", "item/b")])
    assert told["item/a ~ item/b"]["alignment"] == pytest.approx(0, abs=1e-12)
    assert told["item/a ~ item/b"]["knn_overlap"] == 1
