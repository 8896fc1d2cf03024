"""What is known of users and items that a map can be coloured by, and what the pointer shows over each of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmrec_teach.data import Dataset
from mmrec_teach.views import figures


def colourings(data: Dataset, which: str, most: int = 15) -> dict[str, tuple[str, Any]]:
    """Return label -> (kind, values) of everything known of users or items that a map can be coloured by.

    A user's category is the main interest (known in generated data only), a user's popularity the number of interactions.

    Args:
        data: the data set.
        which: "item" or "user".
        most: categories kept; the rest become "other".
    """
    found: dict[str, tuple[str, Any]] = {}
    if which == "item":
        if data.items is not None and "category" in data.items:
            found["category"] = ("category", _largest(data.items["category"].fillna("(none)").astype(str).to_numpy(), most))
        found["popularity"] = ("popularity", data.item_counts)
        if data.cold_items.any():
            found["cold"] = ("cold", data.cold_items)
    else:
        if data.truth is not None:
            main = data.truth.user_interests[:, 0]
            names = np.array([f"interest {i}" for i in range(int(main.max(initial=0)) + 1)], dtype=object)
            if data.items is not None and "category" in data.items:
                for interest in range(len(names)):
                    members = data.items["category"].to_numpy()[data.truth.item_interest == interest]
                    if len(members):
                        values, counts = np.unique(members.astype(str), return_counts=True)
                        names[interest] = str(values[counts.argmax()])
            found["category"] = ("category", _largest(names[main], most))
        found["popularity"] = ("popularity", data.user_counts)
    found["plain"] = ("none", None)
    return found


def _largest(labels: np.ndarray, most: int) -> np.ndarray:
    names, counts = np.unique(labels.astype(str), return_counts=True)
    if len(names) <= most:
        return labels.astype(str)
    keep = set(names[np.argsort(-counts, kind="stable")[: most - 1]])
    return np.array([v if v in keep else "other" for v in labels.astype(str)], dtype=object)


def hover_texts(data: Dataset, which: str) -> list[str]:
    """Return what the pointer shows over every item or user."""
    if which == "user":
        return [f"user {u}<br>{c} training interactions" for u, c in zip(data.user_ids, data.user_counts)]
    titles = data.items["title"].fillna("").astype(str) if data.items is not None and "title" in data.items else data.item_ids
    return [
        f"{figures.wrapped(str(t), 40) or i}<br>{c} training interactions"
        for t, i, c in zip(titles, data.item_ids, data.item_counts)
    ]
