"""DPC-KNN against the reference's numbers and against brute force in float64; k-means and the tree of clusters beside it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.ops import clustering
from mmrec_teach.ops.clustering import cluster_tree, density_peaks, dpc_knn, inertia, minibatch_kmeans, tree_sizes

PARITY = Path(__file__).parent / "parity" / "dpc_knn.npz"


def points(n: int = 90, d: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Three heaps of uneven size."""
    generator = torch.Generator().manual_seed(seed)
    middles = 3 * torch.randn(3, d, generator=generator, dtype=torch.float64)
    heap = torch.randint(0, 6, (n,), generator=generator).clamp_max(2)
    return (middles[heap] + torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype)


def brute(x: np.ndarray, k: int, include_self: bool, ties: str, top: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density, delta and parent by the book: every distance, one point at a time."""
    n, d = x.shape
    distance = np.array([[np.sqrt(((x[i] - x[j]) ** 2).sum() / d) for j in range(n)] for i in range(n)])
    spread = np.empty(n)
    for i in range(n):
        others = sorted(distance[i, j] for j in range(n) if include_self or j != i)
        spread[i] = np.mean(np.square(others[:k]))
    delta, parent = np.empty(n), np.full(n, -1)
    for i in range(n):
        denser = [j for j in range(n) if spread[j] < spread[i] or (ties == "index" and spread[j] == spread[i] and j < i)]
        if denser:
            parent[i] = min(denser, key=lambda j: distance[i, j])
            delta[i] = distance[i, parent[i]]
        else:
            delta[i] = distance.max() if top == "all" else distance[i].max()
    return np.exp(-spread), delta, parent


def test_parity_with_the_reference():
    with np.load(PARITY) as z:
        reference = {name: z[name] for name in z.files}
    x, k = torch.from_numpy(reference["tokens"]), int(reference["hyper_k"])
    peaks = density_peaks(x, k, top="all")
    for name in ("density", "delta", "score"):
        np.testing.assert_allclose(getattr(peaks, name), reference[name], atol=1e-5)
    found = dpc_knn(x, int(reference["hyper_n_clusters"]), k, top="all", epsilon=1e-4)
    np.testing.assert_array_equal(found.centres, reference["centres"])
    np.testing.assert_array_equal(found.assignment, reference["assignment"])
    np.testing.assert_allclose(found.vectors, reference["centroid_means"], atol=1e-5)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("ties", ["index", "strict"])
@pytest.mark.parametrize("top", ["own", "all"])
@pytest.mark.parametrize("block", [None, 1, 7])
def test_is_the_brute_force(include_self: bool, ties: str, top: str, block: int | None):
    x = points()
    density, delta, parent = brute(x.numpy(), 4, include_self, ties, top)
    peaks = density_peaks(x, 4, include_self=include_self, ties=ties, top=top, block=block)
    np.testing.assert_allclose(peaks.density, density, rtol=1e-12)
    np.testing.assert_allclose(peaks.delta, delta, rtol=1e-12)
    np.testing.assert_array_equal(peaks.parent, parent)
    np.testing.assert_allclose(peaks.log_score, np.log(density * delta), rtol=1e-9, atol=1e-9)


def test_many_columns_are_searched_by_groups():
    x = points(700, 3, seed=1)
    assert x.shape[0] // clustering.GROUP > 2 * 4  # else the short cut is not taken
    density, delta, parent = brute(x[:, :].numpy(), 4, True, "index", "own")
    peaks = density_peaks(x, 4, block=64)
    np.testing.assert_allclose(peaks.density, density, rtol=1e-12)
    np.testing.assert_allclose(peaks.delta, delta, rtol=1e-12)
    np.testing.assert_array_equal(peaks.parent, parent)


@pytest.mark.parametrize("seed", range(5))
def test_the_k_smallest_of_each_row(seed: int):
    square = torch.rand(9, 1003, generator=torch.Generator().manual_seed(seed))
    columns = clustering._smallest(square, 6)
    assert torch.equal(square.gather(1, columns).sort(1).values, square.sort(1).values[:, :6])
    assert all(len(set(row.tolist())) == 6 for row in columns)


def test_memory_is_bounded_by_the_block(monkeypatch: pytest.MonkeyPatch):
    largest = 0
    real = torch.addmm

    def watched(*args, **kwargs):
        nonlocal largest
        result = real(*args, **kwargs)
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(torch, "addmm", watched)
    monkeypatch.setattr(clustering, "CELLS", 4000)
    dpc_knn(points(500), 6)
    assert 2000 < largest <= 4000


def test_order_of_the_points_does_not_matter():
    x = points(dtype=torch.float32)
    shuffle = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    a, b = dpc_knn(x, 5), dpc_knn(x[shuffle], 5)
    assert torch.equal(a.centres, shuffle[b.centres])
    assert torch.equal(a.assignment[shuffle], b.assignment)
    torch.testing.assert_close(a.vectors, b.vectors)


def test_equal_points_have_one_peak():
    """Ten copies of each of three points: with ties by index every heap has one peak; strictly, none is denser than its copy."""
    x = points(3).float().repeat(10, 1)
    by_index = density_peaks(x, 4)
    assert int((by_index.delta > 0).sum()) == 3
    assert sorted((by_index.delta > 0).nonzero()[:, 0].tolist()) == [0, 1, 2]
    strict = density_peaks(x, 4, ties="strict")
    assert int((strict.parent < 0).sum()) == 30
    assert bool((strict.delta > 0).all())
    found = dpc_knn(x, 3)
    assert found.sizes.tolist() == [10, 10, 10]


def test_no_underflow_far_from_home():
    """Where every density is 0 in floating point, the order of the scores still is the right one."""
    x = 100 * points(60, 4)
    peaks = density_peaks(x, 5)
    assert float(peaks.density.max()) == 0.0
    near = density_peaks(x / 100, 5)
    assert torch.equal(peaks.parent, near.parent)
    assert torch.isfinite(peaks.log_score).all()


def test_far_from_the_origin_nothing_is_lost():
    x = points(dtype=torch.float32)
    here, there = density_peaks(x, 5), density_peaks(x + 4096.0, 5)
    torch.testing.assert_close(here.delta, there.delta, atol=2e-3, rtol=0)


def test_along_the_parents():
    """A long chain of points: nearest centres cut it in the middle of the dense part, parents follow the density."""
    x = points(120, 2, seed=5)
    peaks = density_peaks(x, 6)
    found = dpc_knn(x, 3, 6, assign="parent", peaks=peaks)
    label = {int(c): n for n, c in enumerate(found.centres)}
    for i in range(len(x)):
        walk = i
        while walk not in label:
            walk = int(peaks.parent[walk])
        assert label[walk] == int(found.assignment[i])


def test_parents_when_a_peak_is_not_chosen():
    x = points(3).float().repeat(10, 1)  # strictly, thirty points have nothing denser; two are centres
    found = dpc_knn(x, 2, 4, ties="strict", assign="parent")
    assert int(found.assignment.min()) >= 0
    assert int(found.sizes.sum()) == 30


def test_nearest_assignment_and_vectors():
    x = points()
    found = dpc_knn(x, 7)
    distance = torch.cdist(x, x[found.centres])
    assert torch.equal(found.assignment, distance.argmin(1))
    for n in range(found.k):
        torch.testing.assert_close(found.vectors[n], x[found.assignment == n].mean(0))
    assert torch.equal(dpc_knn(x, 7, vector="peak").vectors, x[found.centres])
    assert torch.equal(found.sizes, torch.bincount(found.assignment, minlength=7))


def test_every_point_its_own_cluster():
    x = points(12)
    found = dpc_knn(x, 12, 3)
    assert sorted(found.assignment.tolist()) == list(range(12))
    torch.testing.assert_close(found.vectors, x[found.centres])


def test_one_point():
    found = dpc_knn(torch.zeros(1, 3), 1, 1)
    assert found.assignment.tolist() == [0]
    assert found.centres.tolist() == [0]


@pytest.mark.parametrize("seed", range(3))
def test_finds_heaps_that_kmeans_may_split(seed: int):
    """Well separated heaps of very uneven size: DPC-KNN needs no luck."""
    from sklearn.metrics import adjusted_rand_score

    generator = torch.Generator().manual_seed(seed)
    sizes = [300, 40, 12]
    middles = torch.tensor([[0.0, 0.0], [12.0, 0.0], [0.0, 12.0]])
    truth = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    x = middles[truth] + torch.randn(sum(sizes), 2, generator=generator)
    assert adjusted_rand_score(truth, dpc_knn(x, 3, 8).assignment) > 0.99


def test_kmeans_repeats_itself():
    x = points(200)
    a, b = minibatch_kmeans(x, 3, seed=4), minibatch_kmeans(x, 3, seed=4)
    assert torch.equal(a.assignment, b.assignment)
    assert torch.equal(a.vectors, b.vectors)
    assert a.centres is None
    assert int(a.sizes.sum()) == 200
    assert a.vectors.dtype == x.dtype


# -- the tree ------------------------------------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_every_cluster_of_a_tree_lies_in_one_of_the_level_above(draw: st.DataObject):
    n, d = draw.draw(st.integers(1, 24)), draw.draw(st.integers(1, 3))
    # few values: equal points and rows of zeros are common
    rows = draw.draw(st.lists(st.lists(st.integers(0, 3), min_size=d, max_size=d), min_size=n, max_size=n))
    x = torch.tensor(rows, dtype=torch.float32)
    counted = x.any(1)
    if not counted.any():
        x, counted = x + 1, ~counted
    sizes = sorted(draw.draw(st.sets(st.integers(1, int(counted.sum())), min_size=1, max_size=4)))
    labels = cluster_tree(x, sizes, seed=draw.draw(st.integers(0, 3)))
    assert labels.shape == (n, len(sizes))
    assert labels.dtype == torch.int64
    assert (labels[~counted] == -1).all()
    inside = labels[counted]
    for level, size in enumerate(sizes):
        assert inside[:, level].unique().tolist() == list(range(size)), "exactly as many as asked for, none empty"
        if level:
            pairs = inside[:, level - 1 : level + 1].unique(dim=0)  # sorted by the cluster above
            assert len(pairs) == size, "no cluster has two above it"
            assert pairs[:, 1].tolist() == list(range(size)), "the parts of a cluster stand one after the other"
    sums = [inertia(x, labels[:, level]) for level in range(len(sizes))]
    assert all(above >= below - 1e-4 for above, below in itertools.pairwise(sums))


@pytest.mark.parametrize("seed", range(3))
def test_purer_from_level_to_level_down_to_single_points(seed: int):
    generator = torch.Generator().manual_seed(seed)
    heap = torch.arange(6).repeat_interleave(10)
    x = 20 * torch.randn(6, 3, generator=generator)[heap] + torch.randn(60, 3, generator=generator)
    labels = cluster_tree(x, (2, 6, 18, 60), seed=seed)
    purity = []
    for level in labels.T:
        purity.append(sum(int(torch.bincount(heap[level == k]).max()) for k in level.unique()) / len(x))
    assert purity == sorted(purity)
    assert purity[0] < 0.7
    assert purity[2] == purity[3] == 1.0
    assert sorted(labels[:, 3].tolist()) == list(range(60))


def test_a_tree_repeats_itself_and_grows_downwards():
    x = points(200)
    long = cluster_tree(x, (4, 16, 64, 200), seed=1)
    assert torch.equal(long, cluster_tree(x, (4, 16, 64, 200), seed=1))
    assert torch.equal(long[:, :2], cluster_tree(x, (4, 16), seed=1))
    assert not torch.equal(long, cluster_tree(x, (4, 16, 64, 200), seed=2))


def test_mini_batches_split_what_is_large(monkeypatch: pytest.MonkeyPatch):
    x, called = points(300), []
    real = minibatch_kmeans
    monkeypatch.setattr(clustering, "minibatch_kmeans", lambda *a, **k: called.append(len(a[0])) or real(*a, **k))
    monkeypatch.setattr(clustering, "MANY", 100)
    labels = cluster_tree(x, (3, 9, 300))
    assert called[0] == 300
    assert [len(level.unique()) for level in labels.T] == [3, 9, 300]


@pytest.mark.parametrize(("n", "k"), [(7, 2), (8, 3), (7, 4)])
def test_a_small_split_is_the_best_of_all(n: int, k: int):
    """Of all ways to part n points none has less inertia."""
    x = points(n, 2, seed=n)
    ways = (torch.tensor(way) for way in itertools.product(range(k), repeat=n) if [*dict.fromkeys(way)] == [*range(k)])
    best = min(by_pairs(x, way) for way in ways)
    assert inertia(x, cluster_tree(x, (k,))[:, 0]) == pytest.approx(best)


def by_pairs(x: torch.Tensor, labels: torch.Tensor) -> float:
    """Inertia without means: of each cluster the squared distances of all pairs over its size."""
    parts = [x[labels == c] for c in labels.unique() if c >= 0]
    return sum(float(torch.cdist(p, p).square().sum()) / (2 * len(p)) for p in parts)


def test_inertia_is_the_pairs_and_leaves_out_what_does_not_count():
    x = points(30)
    labels = torch.randint(0, 4, (30,), generator=torch.Generator().manual_seed(0))
    assert inertia(x, labels) == pytest.approx(by_pairs(x, labels))
    labels[:5] = -1
    assert inertia(x, labels) == pytest.approx(by_pairs(x[5:], labels[5:]))
    with pytest.raises(InputError, match="one label a point"):
        inertia(x, labels[:3])


@pytest.mark.parametrize("seed", range(10))
def test_no_other_parts_leave_less_inertia_in_the_worst(seed: int):
    dice = np.random.default_rng(seed)
    weights, most = dice.random(4).round(1).tolist(), dice.integers(1, 5, 4).tolist()
    total = int(dice.integers(4, sum(most) + 1))
    parts = clustering._parts(weights, most, total)
    assert sum(parts) == total
    assert all(1 <= p <= m for p, m in zip(parts, most, strict=True))

    def worst(split: tuple[int, ...]) -> float:  # a cluster in single points has none left
        return max((w / p for w, p, m in zip(weights, split, most, strict=True) if p < m), default=0.0)

    others = (s for s in itertools.product(*(range(1, m + 1) for m in most)) if sum(s) == total)
    assert worst(tuple(parts)) == min(map(worst, others))


def test_what_is_missing_is_said():
    x = points(20)
    missing = torch.arange(20) < 8
    labels = cluster_tree(x, (3, 12), missing=missing)
    assert (labels[missing] == -1).all()
    assert torch.equal(labels[8:], cluster_tree(x[8:], (3, 12)))
    zeros = x.masked_fill(missing[:, None], 0.0)
    assert torch.equal(cluster_tree(zeros, (3, 12)), labels)


def test_tree_sizes():
    assert tree_sizes(64) == (4, 16, 64)
    assert tree_sizes(600) == (4, 16, 64, 256, 600)
    assert tree_sizes(3) == (3,)
    assert tree_sizes(9, 2) == (2, 4, 8, 9)
    with pytest.raises(OptionError, match="branches"):
        tree_sizes(9, 1)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: cluster_tree(points(), ()), OptionError, "strictly increasing"),
        (lambda: cluster_tree(points(), (4, 4)), OptionError, r"found \(4, 4\)"),
        (lambda: cluster_tree(points(), (0, 4)), OptionError, "1 to 90"),
        (lambda: cluster_tree(points(), (2.0,)), OptionError, "whole numbers"),
        (lambda: cluster_tree(points(), (4, 91)), OptionError, "more clusters than points"),
        (lambda: cluster_tree(torch.zeros(3, 2), (1,)), OptionError, "1 to 0 for 0 points"),
        (lambda: cluster_tree(points(), (2,), missing=torch.zeros(3, dtype=torch.bool)), InputError, "one flag a point"),
    ],
)
def test_no_such_tree(call, error: type, word: str):
    with pytest.raises(error, match=word):
        call()


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: density_peaks(points(), 0), OptionError, "1 to 90"),
        (lambda: density_peaks(points(), 90, include_self=False), OptionError, "1 to 89"),
        (lambda: density_peaks(points(), 5, ties="coin"), OptionError, "index or strict"),
        (lambda: density_peaks(points(), 5, top="none"), OptionError, "own or all"),
        (lambda: density_peaks(points(), 5, block=0), OptionError, "block"),
        (lambda: dpc_knn(points(), 91), OptionError, "1 to 90"),
        (lambda: dpc_knn(points(), 3, assign="far"), OptionError, "nearest or parent"),
        (lambda: dpc_knn(points(), 3, vector="median"), OptionError, "mean or peak"),
        (lambda: dpc_knn(points(), 3, peaks=density_peaks(points(20))), InputError, "90 rows"),
        (lambda: dpc_knn(torch.zeros(4), 2), InputError, r"shape \(N, d\)"),
        (lambda: dpc_knn(torch.full((4, 2), torch.nan), 2), InputError, "row 0"),
        (lambda: minibatch_kmeans(points(), 0), OptionError, "1 to 90"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input(call, error: type, word: str):
    with pytest.raises(error, match=word):
        call()


def test_cuda_agrees():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    x = points(500, dtype=torch.float32)
    here, there = dpc_knn(x, 6), dpc_knn(x.cuda(), 6)
    assert torch.equal(here.centres, there.centres.cpu())
    assert torch.equal(here.assignment, there.assignment.cpu())
