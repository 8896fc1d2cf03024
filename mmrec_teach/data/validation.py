"""What must hold before a :class:`~mmrec_teach.data.Dataset` exists. One rule, one clear sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmrec_teach.data.frozen import frozen, frozen_mapping
from mmrec_teach.errors import DataError

if TYPE_CHECKING:
    from mmrec_teach.data.dataset import Dataset, Interactions, Truth

SPLITS = ("train", "valid", "test")


def validated_fields(data: Dataset) -> dict[str, Any]:
    """Check every field of ``data`` and return the normalised, read-only values to store.

    Raises:
        DataError: at the first rule that does not hold.
    """
    where = f"data set {data.name!r}"
    user_ids = _ids(data.user_ids, "user_ids", where)
    item_ids = _ids(data.item_ids, "item_ids", where)
    n_users, n_items = len(user_ids), len(item_ids)
    for split in SPLITS:
        _check_split(getattr(data, split), split, n_users, n_items, where)
    _check_disjoint(data, n_items, where)
    _check_cold_users(data, n_users, where)

    missing = {k: np.asarray(v) for k, v in data.missing.items()}
    features = {}
    for name, table in data.features.items():
        features[name] = _feature_table(table, name, n_items, where)
        flags = missing.get(name, np.zeros(n_items, dtype=bool))
        if flags.shape != (n_items,) or flags.dtype != bool:
            raise DataError(
                "not one flag per item",
                where=f"{where}, missing[{name!r}]",
                found=f"shape {flags.shape}, dtype {flags.dtype}",
                expected=f"shape ({n_items},), dtype bool",
            )
        missing[name] = flags
        if np.any(features[name][flags]):
            row = int(np.flatnonzero(flags & (np.abs(features[name]).max(axis=1) > 0))[0])
            raise DataError(
                "an item marked as missing has a feature vector",
                where=f"{where}, features[{name!r}] row {row}",
                expected="a zero row for a missing item",
            )
    if unknown := set(missing) - set(features):
        raise DataError(
            "missing flags for a modality that has no features",
            where=where,
            found=", ".join(sorted(map(str, unknown))),
            expected=f"some of: {', '.join(features) or 'none'}",
        )

    items = data.items if data.items is not None else pd.DataFrame(index=range(n_items))
    if not isinstance(items, pd.DataFrame):
        raise DataError(
            "not a pandas table", where=f"{where}, items", found=type(items).__name__, expected="a DataFrame, one row per item"
        )
    if len(items) != n_items:
        raise DataError(
            "item table has the wrong number of rows",
            where=where,
            found=f"{len(items)} rows",
            expected=f"{n_items}, one per item",
        )
    images = data.images
    if images is not None:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != n_items or images.shape[3] != 3:
            raise DataError(
                "images have the wrong form",
                where=where,
                found=f"shape {images.shape}, dtype {images.dtype}",
                expected=f"shape ({n_items}, height, width, 3), dtype uint8",
            )
        images = frozen(images)
    if data.truth is not None:
        _check_truth(data.truth, n_users, n_items, where)
    counts = {}
    for name in ("exposures", "clicks"):
        value = getattr(data, name)
        if value is None:
            continue
        value = np.asarray(value)
        if value.shape != (n_items,) or not np.issubdtype(value.dtype, np.integer) or (value < 0).any():
            raise DataError(
                "not one count per item",
                where=f"{where}, {name}",
                found=f"shape {value.shape}, dtype {value.dtype}",
                expected=f"shape ({n_items},), whole numbers, none negative",
            )
        counts[name] = frozen(value.astype(np.int64, copy=False))
    return {
        "user_ids": user_ids,
        "item_ids": item_ids,
        "features": frozen_mapping(features),
        "missing": frozen_mapping(missing),
        "items": items.reset_index(drop=True),
        "images": images,
        **counts,
    }


def _check_truth(truth: Truth, n_users: int, n_items: int, where: str) -> None:
    """The planted truth has a row per user or item; its inner dimensions are the generator's business."""
    rows = {
        "utility": (n_users, n_items),
        "user_interests": (n_users,),
        "interest_shares": (n_users,),
        "care": (n_users,),
        "item_interest": (n_items,),
        "picture_style": (n_items,),
        "word_style": (n_items,),
    }
    for name, wanted in rows.items():
        shape = np.shape(getattr(truth, name))
        if shape[: len(wanted)] != wanted:
            raise DataError(
                "the planted truth does not fit the users and items",
                where=f"{where}, truth.{name}",
                found=f"shape {shape}",
                expected=f"shape ({', '.join(map(str, wanted))}{', …' if len(wanted) == 1 else ''})",
            )


