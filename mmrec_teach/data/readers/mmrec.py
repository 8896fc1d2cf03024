"""The MMRec folder: one ``NAME.inter`` with an x_label column, and one ``MODALITY_feat.npy`` per modality.

    baby/
        baby.inter          userID  itemID  [rating]  [timestamp]  x_label      tab-separated; x_label 0 train, 1 valid, 2 test
        image_feat.npy      (n_items, d) float16, float32 or float64; row = itemID
        text_feat.npy

Ids are whole numbers from 0. An item's id is its index wherever there are features, so that feature rows line up: items that
nobody took stay in the catalogue.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmrec_teach.data import splits
from mmrec_teach.data.dataset import Dataset, Interactions
from mmrec_teach.data.readers.safety import Table, finite_float32, read_delimited, read_npy
from mmrec_teach.errors import DataError, OptionError


def read(
    folder: Path,
    *,
    name: str | None = None,
    interactions: Path | None = None,
    cold_users: str = "drop",
    split: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Open an MMRec folder.

    Args:
        folder: where the files lie.
        name: name of the data set (default: the stem of the .inter file).
        interactions: the .inter file (default: the only one in ``folder``).
        cold_users: what to do with a user who is to be judged but has no training interaction: "drop" the user's rows
            from valid and test (as MMRec does, and the sentence in ``Dataset.source`` says how many), or "error".
        split: make a new split of this kind (see :mod:`mmrec_teach.data.splits`) instead of using x_label.
        seed: of a new random split.

    Returns:
        The data set. A feature row of zeros counts as a missing modality.

    Raises:
        DataError: something is wrong with a file.
        OptionError: an option is unknown.
    """
    if cold_users not in splits.COLD_USERS:
        raise OptionError("unknown option", where="cold_users", found=repr(cold_users), expected=" or ".join(splits.COLD_USERS))
    path = interactions or only_inter(folder)
    table = read_delimited(path, "\t", quoted=False)
    table.require("userID", "itemID", *(() if split else ("x_label",)))
    users = table.integers("userID", minimum=0, what="a user id")
    items = table.integers("itemID", minimum=0, what="an item id")
    times = table.times("timestamp") if "timestamp" in table.columns else None

    features, missing = _features(folder)
    n_items = _n_rows(features, folder)
    if n_items is None:
        item_ids, items = _compact(items)
    else:
        if items.max() >= n_items:
            row = int(np.flatnonzero(items >= n_items)[0])
            raise DataError(
                "an item has no feature row",
                where=table.where(row),
                found=f"itemID {items[row]}",
                expected=f"0 to {n_items - 1}, since {next(iter(features))}_feat.npy has {n_items} rows",
            )
        item_ids = np.arange(n_items)
    user_ids, users = _compact(users)
    check_pairs(users, items, user_ids, item_ids, table)
    events = Interactions(users, items, times)
    if split is None:
        labels = table.integers("x_label", what="0 (train), 1 (valid) or 2 (test)")
        wrong = np.flatnonzero((labels < 0) | (labels > 2))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                "unknown x_label", where=table.where(row), found=int(labels[row]), expected="0 (train), 1 (valid) or 2 (test)"
            )
        parts = [events.select(labels == k) for k in range(3)]
        for part, label in zip(parts, ("0 (train)", "1 (valid)", "2 (test)")):
            if not len(part):
                raise DataError(
                    "a split is empty", where=str(path), found=f"no row with x_label {label}", expected="at least one row"
                )
        how = "split as published by x_label"
    else:
        parts = list(splits.make(events, split, seed=seed))
        how = splits.describe(split, seed)
    source = f"MMRec folder {folder.name}, {how}"
    if cold_users == "drop":
        parts, dropped = splits.drop_cold_users(*parts)
        if dropped:
            source += f"; {dropped} rows of users without training interactions left out of valid and test"
    return Dataset(
        name=name or path.stem,
        user_ids=user_ids,
        item_ids=item_ids,
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        features=features,
        missing=missing,
        source=source + ".",
    )


def only_inter(folder: Path) -> Path:
    """Return the one .inter file of ``folder``; none or several is a DataError."""
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found[:4]) or "none"
        raise DataError(
            "exactly one .inter file is needed" if found else "there is no .inter file",
            where=str(folder),
            found=names,
            expected="one",
            fix="Give the path of the file itself" if found else "",
        )
    return found[0]


def check_pairs(users: np.ndarray, items: np.ndarray, user_ids: np.ndarray, item_ids: np.ndarray, table: Table) -> None:
    """Raise a DataError with both lines if a user-item pair stands twice in ``table``."""
    keys = users * len(item_ids) + items
    first_of = pd.Series(keys).duplicated()
    if first_of.any():
        row = int(np.flatnonzero(first_of)[0])
        before = int(np.flatnonzero(keys == keys[row])[0])
        raise DataError(
            "duplicate interaction",
            where=f"{table.path} {table.locate(before)} and {table.locate(row)}",
            found=f"user {user_ids[users[row]]}, item {item_ids[items[row]]} twice, {int(first_of.sum())} such row(s) in all",
            expected="each user-item pair once, in one split",
        )


def _compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (distinct ids in rising order, index of each); when ids are exactly 0..n-1, index = id."""
    return np.unique(ids, return_inverse=True)


def _features(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    features, missing = {}, {}
    for path in sorted(folder.glob("*_feat.npy")):
        name = path.name.removesuffix("_feat.npy")
        if not name:
            raise DataError("a feature file without a modality's name", where=str(path), expected="NAME_feat.npy")
        features[name] = finite_float32(read_npy(path), str(path))
        missing[name] = ~features[name].any(axis=1)
    return features, missing


def _n_rows(features: dict[str, np.ndarray], folder: Path) -> int | None:
    rows = {name: len(table) for name, table in features.items()}
    if len(set(rows.values())) > 1:
        raise DataError(
            "feature tables differ in rows",
            where=str(folder),
            found=", ".join(f"{n}_feat.npy {r}" for n, r in rows.items()),
            expected="one row per item in each",
        )
    return next(iter(rows.values()), None)
