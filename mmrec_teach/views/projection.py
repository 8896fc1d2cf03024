"""Pictures of embedding tables: PCA at once, UMAP from the last picture, and how honest the picture is.

UMAP (McInnes et al., arXiv:1802.03426) is slow the first time in a process, because numba compiles it, and jumps about when
every fit starts anew. A :class:`Projector` therefore starts from PCA, and later pictures start from the last one: items stay
where they were unless their neighbours changed, and a refit costs a fraction of a fit.

umap is imported on first use only, and never at package import.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from mmrec_teach.errors import InputError, OptionError

METRICS = ("cosine", "euclidean")
EXTENT = 10.0  # UMAP's step sizes and min_dist are meant for a picture about this wide


# -- input ---------------------------------------------------------------------------------------------------------------
def as_table(x: Any, where: str = "x") -> np.ndarray:
    """Return ``x`` (torch tensor or array, (n, d)) as a float32 array of finite numbers.

    Raises:
        InputError: not two-dimensional, or NaN or infinity in it.
    """
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    table = np.asarray(x)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.number):
        raise InputError(
            "not a table of numbers",
            where=where,
            found=f"shape {table.shape}, dtype {table.dtype}",
            expected="shape (n, d), one row per point",
        )
    table = np.ascontiguousarray(table, dtype=np.float32)
    if not np.isfinite(table).all():
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
        raise InputError(
            "NaN or infinity in a table to draw",
            where=where,
            found=f"{len(bad)} bad rows, the first is row {bad[0]}",
            expected="finite numbers",
            fix="Lower the learning rate or a loss weight",
        )
    return table


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise OptionError("unknown distance", where="metric", found=repr(metric), expected=" or ".join(METRICS))


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one; a zero row stays zero (cosine similarity 0 to everything)."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def nearest(x: np.ndarray, k: int, metric: Literal["cosine", "euclidean"] = "cosine", block: int = 1024):
    """Exact k nearest neighbours by brute force, in blocks of rows, the point itself left out.

    Args:
        x: (n, d) float32.
        k: neighbours per point, at most n - 1.
        metric: "cosine" (1 - cos) or "euclidean".
        block: rows per block; memory is about ``block`` * n * 4 bytes.

    Returns:
        indices (n, k) int32 and distances (n, k) float32, nearest first; equal distances in order of index.
    """
    _check_metric(metric)
    n = len(x)
    if not 0 <= k < max(n, 1):
        raise OptionError("more neighbours than other points", where="nearest", found=f"k={k}, n={n}", expected="k < n")
    rows = _unit(x) if metric == "cosine" else x - x.mean(0, keepdims=True)
    squares = (rows * rows).sum(1)
    indices, distances = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    if k == 0:
        return indices, distances
    for start in range(0, n, block):
        stop = min(start + block, n)
        # for cosine, 1 - similarity; for euclidean, the square up to the row's own constant
        far = -(rows[start:stop] @ rows.T) if metric == "cosine" else squares - 2 * (rows[start:stop] @ rows.T)
        far[np.arange(stop - start), np.arange(start, stop)] = np.inf
        near = np.sort(np.argpartition(far, k - 1, axis=1)[:, :k], axis=1)
        value = np.take_along_axis(far, near, axis=1)
        order = np.argsort(value, axis=1, kind="stable")  # near is sorted by index, so ties stay in index order
        indices[start:stop] = np.take_along_axis(near, order, axis=1)
        value = np.take_along_axis(value, order, axis=1)
        value = 1 + value if metric == "cosine" else np.sqrt(np.maximum(value + squares[start:stop, None], 0))
        distances[start:stop] = np.maximum(value, 0)
    return indices, distances


def nearest_in_picture(xy: np.ndarray, k: int) -> np.ndarray:
    """Return (n, k) each point's nearest other points on the plane, nearest first; much quicker there than :func:`nearest`.

    Args:
        xy: (n, 2) finite numbers.
        k: neighbours per point, 1 to n - 1. Of points at equal distances any may come.
    """
    from scipy.spatial import KDTree

    found = KDTree(xy).query(xy, k + 1)[1]
    others = found != np.arange(len(xy))[:, None]
    others[others.all(1), -1] = False  # so many points lie on top of it that it is not among its own nearest
    return found[others].reshape(len(xy), k)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean share of row n of ``a`` found in row n of ``b``; both (n, k) indices without repeats in a row."""
    n, k = a.shape
    if n == 0 or k == 0:
        return 1.0
    joined = np.sort(np.concatenate([a, b], axis=1), axis=1)
    return float((joined[:, 1:] == joined[:, :-1]).sum() / (n * k))


