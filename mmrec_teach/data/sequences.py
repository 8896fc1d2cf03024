"""Histories: what every user took, in order, and the windows of them that sequence models read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmrec_teach.data.dataset import Dataset, Interactions
from mmrec_teach.data.frozen import frozen
from mmrec_teach.errors import DataError

LENGTH = 50
"""Items of a history that are read unless a model says otherwise: the latest ones."""


@dataclass(frozen=True, eq=False)
class Histories:
    """Every user's items, oldest first, one user after the other. A *place* is an index into ``items``.

    Attributes:
        items: (n,) int64, all histories end to end.
        users: (n,) int64, whose each place is, ascending.
        starts: (U + 1,) int64; user u has the places starts[u] to starts[u + 1] - 1 (none where the two are equal).
    """

    items: np.ndarray
    users: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """(U,) int64 items per user."""
        return np.diff(self.starts)

    def of(self, user: int) -> np.ndarray:
        """Return the items of ``user``, oldest first."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def prefixes(self) -> np.ndarray:
        """Return the places (m,) that have something before them: each is an item to predict from its prefix."""
        return np.flatnonzero(np.arange(len(self)) > self.starts[self.users])

    def windows(self, users: np.ndarray, stops: np.ndarray, length: int = LENGTH) -> tuple[np.ndarray, np.ndarray]:
        """Return what stands before ``stops``, padded behind.

        Args:
            users: (B,) whose histories.
            stops: (B,) the first place no longer read, within the user's places or right behind them.
            length: at most so many items, the latest ones.

        Returns:
            (B, L) int64 places, oldest first, and (B,) int64 how many of them count. L is the longest row of this batch (at
            least 1); the padding holds place 0 and stands behind.
        """
        first = np.maximum(self.starts[users], stops - length)
        lengths = stops - first
        column = np.arange(max(1, int(lengths.max(initial=1))))
        return np.where(column < lengths[:, None], first[:, None] + column, 0), lengths


def histories(data: Dataset, *splits: str) -> Histories:
    """Return the histories told by ``splits`` of ``data`` together (train if none is named).

    Items of the same moment keep the order in which they stand in the data, train before valid before test.

    Args:
        data: its interactions need timestamps (or positions, see ``time_is_order``).
        splits: the splits to read.

    Raises:
        DataError: the interactions have no order.
    """
    told = Interactions.concatenate(*(data.split(s) for s in splits or ("train",)))
    if told.timestamps is None:
        raise DataError(
            "the interactions have no order, so there are no histories",
            where=f"data set {data.name!r}",
            found="interactions without timestamps",
            expected="a time or a position for each",
            fix="Add a timestamp column, or use a model that needs no order (bpr, lightgcn, bm3)",
        )
    order = np.lexsort((told.timestamps, told.users))  # stable: equal times stay as they stand
    users = told.users[order]
    starts = np.searchsorted(users, np.arange(data.n_users + 1))
    return Histories(frozen(told.items[order]), frozen(users), frozen(starts))


def has_order(data: Dataset) -> bool:
    """Return whether :func:`histories` can be told of all splits of ``data``."""
    return all(part.timestamps is not None for part in (data.train, data.valid, data.test) if len(part))


def follows_time(data: Dataset) -> bool:
    """Return whether every user's interactions were taken in the order train, valid, test (of equal times, either order).

    A random split does not: there, histories hold what came after the item to be found.

    Args:
        data: its interactions have an order, see :func:`has_order`.
    """
    latest = np.full(data.n_users, np.iinfo(np.int64).min)
    for part in (data.train, data.valid, data.test):
        if len(part):
            if (part.timestamps < latest[part.users]).any():
                return False
            np.maximum.at(latest, part.users, part.timestamps)
    return True