def _ids(ids: Any, name: str, where: str) -> np.ndarray:
    ids = np.asarray(ids).astype(str)
    if ids.ndim != 1 or len(ids) == 0:
        raise DataError("no ids", where=f"{where}, {name}", found=f"shape {ids.shape}", expected="at least one id")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        twice = unique[counts > 1][0]
        raise DataError("an id stands twice", where=f"{where}, {name}", found=repr(str(twice)), expected="distinct ids")
    return frozen(ids)


def _check_split(part: Interactions, split: str, n_users: int, n_items: int, where: str) -> None:
    if split == "train" and len(part) == 0:
        raise DataError("the training split is empty", where=where, expected="at least one training interaction")
    for kind, values, limit in (("user", part.users, n_users), ("item", part.items, n_items)):
        if len(values) and (values.min() < 0 or values.max() >= limit):
            row = int(np.flatnonzero((values < 0) | (values >= limit))[0])
            raise DataError(
                f"{kind} index out of range",
                where=f"{where}, {split} row {row}",
                found=int(values[row]),
                expected=f"0 to {limit - 1}",
            )


def _check_disjoint(data: Dataset, n_items: int, where: str) -> None:
    parts = [getattr(data, s) for s in SPLITS]
    keys = np.concatenate([p.users * n_items + p.items for p in parts])
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if len(same):
        labels = np.repeat(SPLITS, [len(p) for p in parts])
        a, b = order[same[0]], order[same[0] + 1]
        user, item = divmod(int(keys[a]), n_items)
        pair = f"user {user} ({data.user_ids[user]}), item {item} ({data.item_ids[item]})"
        splits = labels[a] if labels[a] == labels[b] else f"{labels[a]} and {labels[b]}"
        raise DataError(
            "duplicate interaction",
            where=f"{where}, {splits}",
            found=f"{pair} twice, {len(same)} such pair(s) in all",
            expected="each user-item pair once, in one split",
        )


def _check_cold_users(data: Dataset, n_users: int, where: str) -> None:
    trained = np.bincount(data.train.users, minlength=n_users) > 0
    for split in ("valid", "test"):
        users = getattr(data, split).users
        cold = users[~trained[users]]
        if len(cold):
            raise DataError(
                "a user to be judged has no training interaction",
                where=f"{where}, {split}",
                found=f"user {int(cold[0])} ({data.user_ids[cold[0]]}), {len(np.unique(cold))} such user(s) in all",
                expected="every user of valid and test in train too",
                fix="Move the user's rows to train or drop them",
            )


def _feature_table(table: Any, name: str, n_items: int, where: str) -> np.ndarray:
    table = np.asarray(table)
    where = f"{where}, features[{name!r}]"
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError("not a table", where=where, found=f"shape {table.shape}", expected=f"shape ({n_items}, dimension)")
    if table.shape[0] != n_items:
        raise DataError(
            "feature rows differ from items", where=where, found=f"{table.shape[0]} rows", expected=f"{n_items} rows"
        )
    if not np.issubdtype(table.dtype, np.floating):
        raise DataError(
            "features are not floating-point numbers",
            where=where,
            found=f"dtype {table.dtype}",
            expected="float16, float32 or float64",
        )
    given = table
    with np.errstate(over="ignore"):
        table = table.astype(np.float32, copy=False)
    if table is not given:
        table.flags.writeable = False  # ours alone: no need of another copy
    if not np.isfinite(table).all():
        row, column = map(int, np.argwhere(~np.isfinite(table))[0])
        raise DataError(
            "features hold a number that is not finite",
            where=f"{where} row {row}, column {column}",
            found=str(table[row, column]),
            expected="finite numbers within float32's range",
        )
    return table
