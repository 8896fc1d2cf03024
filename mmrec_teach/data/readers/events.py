"""From rows of a file to interactions: threshold, repeats, k-core, indices, split. Shared by the atomic and raw readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mmrec_teach.data import splits
from mmrec_teach.data.dataset import Interactions
from mmrec_teach.errors import DataError, OptionError

REPEATS = ("first", "last", "error")


@dataclass
class Events:
    """Interactions as a file tells them, in file order.

    Attributes:
        users, items: (n,) object arrays of id strings.
        times: (n,) int64, or None.
        ratings: (n,) float64, or None.
        parts: (n,) int8, 0 train, 1 valid, 2 test, or None if the source has no split.
        notes: what was left out so far, in words.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    ratings: np.ndarray | None = None
    parts: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def select(self, rows: np.ndarray) -> Events:
        """Return the events at ``rows``, with the same notes."""
        pick = [None if a is None else a[rows] for a in (self.users, self.items, self.times, self.ratings, self.parts)]
        return Events(*pick, notes=self.notes)


def filtered(
    events: Events, where: str, *, rating_threshold: float | None, repeats: str, k_core: int | Sequence[int] | None
) -> Events:
    """Return the events that count: rated highly enough, each pair once, and in the k-core.

    Args:
        events: what the file says.
        where: the file, for messages.
        rating_threshold: keep ratings of at least this.
        repeats: of a pair that stands several times keep the "first" or "last" (by time, then by file order), or "error".
        k_core: least number of interactions per user and item, or a pair (per user, per item); None keeps all.

    Raises:
        OptionError: an option's value makes no sense.
        DataError: no ratings to threshold, a repeated pair under "error", or nothing left.
    """
    if repeats not in REPEATS:
        raise OptionError("unknown option", where="repeats", found=repr(repeats), expected=", ".join(REPEATS))
    if rating_threshold is not None:
        if not isinstance(rating_threshold, (int, float)) or not math.isfinite(rating_threshold):
            raise OptionError(
                "not a number", where="rating_threshold", found=repr(rating_threshold), expected="a finite number"
            )
        if events.ratings is None:
            raise DataError("there are no ratings to compare with rating_threshold", where=where, expected="a rating column")
        n = len(events.users)
        events = events.select(events.ratings >= rating_threshold)
        _some_left(events, where, f"no rating reaches {rating_threshold:g}")
        events.notes.append(f"{n - len(events.users):,} ratings below {rating_threshold:g} left out")
    events = _once(events, where, repeats)
    if k_core is not None:
        pair = k_core if isinstance(k_core, (tuple, list)) else (k_core, k_core)
        if len(pair) != 2 or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in pair):
            raise OptionError(
                "not a k-core", where="k_core", found=repr(k_core), expected="a whole number from 1, or a pair of them"
            )
        keep = splits.k_core(pd.factorize(events.users)[0], pd.factorize(events.items)[0], *pair)
        dropped = int((~keep).sum())
        events = events.select(keep)
        _some_left(events, where, f"no user and item have {pair[0]} and {pair[1]} interactions among themselves")
        if dropped:
            events.notes.append(f"{dropped:,} interactions outside the {'/'.join(map(str, dict.fromkeys(pair)))}-core left out")
    return events


def _some_left(events: Events, where: str, reason: str) -> None:
    if not len(events.users):
        raise DataError("no interactions are left", where=where, found=reason, expected="at least one", fix="Loosen the filter")


def _once(events: Events, where: str, repeats: str) -> Events:
    """Return the events with each user-item pair once."""
    table = pd.DataFrame({"user": events.users, "item": events.items})
    if not table.duplicated().any():
        return events
    if repeats == "error":
        row = int(np.flatnonzero(table.duplicated())[0])
        raise DataError(
            "duplicate interaction",
            where=where,
            found=f"user {table.user[row]}, item {table.item[row]} twice, {int(table.duplicated().sum())} such row(s) in all",
            expected="each user-item pair once",
            fix='repeats="first" keeps the earliest',
        )
    if events.times is not None:
        table = table.iloc[np.argsort(events.times, kind="stable")]
    keep = np.sort(table.index[~table.duplicated(keep=repeats)].to_numpy())
    events.notes.append(f"{len(events.users) - len(keep):,} repeats left out (of a repeated pair the {repeats} counts)")
    return events.select(keep)


def split_events(
    events: Events,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    *,
    split: str | None,
    seed: int,
    cold_users: str = "drop",
) -> splits.Parts:
    """Return (train, valid, test) with indices into ``user_ids`` and ``item_ids``: the source's own split, or a new one."""
    if cold_users not in splits.COLD_USERS:
        raise OptionError("unknown option", where="cold_users", found=repr(cold_users), expected=" or ".join(splits.COLD_USERS))
    everything = Interactions(indices(events.users, user_ids), indices(events.items, item_ids), events.times)
    if split is not None:
        parts = splits.make(everything, split, seed=seed)
        events.notes.insert(0, splits.describe(split, seed))
    else:
        parts = tuple(everything.select(events.parts == k) for k in range(3))
        events.notes.insert(0, "split as published")
    if cold_users == "drop":
        parts, dropped = splits.drop_cold_users(*parts)
    else:
        dropped = 0
    lost = len(everything) - sum(map(len, parts)) if split is not None else dropped
    if lost:
        events.notes.append(f"{lost:,} rows of users without training interactions left out of valid and test")
    return parts


def indices(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the int64 position of each of ``values`` in ``ids`` (-1 where absent)."""
    return pd.Index(ids).get_indexer(values).astype(np.int64)


def in_order(ids: np.ndarray) -> np.ndarray:
    """Return the distinct ``ids``: by number if all are whole numbers, else by text."""
    distinct = pd.unique(ids)
    if all(i.isascii() and i.isdigit() and len(i) < 19 for i in distinct):
        return np.array(sorted(distinct, key=lambda i: (int(i), i)), dtype=object)
    return np.array(sorted(distinct), dtype=object)
