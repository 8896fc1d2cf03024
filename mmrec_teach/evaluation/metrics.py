"""Ranking metrics as plain functions on arrays.

Everything starts from a *hit matrix*: row r is a user, column j is true where the item at rank j + 1 is one the user took
in the evaluated split. The accuracy metrics return one number a user, so that the caller can average, bootstrap or compare
them; the beyond-accuracy metrics (coverage, Gini, novelty) describe all lists together. No loop over users or ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmrec_teach.errors import OptionError

Array = np.ndarray


# -- hits ---------------------------------------------------------------------------------------------------------------
def hit_matrix(topk: Array, relevant: Sequence[Array] | tuple[Array, Array], n_items: int) -> Array:
    """Return which recommended items are relevant.

    Args:
        topk: (n, K) item ids in rank order; -1 marks an empty place and never hits.
        relevant: one array of item ids per row, or the pair ``(rows, items)`` of two equally long integer arrays that
            lists all relevant (row of ``topk``, item) pairs. The second form has no Python loop.
        n_items: size of the catalogue; ids lie in 0..n_items-1.

    Returns:
        (n, K) bool.

    Raises:
        OptionError: an id outside the catalogue, or shapes that do not belong together.
    """
    topk = np.asarray(topk)
    if topk.ndim != 2:
        raise OptionError("not a table of ranked items", where="topk", found=f"shape {topk.shape}", expected="shape (n, K)")
    rows, items = relevant_pairs(relevant, len(topk))
    for name, ids, low in (("topk", topk, -1), ("relevant", items, 0)):
        if ids.size and (ids.min() < low or ids.max() >= n_items):
            raise OptionError(
                "item id outside the catalogue",
                where=name,
                found=f"ids from {ids.min()} to {ids.max()}",
                expected=f"{low}..{n_items - 1}",
            )
    if rows.size and (rows.min() < 0 or rows.max() >= len(topk)):
        raise OptionError(
            "row without a list", where="relevant", found=f"row {rows.max()}", expected=f"rows 0..{len(topk) - 1}"
        )
    if rows.size == 0:
        return np.zeros(topk.shape, dtype=bool)
    # one integer per (row, item) pair: membership in a sorted list of those is a binary search
    keys = np.sort(rows * n_items + items)
    wanted = np.arange(len(topk), dtype=np.int64)[:, None] * n_items + topk
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return (keys[place] == wanted) & (topk >= 0)  # row * n_items - 1 is the last item of the row above: not a hit


def relevant_pairs(relevant: Sequence[Array] | tuple[Array, Array], n_rows: int) -> tuple[Array, Array]:
    """Return the relevant (row, item) pairs as two int64 arrays, from either form that :func:`hit_matrix` accepts.

    A 2-tuple is always read as ``(rows, items)``; pass a list for one array per row.

    Raises:
        OptionError: not one array per row, or two arrays of different length.
    """
    if isinstance(relevant, tuple) and len(relevant) == 2:
        rows, items = (np.asarray(a, dtype=np.int64) for a in relevant)
        if rows.shape != items.shape or rows.ndim != 1:
            raise OptionError(
                "rows and items differ in shape",
                where="relevant",
                found=f"{rows.shape} and {items.shape}",
                expected="two arrays of shape (m,)",
            )
        return rows, items
    if len(relevant) != n_rows:
        raise OptionError("not one list per user", where="relevant", found=f"{len(relevant)} lists", expected=f"{n_rows}")
    lengths = [len(r) for r in relevant]
    items = np.concatenate([np.asarray(r, dtype=np.int64) for r in relevant]) if sum(lengths) else np.empty(0, np.int64)
    return np.repeat(np.arange(n_rows, dtype=np.int64), lengths), items


def _checked(hits: Array, n_relevant: Array | None, k: int | None) -> tuple[Array, Array | None]:
    """Return the first k columns as bool and the counts as int64, or say what is wrong."""
    hits = np.asarray(hits)
    if hits.ndim != 2:
        raise OptionError("not a hit matrix", where="hits", found=f"shape {hits.shape}", expected="shape (n, K)")
    k = hits.shape[1] if k is None else k
    if not 1 <= k <= hits.shape[1]:
        raise OptionError("cut-off outside the lists", where="k", found=k, expected=f"1..{hits.shape[1]}")
    if n_relevant is not None:
        n_relevant = np.asarray(n_relevant)
        if n_relevant.shape != (len(hits),):
            raise OptionError(
                "not one count per user", where="n_relevant", found=f"shape {n_relevant.shape}", expected=f"({len(hits)},)"
            )
        if n_relevant.size and n_relevant.min() < 1:
            raise OptionError(
                "a user without relevant items cannot be judged",
                where="n_relevant",
                found=f"{n_relevant.min()} in row {n_relevant.argmin()}",
                expected="at least 1",
                fix="leave such users out",
            )
    return hits[:, :k].astype(bool, copy=False), n_relevant


# -- accuracy, one number a user --------------------------------------------------------------------------------------------
def recall(hits: Array, n_relevant: Array, k: int | None = None) -> Array:
    """Recall@K = hits in the first K / relevant items. In [0, 1]; below 1 whenever a user has more than K relevant items.

    Args:
        hits: (n, K') hit matrix, K' >= K.
        n_relevant: (n,) how many items are relevant to each user, found or not; at least 1.
        k: the cut-off; all columns by default.

    Returns:
        (n,) float64.

    Raises:
        OptionError: shapes, cut-off or counts that cannot be.
    """
    hits, n_relevant = _checked(hits, n_relevant, k)
    return hits.sum(1) / n_relevant


def precision(hits: Array, k: int | None = None) -> Array:
    """Precision@K = hits in the first K / K, (n,) float64 in [0, 1]. Empty places are misses. Errors as in :func:`recall`."""
    hits, _ = _checked(hits, None, k)
    return hits.sum(1) / hits.shape[1]


def hitrate(hits: Array, k: int | None = None) -> Array:
    """HitRate@K = 1 if any of the first K is relevant else 0, (n,) float64. Errors as in :func:`recall`."""
    hits, _ = _checked(hits, None, k)
    return hits.any(1).astype(np.float64)


def mrr(hits: Array, k: int | None = None) -> Array:
    """MRR@K = 1 / rank of the first relevant item, 0 if none is in the first K; (n,) float64. Errors as in :func:`recall`."""
    hits, _ = _checked(hits, None, k)
    return np.where(hits.any(1), 1.0 / (hits.argmax(1) + 1), 0.0)


def ndcg(hits: Array, n_relevant: Array, k: int | None = None) -> Array:
    """NDCG@K = DCG / ideal DCG with binary gain and discount 1 / log2(rank + 1), (n,) float64 in [0, 1].

    The ideal list has min(relevant, K) hits at the top, so a perfect list scores 1 whatever K is. Arguments and errors as in
    :func:`recall`.
    """
    hits, n_relevant = _checked(hits, n_relevant, k)
    discount = 1.0 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.cumsum(discount)[np.minimum(n_relevant, hits.shape[1]) - 1]
    return (hits @ discount) / ideal


def average_precision(hits: Array, n_relevant: Array, k: int | None = None) -> Array:
    """AP@K = sum of precision@rank at every hit / min(relevant, K), (n,) float64 in [0, 1]; its mean over users is MAP@K.

    Arguments and errors as in :func:`recall`.
    """
    hits, n_relevant = _checked(hits, n_relevant, k)
    precision_at = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return (precision_at * hits).sum(1) / np.minimum(n_relevant, hits.shape[1])


# -- beyond accuracy, one number for all lists --------------------------------------------------------------------------------
def exposure(topk: Array, n_items: int, k: int | None = None) -> Array:
    """Return (n_items,) int64: in how many of the lists, cut at K, each item stands. Empty places (-1) are left out."""
    shown = np.asarray(topk)
    shown = shown[:, : shown.shape[1] if k is None else k]
    return np.bincount(shown[shown >= 0].ravel(), minlength=n_items)


def coverage(topk: Array, n_items: int, k: int | None = None) -> float:
    """Coverage@K = share of the catalogue that is recommended to somebody, in [0, 1]."""
    return float((exposure(topk, n_items, k) > 0).mean())


def gini(topk: Array, n_items: int, k: int | None = None) -> float:
    """Gini@K of the items' exposure: 0 if all items are shown equally often, (n_items - 1) / n_items if one takes all.

    With exposures sorted ascending x_1..x_n: G = sum_i (2i - n - 1) x_i / (n sum x). 0 if nothing is shown at all.
    """
    x = np.sort(exposure(topk, n_items, k)).astype(np.float64)
    if x.sum() == 0:
        return 0.0
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ x / (n_items * x.sum()))


def novelty(topk: Array, item_counts: Array, n_users: int, k: int | None = None) -> float:
    """Novelty@K = mean self-information -log2 p(i) of the recommended items, in bits (Zhou et al., PNAS 2010).

    p(i) is the share of users who took item i in training. A cold item has p = 0 and would be infinitely surprising: it counts
    as taken once. 0 if nothing is recommended.

    Args:
        topk: (n, K') item ids in rank order, -1 where empty.
        item_counts: (n_items,) training interactions per item.
        n_users: how many users there are.
        k: the cut-off; all columns by default.
    """
    shown = exposure(topk, len(item_counts), k)
    if shown.sum() == 0:
        return 0.0
    information = -np.log2(np.maximum(np.asarray(item_counts), 1) / n_users)
    return float(shown @ information / shown.sum())
