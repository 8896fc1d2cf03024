"""Clustering by density peaks (DPC-KNN), exact and in little memory; mini-batch k-means and a tree of clusters beside it.

DPC-KNN: Du, Ding & Jia, "Study on density peaks clustering based on k-nearest neighbors and principal component analysis",
Knowledge-Based Systems 99, 2016, after Rodriguez & Laio, "Clustering by fast search and find of density peaks", Science 344, 2014.
MISSRec (Wang et al. 2023, arXiv:2308.11175) finds its users' interests with it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.errors import InputError, OptionError, check_choice, check_whole

CELLS = 2**25
"""Distances held at once (128 MB in float32) unless ``block`` says otherwise."""
GROUP = 32
"""Columns of which only the smallest is looked at in the first round of a search for the k smallest."""
MANY = 20_000
"""From so many points on, a cluster of a tree is split by mini-batches."""
STARTS = 4
"""Random starts of k-means when a cluster of a tree is split; the best is kept."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """What a clustering found among N points, K clusters.

    Attributes:
        assignment: (N,) int64, the cluster of every point, 0..K-1.
        vectors: (K, d) one vector a cluster.
        sizes: (K,) int64 members.
        centres: (K,) int64, the point at each cluster's peak, best score first; None for k-means.
    """

    assignment: Tensor
    vectors: Tensor
    sizes: Tensor
    centres: Tensor | None = None

    @property
    def k(self) -> int:
        """The number of clusters K."""
        return len(self.vectors)


@dataclass(frozen=True, eq=False)
class DensityPeaks:
    r"""The decision graph of N points: how dense it is around each, and how far it is to somewhere denser.

    Attributes:
        density: (N,) :math:`\rho_i = \exp(-\frac1k\sum_{j\in kNN(i)} d_{ij}^2)`.
        delta: (N,) :math:`\delta_i`, distance to the nearest denser point; for the densest point see :func:`density_peaks`.
        parent: (N,) int64, that nearest denser point; -1 where there is none.
        log_score: (N,) :math:`\ln(\rho_i\delta_i)`, computed without the exponential, so that it does not run out of numbers.
    """

    density: Tensor
    delta: Tensor
    parent: Tensor
    log_score: Tensor

    @property
    def score(self) -> Tensor:
        r""":math:`\rho_i\delta_i`. Far-away points in many dimensions may all show 0: compare by ``log_score``."""
        return self.log_score.exp()


def density_peaks(
    x: Tensor, k: int = 5, *, include_self: bool = True, ties: str = "index", top: str = "own", block: int | None = None
) -> DensityPeaks:
    r"""Return density and delta of every point, exactly: :math:`O(N^2 d)` time, :math:`O(N\cdot block)` memory.

    Distances are :math:`d_{ij} = \lVert x_i-x_j\rVert/\sqrt{d}`. Neighbours are found by a matrix product, but every distance that
    enters a result is computed anew from the difference, so equal points are at distance 0 whatever rounding says.

    Args:
        x: (N, d) points, no gradient is kept.
        k: neighbours that make the density.
        include_self: whether a point counts as its own first neighbour (at distance 0), as in released code. Off: k others.
        ties: ``"index"`` of two equally dense points the one with the lower index counts as denser, so that a heap of equal points
            has one peak; ``"strict"`` neither does, and both may be peaks.
        top: delta of a point with nothing denser: ``"own"`` the largest distance from itself to any point (MISSRec's article),
            ``"all"`` the largest distance between any two points (released code).
        block: rows of distances held at once; None picks about 128 MB.

    Returns:
        One row a point, on the device and in the floating-point type of ``x``.

    Raises:
        OptionError: an unknown option, or ``k`` outside 1..N (N - 1 without the point itself).
        InputError: x is no (N, d) table of finite numbers.
    """
    x = _points(x, "density_peaks")
    n = len(x)
    check_choice("ties", ties, ("index", "strict"))
    check_choice("top", top, ("own", "all"))
    most = n if include_self else n - 1
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise OptionError(
            "number of neighbours out of range", where="density_peaks(k=)", found=k, expected=f"1 to {most} for {n} points"
        )
    x = (x - x.mean(0)) / math.sqrt(x.shape[1])  # distances stay; products of centred points lose fewer digits
    norms = x.square().sum(1)
    size = _block(n, block)

    # rho: the mean squared distance of the k nearest; the density falls with it
    spread = x.new_empty(n)
    widest = x.new_zeros(())
    for rows in torch.arange(n, device=x.device).split(size):
        square = _squares(x, norms, rows)
        if top == "all":
            widest = torch.maximum(widest, _exact(x, rows, square.argmax(1)).max())
        # one's own place: never by chance behind an equal point
        square[torch.arange(len(rows), device=x.device), rows] = -torch.inf if include_self else torch.inf
        near = _smallest(square, k)
        spread[rows] = _exact(x, rows, near).mean(1)

    # delta: sorted by density, everything denser stands before
    order = spread.argsort(stable=True)  # dense first; equal ones by index
    x_sorted, norms_sorted, spread_sorted = x[order], norms[order], spread[order]
    if ties == "strict":
        denser = torch.searchsorted(spread_sorted, spread_sorted)  # so many points are strictly denser
    else:
        denser = torch.arange(n, device=x.device)
    delta, parent = x.new_empty(n), torch.full((n,), -1, dtype=torch.int64, device=x.device)
    at = 0
    while at < n:
        # the columns to look at grow with the rows: r rows take about r (at + r) cells
        step = size if block is not None else max(1, int((math.sqrt(at * at + 4 * CELLS) - at) / 2))
        rows = torch.arange(at, min(n, at + step), device=x.device)
        at = int(rows[-1]) + 1
        width = int(denser[rows[-1]])
        if width == 0:  # the first of all
            continue
        square = torch.addmm(norms_sorted[:width], x_sorted[rows], x_sorted[:width].T, alpha=-2.0)  # row's own norm: no matter
        edge = int(denser[rows[0]])  # the columns before it are denser than every row of this block
        columns = torch.arange(edge, width, device=x.device)
        square[:, edge:].masked_fill_(columns >= denser[rows, None], torch.inf)
        nearest = square.argmin(1)
        delta[rows] = _exact(x_sorted, rows, nearest[:, None])[:, 0].sqrt()
        parent[rows] = nearest
    first = (denser == 0).nonzero()[:, 0]
    for rows in first.split(size):
        far = _squares(x_sorted, norms_sorted, rows).argmax(1)
        delta[rows] = widest.sqrt() if top == "all" else _exact(x_sorted, rows, far[:, None])[:, 0].sqrt()
    parent[first] = -1
    parent = torch.where(parent < 0, parent, order[parent.clamp_min(0)])

    back = torch.empty_like(order)
    back[order] = torch.arange(n, device=x.device)
    delta, parent = delta[back], parent[back]
    return DensityPeaks(torch.exp(-spread), delta, parent, delta.log() - spread)


def dpc_knn(
    x: Tensor,
    n_clusters: int,
    k: int = 5,
    *,
    include_self: bool = True,
    ties: str = "index",
    top: str = "own",
    assign: str = "nearest",
    vector: str = "mean",
    epsilon: float = 0.0,
    block: int | None = None,
    peaks: DensityPeaks | None = None,
) -> Clusters:
    r"""Cluster points: the K of largest :math:`\rho\delta` are centres (dense, and far from anything denser), the rest joins them.

    Deterministic: no starting values, nothing random; equal scores go to the lower index.

    Args:
        x: (N, d) points.
        n_clusters: K, 1 to N.
        k, include_self, ties, top, block: see :func:`density_peaks`.
        assign: ``"nearest"`` every point joins the nearest centre (MISSRec); ``"parent"`` it joins the cluster of its nearest denser
            point (Rodriguez & Laio), so that clusters need not be round. A centre always belongs to itself.
        vector: a cluster's vector: ``"mean"`` of its members or ``"peak"``, the centre itself.
        epsilon: added to the number of members before a sum is divided by it; released code has 1e-4.
        peaks: from an earlier :func:`density_peaks` on the same points (only K or the options above moved); None computes it.

    Returns:
        The clusters, numbered by falling score of their centres.

    Raises:
        OptionError, InputError: as in :func:`density_peaks`; or K out of range.
    """
    points = _points(x, "dpc_knn")
    check_choice("assign", assign, ("nearest", "parent"))
    check_choice("vector", vector, ("mean", "peak"))
    n = len(points)
    _check_k(n_clusters, n, "dpc_knn(n_clusters=)")
    if peaks is None:
        peaks = density_peaks(points, k, include_self=include_self, ties=ties, top=top, block=block)
    elif len(peaks.density) != n:
        raise InputError(
            "the decision graph is of other points", where="dpc_knn(peaks=)", found=len(peaks.density), expected=f"{n} rows"
        )
    centres = peaks.log_score.argsort(descending=True, stable=True)[:n_clusters]
    if assign == "nearest":
        label = _nearest_centre(points, points[centres], _block(n_clusters, block))
    else:
        label = _along_parents(points, peaks, centres, block)
    label[centres] = torch.arange(n_clusters, device=label.device)
    sizes = torch.bincount(label, minlength=n_clusters)
    if vector == "peak":
        vectors = points[centres].clone()
    else:
        sums = torch.zeros_like(points[centres]).index_add_(0, label, points)
        vectors = sums / (sizes.to(points.dtype) + epsilon)[:, None]
    return Clusters(label, vectors, sizes, centres)


def minibatch_kmeans(x: Tensor, n_clusters: int, *, seed: int = 0, batch_size: int = 1024, max_iter: int = 100) -> Clusters:
    """Cluster points by scikit-learn's mini-batch k-means, which MISSRec's released code runs instead of DPC-KNN.

    Unlike DPC-KNN it starts at random places (``seed``) and favours round clusters of like size. Runs on the CPU.

    Args:
        x: (N, d) points on any device.
        n_clusters: K, 1 to N.
        seed: of starting centres and batches.
        batch_size, max_iter: as in scikit-learn.

    Raises:
        OptionError, InputError: K out of range; x is no table of finite numbers.
    """
    from sklearn.cluster import MiniBatchKMeans

    points = _points(x, "minibatch_kmeans")
    _check_k(n_clusters, len(points), "minibatch_kmeans(n_clusters=)")
    fitted = MiniBatchKMeans(
        n_clusters, random_state=seed, batch_size=batch_size, max_iter=max_iter, n_init=1, reassignment_ratio=0.0
    ).fit(points.cpu().numpy())
    label = torch.from_numpy(fitted.labels_).to(points.device, torch.int64)
    vectors = torch.from_numpy(fitted.cluster_centers_).to(points.device, points.dtype)
    return Clusters(label, vectors, torch.bincount(label, minlength=n_clusters))


def cluster_tree(x: Tensor, sizes: Sequence[int], *, seed: int = 0, missing: Tensor | None = None) -> Tensor:
    """Cluster points in levels, every cluster of a level lying in one of the level above: k-means from the top down.

    Each cluster of a level is split for itself. The next part always goes to the cluster with most inertia per part, so that
    loose and large ones are split most. A level has exactly as many clusters as asked for, none of them empty; when there are
    fewer distinct points than that, equal points are parted too. A level depends on those above it and on none below: trees of
    sizes (4, 16) and (4, 16, 64) agree in their first two levels.

    Args:
        x: (N, d) points, no gradient is kept. The work is done on the CPU.
        sizes: clusters of each level, strictly increasing. The last is at most the number of points that count; then every point is
            a leaf.
        seed: of the starting centres.
        missing: (N,) bool, points that do not count and get label -1; None: rows of zeros (items without content).

    Returns:
        (N, levels) int64, numbered from 0 within a level, the parts of a cluster one after the other.

    Raises:
        OptionError: sizes are not strictly increasing whole numbers of 1 or more, or exceed the points that count.
        InputError: x is no table of finite numbers, or ``missing`` does not fit it.
    """
    points = _points(x, "cluster_tree")
    missing = (points == 0).all(1) if missing is None else missing
    if missing.dtype != torch.bool or missing.shape != points.shape[:1]:
        raise InputError(
            "not one flag a point",
            where="cluster_tree(missing=)",
            found=f"shape {tuple(missing.shape)}, {missing.dtype}",
            expected=f"shape ({len(points)},), bool",
        )
    there = (~missing).nonzero()[:, 0].cpu()
    _check_sizes(sizes, len(there))
    table = points.cpu()[there].numpy()
    dice = np.random.default_rng(seed)
    labels = torch.full((len(points), len(sizes)), -1, dtype=torch.int64)
    above = np.zeros(len(table), dtype=np.int64)
    for level, size in enumerate(sizes):
        members = np.split(np.argsort(above, kind="stable"), np.cumsum(np.bincount(above))[:-1])
        parts = _parts([_inertia(table[rows]) for rows in members], [len(rows) for rows in members], size)
        below, first = np.empty_like(above), 0
        for rows, k in zip(members, parts, strict=True):
            below[rows] = first + _split(table[rows], k, int(dice.integers(2**31)))
            first += k
        labels[there, level] = torch.from_numpy(below)
        above = below
    return labels.to(points.device)


def tree_sizes(leaves: int, branches: int = 4) -> tuple[int, ...]:
    """Return the sizes of a tree's levels: powers of ``branches`` as long as they are below ``leaves``, then ``leaves``.

    Raises:
        OptionError: fewer than one leaf or two branches.
    """
    leaves = check_whole("leaves", leaves, 1, "number of leaves out of range")
    branches = check_whole("branches", branches, 2, "number of branches out of range")
    sizes, size = [], branches
    while size < leaves:
        sizes.append(size)
        size *= branches
    return (*sizes, leaves)


def inertia(x: Tensor, labels: Tensor) -> float:
    """Return the sum of squared distances (N, d) points have from the means of their clusters (N,); label -1 does not count."""
    points = _points(x, "inertia").double()
    if labels.shape != points.shape[:1] or labels.dtype != torch.int64:
        found = f"shape {tuple(labels.shape)}, {labels.dtype}"
        raise InputError(
            "not one label a point", where="inertia(labels=)", found=found, expected=f"shape ({len(points)},), int64"
        )
    points, labels = points[labels >= 0], labels[labels >= 0]
    _, labels, sizes = labels.unique(return_inverse=True, return_counts=True)
    means = points.new_zeros(len(sizes), points.shape[1]).index_add_(0, labels, points) / sizes[:, None]
    return float((points - means[labels]).square().sum())


# -- inside ---------------------------------------------------------------------------------------------------------------
def _check_sizes(sizes: Sequence[int], n: int) -> None:
    where, expected = "cluster_tree(sizes=)", f"strictly increasing whole numbers, 1 to {n} for {n} points that count"
    whole = len(sizes) and all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in sizes)
    if not whole or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise OptionError("these are no sizes of a tree's levels", where=where, found=tuple(sizes), expected=expected)
    if sizes[-1] > n:
        raise OptionError("more clusters than points", where=where, found=sizes[-1], expected=expected)


def _parts(weights: Sequence[float], most: Sequence[int], total: int) -> list[int]:
    """How many parts each cluster is split into: at least one, at most its members, ``total`` together; weights decide, then size."""
    parts = [1] * len(weights)
    queue = [(-weights[k], -most[k], k) for k in range(len(weights)) if most[k] > 1]
    heapq.heapify(queue)
    for _ in range(total - len(weights)):
        k = heapq.heappop(queue)[2]
        parts[k] += 1
        if parts[k] < most[k]:
            heapq.heappush(queue, (-weights[k] / parts[k], -most[k] / parts[k], k))
    return parts


def _inertia(points: np.ndarray) -> float:
    return float(np.square(points - points.mean(0, dtype=np.float64)).sum())


def _split(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Labels (n,) of exactly k clusters, numbered by their first points."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if k == 1 or k == len(points):
        return np.arange(len(points)) if k > 1 else np.zeros(len(points), dtype=np.int64)
    distinct, label, times = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    label = label.ravel()
    if len(distinct) > MANY:
        label = minibatch_kmeans(torch.from_numpy(points), k, seed=seed).assignment.numpy()
    elif len(distinct) > k:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a cluster lost to rounding is filled below
            label = KMeans(k, n_init=STARTS, random_state=seed).fit(distinct, sample_weight=times).labels_[label]
    _, first, label = np.unique(label, return_index=True, return_inverse=True)
    if len(first) < k:  # the points farthest from their means become clusters; the nearest of each cluster stays
        means = np.zeros((len(first), points.shape[1]))
        np.add.at(means, label, points)
        far = np.square(points - (means / np.bincount(label)[:, None])[label]).sum(1)
        by_cluster = np.lexsort((far, label))
        far[by_cluster[np.unique(label[by_cluster], return_index=True)[1]]] = -1.0
        alone = np.argsort(-far, kind="stable")[: k - len(first)]
        label[alone] = len(first) + np.arange(len(alone))
        _, first, label = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(k, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(k)
    return rank[label]


def _points(x: Tensor, where: str) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point() or 0 in x.shape:
        found = f"shape {tuple(x.shape)}, {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            "not a table of points", where=where, found=found, expected="shape (N, d), floating point, N and d >= 1"
        )
    if not torch.isfinite(x).all():
        row = int((~torch.isfinite(x)).any(1).nonzero()[0])
        raise InputError("a point is not finite", where=where, found=f"row {row}", fix="leave missing items out first")
    x = x.detach()
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check_k(value: int, n: int, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= n:
        raise OptionError("number of clusters out of range", where=where, found=value, expected=f"1 to {n} for {n} points")


def _block(width: int, block: int | None) -> int:
    """Rows of distances to ``width`` points that may be held at once."""
    if block is None:
        return max(1, CELLS // width)
    return check_whole("block", block, 1, "block out of range")


def _squares(x: Tensor, norms: Tensor, rows: Tensor) -> Tensor:
    """Squared distances (R, N) of some rows to all points, up to rounding (which may be below 0) and up to the row's own norm."""
    return torch.addmm(norms, x[rows], x.T, alpha=-2.0)


def _exact(x: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances of each row to its own ``others`` (R,) or (R, k), from the differences."""
    if others.ndim == 1:
        others = others[:, None]
    return torch.stack([(x[rows] - x[column]).square().sum(1) for column in others.T], 1)


def _smallest(square: Tensor, k: int) -> Tensor:
    """Columns (R, k) of the k smallest values of each row.

    The k smallest of a row lie within the k groups of columns whose minima are smallest, so most columns are read only once.
    """
    rows, n = square.shape
    groups = n // GROUP
    if groups <= 2 * k:
        return square.topk(k, 1, largest=False).indices
    body = square[:, : groups * GROUP].unflatten(1, (groups, GROUP))
    best = body.amin(2).topk(k, 1, largest=False).indices  # (R, k) groups
    columns = (best[:, :, None] * GROUP + torch.arange(GROUP, device=square.device)).flatten(1)
    rest = torch.arange(groups * GROUP, n, device=square.device).expand(rows, -1)
    columns = torch.cat([columns, rest], 1)
    return columns.gather(1, square.gather(1, columns).topk(k, 1, largest=False).indices)


def _nearest_centre(x: Tensor, centres: Tensor, block: int) -> Tensor:
    """The nearest centre (N,) of every point; equally near ones: the first."""
    middle = x.mean(0)
    centres, norms = centres - middle, (centres - middle).square().sum(1)
    return torch.cat([torch.addmm(norms, part - middle, centres.T, alpha=-2.0).argmin(1) for part in x.split(block)])


def _along_parents(x: Tensor, peaks: DensityPeaks, centres: Tensor, block: int | None) -> Tensor:
    """The centre (N,) at which each point arrives when it walks from denser to denser point."""
    n = len(x)
    label = torch.full((n,), -1, dtype=torch.int64, device=x.device)
    label[centres] = torch.arange(len(centres), device=x.device)
    here = torch.arange(n, device=x.device)
    step = torch.where(peaks.parent < 0, here, peaks.parent)
    step[centres] = centres
    while not torch.equal(further := step[step], step):  # every round doubles the length of the walk
        step = further
    label = label[step]
    lost = (label < 0).nonzero()[:, 0]  # a peak that was not chosen (only where several points have nothing denser)
    if len(lost):
        ends, place = step[lost].unique(return_inverse=True)
        label[lost] = _nearest_centre(x[ends], x[centres], _block(len(centres), block))[place]
    return label
