"""A user's list of best items, and how it differs from an earlier one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmrec_teach.data import Dataset
from mmrec_teach.views.updates import TopItem, TopList


@dataclass(frozen=True, eq=False)
class Reference:
    """A former ranking of one user.

    Attributes:
        user: whose.
        ranking: (n,) int32 items, best first, training items left out.
        words: when that was.
    """

    user: int
    ranking: np.ndarray
    words: str


def ranking(data: Dataset, user: int, scores: np.ndarray) -> np.ndarray:
    """Return (n,) int32 items by descending score, those the user took in training left out; equal scores by index."""
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    taken = data.train.items[data.train.users == user]
    return order[~np.isin(order, taken)]


def top_list(data: Dataset, user: int, scores: np.ndarray, k: int = 10, reference: Reference | None = None) -> TopList:
    """Return the user's ``k`` best items and what entered and left since ``reference``.

    Args:
        data: what the model was trained on.
        user: an index.
        scores: (I,) the model's scores for this user.
        k: how many.
        reference: a former ranking of the same user.
    """
    order = ranking(data, user, scores)
    place = np.zeros(data.n_items, np.int64)
    place[order] = np.arange(1, len(order) + 1)
    before = np.zeros(data.n_items, np.int64)
    if reference is not None:
        before[reference.ranking] = np.arange(1, len(reference.ranking) + 1)
    liked = set(data.valid.items[data.valid.users == user].tolist())
    named = data.items is not None and "title" in data.items

    def entry(item: int) -> TopItem:
        title = data.items["title"].iloc[item] if named else ""
        title = str(title) if isinstance(title, str) and title else str(data.item_ids[item])
        return TopItem(
            item, title, float(scores[item]), int(place[item]), int(before[item]) or None, "valid" if item in liked else None
        )

    items = tuple(entry(int(i)) for i in order[:k])
    left = ()
    if reference is not None:
        left = tuple(entry(int(i)) for i in reference.ranking[:k] if not 0 < place[i] <= k)
    return TopList(user, items, left, reference.words if reference is not None else "")