def kept_neighbours(x: Any, xy: Any, k: int = 10, metric: Literal["cosine", "euclidean"] = "cosine") -> float:
    """Return the share of each point's k nearest neighbours in the full space that are its k nearest in the picture.

    1 means that the picture shows every neighbourhood as it is; a random picture of n points keeps about k / (n - 1).

    Args:
        x: (n, d) the table in the full space, compared by ``metric``.
        xy: (n, 2) the picture, compared by euclidean distance.
        k: neighbours; fewer where there are not that many points.
    """
    x, xy = as_table(x, "x"), as_table(xy, "xy")
    if len(x) != len(xy):
        raise InputError(
            "table and picture differ in length",
            where="kept_neighbours",
            found=f"{len(x)} and {len(xy)} rows",
            expected="one point per row",
        )
    k = min(k, len(x) - 1)
    if k < 1:
        return 1.0
    return overlap(nearest(x, k, metric)[0], nearest_in_picture(xy, k))


# -- linear pictures -----------------------------------------------------------------------------------------------------
def pca(x: Any, metric: Literal["cosine", "euclidean"] = "euclidean") -> np.ndarray:
    """Return the first two principal components, (n, 2) float32, as wide as a UMAP picture; signs are fixed.

    With ``metric="cosine"`` rows are scaled to length one first, so the picture shows the same geometry as UMAP's.
    """
    _check_metric(metric)
    x = as_table(x)
    n = len(x)
    if n == 0:
        return np.zeros((0, 2), np.float32)
    rows = (_unit(x) if metric == "cosine" else x).astype(np.float64)
    rows = rows - rows.mean(0)
    size = np.abs(rows).max(initial=0.0)
    if size < 1e-12 or rows.shape[1] == 0:
        return np.zeros((n, 2), np.float32)
    if rows.shape[1] <= n:
        _, directions = np.linalg.eigh(rows.T @ rows)
        coordinates = rows @ directions[:, ::-1][:, :2]
    else:
        values, left = np.linalg.eigh(rows @ rows.T)
        coordinates = left[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0))
    if coordinates.shape[1] < 2:
        coordinates = np.pad(coordinates, ((0, 0), (0, 2 - coordinates.shape[1])))
    # an axis may point either way: make the point farthest along it positive
    farthest = np.abs(coordinates).argmax(0)
    signs = np.sign(coordinates[farthest, [0, 1]])
    coordinates = coordinates * np.where(signs == 0, 1, signs)
    return (coordinates * (EXTENT / max(np.ptp(coordinates, axis=0).max(), 1e-12))).astype(np.float32)


def _varies(x: np.ndarray, metric: str) -> bool:
    """Whether :func:`pca` finds more than one point."""
    rows = (_unit(x) if metric == "cosine" else x).astype(np.float64)
    return bool(np.abs(rows - rows.mean(0)).max(initial=0.0) >= 1e-12)


def align_to(previous: Any, new: Any, scale: bool = False) -> np.ndarray:
    """Turn, mirror and shift ``new`` to lie as close to ``previous`` as it can (orthogonal Procrustes); shapes stay.

    Args:
        previous, new: (n, 2), row n the same thing in both.
        scale: also allow one common factor.

    Returns:
        (n, 2) float32.
    """
    previous, new = as_table(previous, "previous").astype(np.float64), as_table(new, "new").astype(np.float64)
    if previous.shape != new.shape:
        raise InputError(
            "pictures of different points cannot be aligned",
            where="align_to",
            found=f"shapes {previous.shape} and {new.shape}",
            expected="the same points in both",
        )
    if len(new) == 0:
        return new.astype(np.float32)
    target, source = previous - previous.mean(0), new - new.mean(0)
    u, s, vt = np.linalg.svd(source.T @ target)
    factor = s.sum() / max((source**2).sum(), 1e-30) if scale else 1.0
    return (factor * source @ (u @ vt) + previous.mean(0)).astype(np.float32)


# -- UMAP, compiled once per process --------------------------------------------------------------------------------------
# One lock around every call: numba's fallback threading layer ends the process when two Python threads enter it at once,
# and two panels may well draw at the same moment.
_umap_lock = threading.Lock()
_warm = threading.Event()
_warm_up_lock = threading.Lock()
_warm_up_thread: threading.Thread | None = None
_warm_up_error: BaseException | None = None


def is_warm() -> bool:
    """Whether UMAP is compiled in this process, so that a picture takes milliseconds."""
    return _warm.is_set()


