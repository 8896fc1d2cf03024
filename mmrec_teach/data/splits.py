"""Which interactions to learn from and which to be judged on: four ways to split, and the k-core filter.

All rules are explicit. For a user with n interactions, *held out* means:

- fewer than 3: nothing, everything is for training;
- 3 to 9: exactly 1 for validation and 1 for test;
- 10 or more: floor(0.2 n), of which floor(half) go to validation and the rest to test.

This is the rule behind the published "random, 8:1:1" splits of the Amazon sets.

| how | who is held out |
|---|---|
| ``"random"`` | that many of each user's interactions, drawn at random |
| ``"user-time"`` | that many of each user's latest interactions: test after validation after training |
| ``"leave-one-out"`` | each user's last interaction is for test, the one before it for validation (users with 3 or more) |
| ``"global-time"`` | one calendar for all: the latest tenth for test, the tenth before for validation |

Equal times: within a user, the interaction that stands later in the input counts as later. Across users ("global-time")
events of the same moment are never separated: all of them go to the later side of a cut.

A user without training interactions cannot be judged by a collaborative model, so such users leave validation and test
(this happens only under "global-time"). Items without training interactions stay: they are the cold items.
"""

from __future__ import annotations

import math

import numpy as np

from mmrec_teach.data.dataset import Interactions
from mmrec_teach.errors import DataError, OptionError

COLD_USERS = ("drop", "error")  # what readers may do with a user who is to be judged but never trained on
KINDS = ("random", "leave-one-out", "user-time", "global-time")

Parts = tuple[Interactions, Interactions, Interactions]


def make(interactions: Interactions, how: str, *, seed: int = 0, held_out: float = 0.2) -> Parts:
    """Split ``interactions`` into training, validation and test.

    Args:
        interactions: (n,) events, each user-item pair once.
        how: one of :data:`KINDS`.
        seed: of the draw; used by "random" only.
        held_out: share held out of a user with 10 or more interactions, half of it (rounded down) for validation;
            under "global-time", the share of all events. "leave-one-out" does not use it.

    Returns:
        (train, valid, test), disjoint; together they are the input, but for the rows of cold users. Rows keep their order.

    Raises:
        OptionError: ``how`` is unknown or ``held_out`` is not between 0 and 1.
        DataError: the split needs timestamps and there are none, or it would leave nothing to learn from.
    """
    if how not in KINDS:
        raise OptionError("unknown way to split", where="split", found=repr(how), expected=", ".join(KINDS))
    if not 0 < held_out < 1:
        raise OptionError("not a share", where="held_out", found=held_out, expected="a number between 0 and 1")
    if how != "random" and interactions.timestamps is None:
        raise DataError(
            f"the split {how!r} needs timestamps",
            where="split",
            found="interactions without timestamps",
            fix='Use split="random"',
        )
    if not len(interactions):
        raise DataError("nothing to split", where="split", found="0 interactions", expected="at least one")
    if how == "global-time":
        part = _global_time(interactions.timestamps, held_out)
    else:
        if how == "random":
            key = np.random.default_rng(seed).permutation(len(interactions))
        else:
            key = np.argsort(np.argsort(interactions.timestamps, kind="stable"), kind="stable")  # ties: input order
        counts = np.bincount(interactions.users)
        valid, test = (np.where(counts >= 3, 1, 0),) * 2 if how == "leave-one-out" else held_out_sizes(counts, held_out)
        part = _last_of_each_user(interactions.users, key, counts, valid, test)
    train, valid, test = (interactions.select(part == k) for k in range(3))
    if not len(train):
        raise DataError(
            "the split leaves nothing to learn from",
            where="split",
            found=f"{len(interactions)} interactions, none before the first cut",
            expected="some interactions earlier than the others",
        )
    return drop_cold_users(train, valid, test)[0]


def describe(how: str, seed: int = 0) -> str:
    """Return the words that name a split in a sentence."""
    return {
        "random": f"split at random per user (seed {seed})",
        "leave-one-out": "each user's last two interactions held out (leave-one-out)",
        "user-time": "split by time within each user",
        "global-time": "split by time for all users at once",
    }[how]


def held_out_sizes(counts: np.ndarray, held_out: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return how many interactions of users with ``counts`` (U,) go to validation and to test, each (U,) int64."""
    counts = np.asarray(counts, dtype=np.int64)
    # 0.2 * 15 is 3.0000000000000004 or 2.9999999999999996 elsewhere: the small lift keeps floor exact
    total = np.floor(counts * held_out + 1e-9).astype(np.int64)
    total = np.where(counts < 10, 2, np.maximum(total, 2))
    total = np.where(counts < 3, 0, total)
    valid = total // 2
    return valid, total - valid


def _last_of_each_user(
    users: np.ndarray, key: np.ndarray, counts: np.ndarray, valid: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Return 0, 1 or 2 per row: of each user the last ``test`` rows by ``key`` are 2, the ``valid`` ones before them 1."""
    order = np.lexsort((key, users))
    sorted_users = users[order]
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    from_end = counts[sorted_users] - 1 - (np.arange(len(users)) - starts[sorted_users])
    part = np.zeros(len(users), dtype=np.int8)
    part[order] = np.where(
        from_end < test[sorted_users], 2, np.where(from_end < test[sorted_users] + valid[sorted_users], 1, 0)
    )
    return part


def _global_time(times: np.ndarray, held_out: float) -> np.ndarray:
    n = len(times)
    ordered = np.sort(times)
    held = math.floor(n * held_out + 1e-9)
    tested = held - held // 2
    part = np.zeros(n, dtype=np.int8)
    if held:
        part[times >= ordered[n - held]] = 1
    if tested:
        part[times >= ordered[n - tested]] = 2
    return part


def drop_cold_users(train: Interactions, valid: Interactions, test: Interactions) -> tuple[Parts, int]:
    """Return the splits without the valid and test rows of users who have no training row, and how many rows left."""
    n_users = 1 + max(int(p.users.max()) if len(p) else -1 for p in (train, valid, test))
    known = np.bincount(train.users, minlength=n_users) > 0
    kept = [p.select(known[p.users]) for p in (valid, test)]
    return (train, *kept), len(valid) + len(test) - sum(map(len, kept))


def k_core(users: np.ndarray, items: np.ndarray, k: int, k_items: int | None = None) -> np.ndarray:
    """Return which rows survive when users with fewer than ``k`` rows and items with fewer than ``k_items`` go, repeatedly.

    Args:
        users, items: (n,) non-negative int64 indices.
        k: least number of rows per user (and per item, unless ``k_items`` is given).
        k_items: least number of rows per item.

    Returns:
        (n,) bool mask of the largest set of rows in which every user and item has enough.
    """
    k_items = k if k_items is None else k_items
    keep = np.ones(len(users), dtype=bool)
    while keep.any():
        by_user = np.bincount(users[keep], minlength=users.max() + 1)
        by_item = np.bincount(items[keep], minlength=items.max() + 1)
        survivors = keep & (by_user[users] >= k) & (by_item[items] >= k_items)
        if survivors.sum() == keep.sum():
            break
        keep = survivors
    return keep
