"""What is known of users and items that a map can be coloured by, and what the pointer shows over each of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmrec_teach.data import Dataset
from mmrec_teach.evaluation import Evaluation
from mmrec_teach.views import figures


def colourings(data: Dataset, which: str, most: int = 15) -> dict[str, tuple[str, Any]]:
    """Return label -> (kind, values) of everything known of users or items that a map can be coloured by.

    A user's category is the main interest (known in generated data only), a user's popularity the number of interactions.
    "planted interest" is the same on both sides, so that users and items of one interest look alike.

    Args:
        data: the data set.
        which: "item" or "user"; rows of any other side are drawn plain.
        most: categories kept; the rest become "other".
    """
    found: dict[str, tuple[str, Any]] = {}
    if which == "item":
        if data.items is not None and "category" in data.items:
            found["category"] = ("category", _largest(data.items["category"].fillna("(none)").astype(str).to_numpy(), most))
        if data.truth is not None:
            found["planted interest"] = ("category", _largest(_interests(data)[data.truth.item_interest], most))
        found["popularity"] = ("popularity", data.item_counts)
        if data.cold_items.any():
            found["cold"] = ("cold", data.cold_items)
    elif which == "user":
        if data.truth is not None:
            main = _largest(_interests(data)[data.truth.user_interests[:, 0]], most)
            found |= {"category": ("category", main), "planted interest": ("category", main)}
        found["popularity"] = ("popularity", data.user_counts)
    found["plain"] = ("none", None)
    return found


def _interests(data: Dataset) -> np.ndarray:
    """Names of the planted interests: the category most of their items have."""
    truth = data.truth
    n = 1 + max(int(truth.item_interest.max(initial=0)), int(truth.user_interests.max(initial=0)))
    names = np.array([f"interest {i}" for i in range(n)], dtype=object)
    if data.items is not None and "category" in data.items:
        for interest in range(n):
            members = data.items["category"].to_numpy()[truth.item_interest == interest]
            if len(members):
                values, counts = np.unique(members.astype(str), return_counts=True)
                names[interest] = str(values[counts.argmax()])
    return names


def error_colourings(evaluation: Evaluation, data: Dataset, which: str, k: int) -> dict[str, tuple[str, Any]]:
    """Return label -> ("share", values) of how a model errs on validation; NaN where there is nothing to judge by.

    Args:
        evaluation: of the validation split.
        data: what was evaluated.
        which: "item": share of its held-out interactions that are missed; "user": recall.
        k: length of the lists, one of the evaluation's cut-offs.
    """
    if which == "item":
        _, items = evaluation.relevant
        missed = (evaluation.relevant_ranks == 0) | (evaluation.relevant_ranks > k)
        judged = np.bincount(items, minlength=data.n_items)
        with np.errstate(invalid="ignore"):
            share = np.bincount(items, weights=missed, minlength=data.n_items) / np.where(judged > 0, judged, np.nan)
        return {f"missed@{k}": ("share", share.astype(np.float32))}
    if which == "user":
        recall = np.full(data.n_users, np.nan, np.float32)
        recall[evaluation.users] = evaluation.per_user[f"recall@{k}"]
        return {f"recall@{k}": ("share", recall)}
    return {}


def _largest(labels: np.ndarray, most: int) -> np.ndarray:
    names, counts = np.unique(labels.astype(str), return_counts=True)
    if len(names) <= most:
        return labels.astype(str)
    keep = set(names[np.argsort(-counts, kind="stable")[: most - 1]])
    return np.array([v if v in keep else "other" for v in labels.astype(str)], dtype=object)


def hover_texts(data: Dataset, which: str) -> list[str]:
    """Return what the pointer shows over every item or user; nothing for rows of another side."""
    if which not in ("item", "user"):
        return []
    if which == "user":
        return [f"user {u}<br>{c} training interactions" for u, c in zip(data.user_ids, data.user_counts)]
    titles = data.items["title"].fillna("").astype(str) if data.items is not None and "title" in data.items else data.item_ids
    return [
        f"{figures.wrapped(str(t), 40) or i}<br>{c} training interactions"
        for t, i, c in zip(titles, data.item_ids, data.item_counts)
    ]