def warm_up(wait: bool = False) -> threading.Thread | None:
    """Import and compile UMAP in a background thread (about 15 s once per process); at once if that was done.

    Args:
        wait: return when it is done, and raise what went wrong.

    Returns:
        the thread, or None when UMAP is warm already.
    """
    global _warm_up_thread
    with _warm_up_lock:
        thread = _warm_up_thread
        if not _warm.is_set() and (thread is None or (not thread.is_alive() and wait)):
            thread = _warm_up_thread = threading.Thread(target=_compile, name="umap warm-up", daemon=True)
            thread.start()
    if wait and thread is not None:
        thread.join()
        if not _warm.is_set() and _warm_up_error is not None:
            raise _warm_up_error
    return None if _warm.is_set() else thread


def warm_up_error() -> BaseException | None:
    """What went wrong while warming up, if anything did; pictures then stay linear."""
    return _warm_up_error


def _compile() -> None:
    global _warm_up_error
    try:
        x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
        _layout(x, pca(x), 8, 0.1, 2, 0, "cosine")
    except BaseException as error:
        _warm_up_error = error


@contextmanager
def _torch_threads_kept() -> Iterator[None]:
    """Leave torch's number of threads as it is.

    numba's first call launches its own pool, and where both share one OpenMP library that resets the number for torch too:
    training small tables after the first picture would then run with threads that mostly wait for each other.
    """
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


_curves: dict[float, tuple[float, float]] = {}


def _layout(x, start, n_neighbors: int, min_dist: float, epochs: int, seed: int, metric: str, step: float = 1.0):
    """UMAP from the coordinates ``start``. Returns ((n, 2) coordinates, (n, k) neighbour indices).

    The stages of ``umap.UMAP.fit`` called one by one: our own exact neighbours come in, and the start is used as it is, where
    ``fit(init=...)`` would stretch each axis to 0..10 and thereby move every point of the last picture.
    """
    neighbours, distances = nearest(x, n_neighbors - 1, metric)
    with _umap_lock, _torch_threads_kept():
        import numba
        from umap.layouts import optimize_layout_euclidean
        from umap.umap_ import find_ab_params, fuzzy_simplicial_set, make_epochs_per_sample

        if min_dist not in _curves:
            _curves[min_dist] = tuple(float(v) for v in find_ab_params(1.0, min_dist))
        a, b = _curves[min_dist]
        own = np.arange(len(x), dtype=np.int32)[:, None]  # umap counts the point itself as its first neighbour
        random = np.random.RandomState(seed)
        threads = numba.get_num_threads()
        numba.set_num_threads(1)  # the same numbers on every machine; this thread's setting only
        try:
            graph = fuzzy_simplicial_set(
                x,
                n_neighbors,
                random,
                metric,
                knn_indices=np.concatenate([own, neighbours], axis=1),
                knn_dists=np.concatenate([np.zeros((len(x), 1), np.float32), distances], axis=1),
            )[0].tocoo()
            graph.sum_duplicates()
            graph.data[graph.data < graph.data.max() / epochs] = 0.0  # would not be drawn once in so few epochs
            graph.eliminate_zeros()
            xy = np.array(start, dtype=np.float32, order="C")
            xy = optimize_layout_euclidean(
                xy,
                xy,
                graph.row,
                graph.col,
                epochs,
                len(x),
                make_epochs_per_sample(graph.data, epochs),
                a,
                b,
                random.randint(-(2**31) + 1, 2**31 - 1, 3).astype(np.int64),
                1.0,
                step,
                5,
                parallel=False,
                move_other=True,
            )
        finally:
            numba.set_num_threads(threads)
    _warm.set()
    return xy - xy.mean(0), neighbours


class Projector:
    """Pictures of one table as it changes: the same row is the same point, and it stays in place where it can.

    Args:
        n_neighbors: UMAP's neighbourhood size, the point itself included; smaller where there are fewer points.
        min_dist: how closely UMAP may pack points.
        seed: the same table after the same history gives the same picture.
        metric: "cosine" (default; recommenders compare directions) or "euclidean".
        epochs: optimisation epochs of a fit.
        update_epochs: optimisation epochs of an update.

    Attributes:
        xy: (n, 2) float32, the last picture, or None.
        method: "PCA" or "UMAP", what the last picture is.
    """

    def __init__(
        self,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        seed: int = 0,
        *,
        metric: str = "cosine",
        epochs: int = 200,
        update_epochs: int = 30,
    ):
        _check_metric(metric)
        if n_neighbors < 2:
            raise OptionError("too few neighbours", where="Projector", found=f"n_neighbors={n_neighbors}", expected="2 or more")
        if not 0 <= min_dist <= 1:
            raise OptionError("min_dist is out of range", where="Projector", found=min_dist, expected="0 to 1")
        self.n_neighbors, self.min_dist, self.seed, self.metric = n_neighbors, min_dist, seed, metric
        self.epochs, self.update_epochs = epochs, update_epochs
        self.reset()

    def reset(self) -> None:
        """Forget the last picture: the next one starts from PCA."""
        self.xy: np.ndarray | None = None
        self.method = ""
        self._anchor: np.ndarray | None = None
        self._table: np.ndarray | None = None
        self._neighbours: np.ndarray | None = None

    def restart(self) -> None:
        """Forget the last picture but for how it was turned: the next one starts from PCA, turned to lie on the last.

        For a new training run of the same rows: starting from the old picture would leave clusters standing that the new
        table does not have.
        """
        anchor = self.xy if self.xy is not None else self._anchor
        self.reset()
        self._anchor = anchor

    def fit(self, x: Any) -> np.ndarray:
        """Return a full UMAP picture of ``x`` (n, d), started from PCA, whatever came before. (n, 2) float32.

        The first fit in a process waits for numba (about 15 s). Up to three points, and tables whose rows are all equal, are
        drawn with PCA.

        Raises:
            InputError: not (n, d), or NaN in it.
        """
        self.reset()
        return self._draw(as_table(x), "UMAP")

    def update(self, x: Any, method: Literal["auto", "PCA", "UMAP"] = "auto", epochs: int | None = None) -> np.ndarray:
        """Return the next picture of the same rows, started from the last one and turned to lie on it. (n, 2) float32.

        Args:
            x: (n, d); another number of rows than last time starts anew.
            method: "auto" draws UMAP once it is compiled (see :func:`warm_up`) and PCA until then; "PCA" and "UMAP" insist.
            epochs: optimisation epochs of this update; None for the usual number. Few give a picture sooner.
        """
        if method not in ("auto", "PCA", "UMAP"):
            raise OptionError("unknown projection", where="method", found=repr(method), expected="auto, PCA or UMAP")
        x = as_table(x)
        if self.xy is not None and len(self.xy) != len(x):
            self.reset()
        return self._draw(x, method if method != "auto" else "UMAP" if is_warm() else "PCA", epochs)

    def kept(self, k: int = 10) -> float:
        """:func:`kept_neighbours` of the last picture."""
        if self.xy is None or self._table is None:
            raise OptionError("there is no picture yet", where="Projector.kept", expected="fit or update first")
        k = min(k, len(self.xy) - 1)
        if k < 1:
            return 1.0
        near = self._neighbours
        near = near[:, :k] if near is not None and near.shape[1] >= k else nearest(self._table, k, self.metric)[0]
        return overlap(near, nearest_in_picture(self.xy, k))

    def _draw(self, x: np.ndarray, method: str, epochs: int | None = None) -> np.ndarray:
        last, was = self.xy, self.method
        if method == "UMAP" and was == "UMAP" and np.ptp(last, axis=0).max() >= 1e-6 * EXTENT and _varies(x, self.metric):
            linear = last  # not asked for: small matrices on many threads cost more than the rest of the picture
        else:
            linear = pca(x, self.metric)
        if last is None and self._anchor is not None and len(self._anchor) == len(linear):
            linear = align_to(self._anchor, linear)
        if len(x) <= 3 or np.ptp(linear, axis=0).max() == 0:
            method = "PCA"  # nothing for UMAP to arrange
        if method == "PCA":
            xy = linear if last is None else align_to(last, linear)
            neighbours = None
        else:
            k = min(self.n_neighbors, len(x))
            warm = was == "UMAP"
            start = linear if last is None else last
            if np.ptp(start, axis=0).max() < 1e-6 * EXTENT:
                start = linear
            # equal coordinates never part: UMAP's forces act along the line between two points
            noise = np.random.default_rng(self.seed).normal(0, 1e-4 * EXTENT, start.shape)
            epochs = epochs or (self.update_epochs if warm else self.epochs)
            # A small first step: with umap's usual 1.0 every refit shakes the picture up, spreads it further and keeps fewer
            # neighbours than it started with; at 0.25 points move half as far and more neighbours are kept.
            step = 0.25 if warm else 1.0
            xy, neighbours = _layout(x, start + noise, k, self.min_dist, epochs, self.seed, self.metric, step)
            xy = align_to(start, xy) if last is not None else xy
        self.xy, self.method, self._table, self._neighbours = xy, method, x, neighbours
        return xy
