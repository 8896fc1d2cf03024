"""The atomic form of RecBole, UniSRec and MISSRec: tab-separated files whose header names each column's type.

    Scientific/
        Scientific.train.inter  user_id:token  item_id_list:token_seq  item_id:token     a history and the item taken next
        Scientific.valid.inter  likewise: the history before the validation item, and that item
        Scientific.test.inter   likewise for the test item
        Scientific.text         item_id:token  text:token_seq
        Scientific.item2index   ITEM  INDEX      (no header) what the numbers in .inter stand for
        Scientific.user2index   USER  INDEX
        Scientific.feat1CLS     raw little-endian float32, one row per item: text features
        Scientific.feat3CLS     likewise: image features

Rows without ``item_id_list`` (RecBole's plain form, optional ``rating:float`` and ``timestamp:float``) are single interactions.
Instead of three files there may be one ``NAME.inter``, which is then split. RecBole's ``NAME.item`` adds item columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmrec_teach.data.dataset import SPLITS, Dataset
from mmrec_teach.data.readers.events import Events, filtered, in_order, indices, split_events
from mmrec_teach.data.readers.items import first_category
from mmrec_teach.data.readers.safety import Table, read_delimited, read_raw_float32, short
from mmrec_teach.errors import DataError

FEATURES = {"feat3CLS": "image", "feat1CLS": "text"}  # feat2CLS, UniSRec's word-drop twin of the text, is not an item's own
TYPES = ("token", "token_seq", "float", "float_seq")


def read(
    folder: Path,
    *,
    name: str | None = None,
    interactions: Path | None = None,
    split: str | None = None,
    seed: int = 0,
    repeats: str = "first",
    rating_threshold: float | None = None,
    k_core: int | Sequence[int] | None = None,
    cold_users: str = "drop",
) -> Dataset:
    """Open a folder in the atomic form.

    Args:
        folder: where the files lie.
        name: the NAME in the files' names (default: the only one there).
        interactions: one of the .inter files, to tell the name by.
        split: make a new split of this kind. Default: the source's own; one .inter file without histories is split at
            random per user, one with histories by leave-one-out.
        seed: of a random split.
        repeats: of a user-item pair that stands several times keep the "first" or the "last", or raise an "error".
        rating_threshold, k_core: filters, see :func:`mmrec_teach.data.readers.events.filtered`.
        cold_users: "drop" from valid and test the rows of users without training interactions, or "error".

    Returns:
        The data set. Histories become interactions whose timestamps are positions (``time_is_order``): a user's training
        interactions are the items before the validation item. A feature row of zeros counts as a missing modality.

    Raises:
        DataError: something is wrong with a file.
        OptionError: an option makes no sense.
    """
    name = name or (_name_of(interactions) if interactions else _only_name(folder))
    files = {s: folder / f"{name}.{s}.inter" for s in SPLITS}
    if any(p.exists() for p in files.values()):
        tables = {s: _typed(p) for s, p in files.items()}
    else:
        tables = {"all": _typed(folder / f"{name}.inter")}
    for table in tables.values():
        table.require("user_id", "item_id")
    lists = {s: "item_id_list" in t.columns for s, t in tables.items()}
    if len(set(lists.values())) > 1:
        raise DataError(
            "some files have histories and others do not",
            where=str(folder),
            found=", ".join(f"{s}: {'yes' if has else 'no'}" for s, has in lists.items()),
            expected="item_id_list:token_seq in all of them or in none",
        )
    sequential = all(lists.values())
    names_of_items = _index_file(folder / f"{name}.item2index")
    names_of_users = _index_file(folder / f"{name}.user2index")
    resolve = _Resolver(names_of_items, folder / f"{name}.item2index")
    events = _from_histories(tables, resolve) if sequential else _from_rows(tables, resolve)
    events.users = _Resolver(names_of_users, folder / f"{name}.user2index", "user").all(events.users, tables)
    events = filtered(events, f"{folder / name}.inter", rating_threshold=rating_threshold, repeats=repeats, k_core=k_core)

    texts = _texts(folder / f"{name}.text")
    if names_of_items is not None:
        item_ids = names_of_items
        if texts is not None and (unknown := set(texts) - set(item_ids)):
            raise DataError(
                "an item that is not in .item2index",
                where=f"{folder / name}.text",
                found=short(min(unknown)),
                expected="items listed there",
            )
    else:
        item_ids = in_order(np.concatenate([events.items, np.array(list(texts or {}), dtype=object)]))
    user_ids = (
        in_order(events.users)
        if names_of_users is None
        else names_of_users[indices(names_of_users, pd.unique(events.users)) >= 0]
    )
    features, missing = _features(folder, name, item_ids, names_of_items is not None)
    if split is None and "all" in tables:
        split = "leave-one-out" if sequential else "random"
    train, valid, test = split_events(events, user_ids, item_ids, split=split, seed=seed, cold_users=cold_users)
    return Dataset(
        name=name,
        user_ids=user_ids,
        item_ids=item_ids,
        train=train,
        valid=valid,
        test=test,
        features=features,
        missing=missing,
        items=_item_table(folder / f"{name}.item", item_ids, texts),
        time_is_order=sequential,
        source=f"atomic files {name} in {folder.name}, " + "; ".join(events.notes) + ".",
    )


# -- files ------------------------------------------------------------------------------------------------------------
def _name_of(path: Path) -> str:
    stem = path.name.removesuffix(".inter")
    return stem.rsplit(".", 1)[0] if stem.rsplit(".", 1)[-1] in SPLITS and "." in stem else stem


def _only_name(folder: Path) -> str:
    names = sorted({_name_of(p) for p in folder.glob("*.inter")})
    if len(names) != 1:
        raise DataError(
            "exactly one data set is needed",
            where=str(folder),
            found=f"{len(names)} in the .inter files: {', '.join(names[:4])}",
            expected="one",
            fix=f'Say which, for example name="{names[0]}"' if names else "",
        )
    return names[0]


def _typed(path: Path) -> Table:
    """Read a file with typed column names and return it with the plain names."""
    table = read_delimited(path, "\t", quoted=False)
    names = []
    for column in table.columns:
        name, _, kind = column.partition(":")
        if kind not in TYPES:
            raise DataError(
                "a column without a known type",
                where=f"{path} line 1",
                found=short(column),
                expected="NAME:TYPE, where TYPE is " + ", ".join(TYPES),
            )
        if name in names:
            raise DataError("a column name stands twice", where=f"{path} line 1", found=short(name), expected="distinct names")
        names.append(name)
    return Table(path, table.data.rename_columns(names), table.locate)


def _index_file(path: Path) -> np.ndarray | None:
    """Return the names in index order, or None if there is no such file."""
    if not path.exists():
        return None
    table = read_delimited(path, "\t", quoted=False, header=["name", "index"])
    names, index = table.ids("name"), table.integers("index", what="an index")
    n = len(names)
    outside = np.flatnonzero((index < 0) | (index >= n))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            "the indices are not 0, 1, 2, … each once",
            where=table.where(row),
            found=int(index[row]),
            expected=f"0 to {n - 1} for {n} rows",
        )
    for values, what in ((index, "the indices are not 0, 1, 2, … each once"), (names, "a name stands twice")):
        again = np.flatnonzero(pd.Series(values).duplicated())
        if len(again):
            row = int(again[0])
            raise DataError(what, where=table.where(row), found=f"{values[row]} a second time", expected="each once")
    result = np.empty(n, dtype=object)
    result[index] = names
    return result


class _Resolver:
    """Turns the tokens of .inter files into ids: indices into a .item2index (the convention), or the ids themselves."""

    def __init__(self, names: np.ndarray | None, path: Path, kind: str = "item"):
        self.names, self.path, self.kind = names, path, kind
        # a name that looks like an index is read as an index: that is the convention of these files
        self.known = None if names is None else {n: n for n in names} | {str(i): n for i, n in enumerate(names)}

    def one(self, token: str, table: Table, row: int) -> str:
        """Return the id behind ``token``, or raise a DataError that names its line."""
        if token and self.known is None:
            return token
        if not token or token not in self.known:
            expected = (
                "an id" if self.known is None else f"an index from 0 to {len(self.names) - 1}, or a name in {self.path.name}"
            )
            raise DataError(f"unknown {self.kind}", where=table.where(row), found=short(token), expected=expected)
        return self.known[token]

    def all(self, tokens: np.ndarray, tables: dict[str, Table]) -> np.ndarray:
        """Return the ids behind ``tokens``; an unknown one is looked up in ``tables`` for its line."""
        if self.known is None:
            return tokens
        distinct = pd.unique(tokens)
        unknown = [t for t in distinct if t not in self.known]
        if unknown:
            for table in tables.values():
                rows = np.flatnonzero(table.strings(f"{self.kind}_id") == unknown[0])
                if len(rows):
                    self.one(unknown[0], table, int(rows[0]))
        return np.array([self.known[t] for t in tokens], dtype=object)


def _from_rows(tables: dict[str, Table], resolve: _Resolver) -> Events:
    """Return the events of files whose rows are single interactions."""
    users = [t.ids("user_id") for t in tables.values()]
    items = [resolve.all(t.ids("item_id"), {s: t}) for s, t in tables.items()]
    columns = {}
    for column, get in (("timestamp", Table.times), ("rating", Table.numbers)):
        have = [column in t.columns for t in tables.values()]
        columns[column] = np.concatenate([get(t, column) for t in tables.values()]) if all(have) else None
    parts = None
    if "all" not in tables:
        parts = np.repeat(np.arange(3, dtype=np.int8), [len(u) for u in users])
    return Events(np.concatenate(users), np.concatenate(items), columns["timestamp"], columns["rating"], parts)


def _from_histories(tables: dict[str, Table], resolve: _Resolver) -> Events:
    """Return the events told by histories: one sequence per user, timestamps are positions in it."""
    rows: dict[str, dict[str, list[tuple[list[str], str, int]]]] = {}
    for split, table in tables.items():
        columns = zip(table.ids("user_id"), table.strings("item_id_list"), table.strings("item_id"))
        for row, (user, history, target) in enumerate(columns):
            past = [resolve.one(token, table, row) for token in history.split()]
            entry = rows.setdefault(user, {}).setdefault(split, [])
            if split in ("valid", "test") and entry:
                raise DataError(
                    f"a user has two {split} rows", where=table.where(row), found=f"user {short(user)}", expected="one"
                )
            entry.append((past, resolve.one(target, table, row), row))
    users, items, times, parts = [], [], [], []
    for user, by_split in rows.items():
        windows = [([*past, target], row) for past, target, row in by_split.get("train", by_split.get("all", []))]
        history = next(
            (by_split[s][0][0] for s in ("valid", "test") if s in by_split),
            max((w for w, _ in windows), key=len, default=[]),
        )
        history = _with_older(history, windows, tables.get("train", tables.get("all")))
        sequence = [(item, 0) for item in history]
        sequence += [(by_split[s][0][1], k) for k, s in ((1, "valid"), (2, "test")) if s in by_split]
        users += [user] * len(sequence)
        items += [item for item, _ in sequence]
        parts += [part for _, part in sequence]
        times += range(len(sequence))
    return Events(
        np.array(users, dtype=object),
        np.array(items, dtype=object),
        np.array(times, dtype=np.int64),
        None,
        None if "all" in tables else np.array(parts, dtype=np.int8),
    )


def _with_older(history: list[str], windows: list[tuple[list[str], int]], table: Table | None) -> list[str]:
    """Return ``history`` with the older items put before it that only training rows of cut histories still hold."""
    known = set(history)
    if all(known.issuperset(window) for window, _ in windows):
        return history
    history = list(history)
    before = {tuple(window[1:]): window[0] for window, _ in windows}
    lengths = sorted({len(window) - 1 for window, _ in windows}, reverse=True)
    for _ in range(len(windows)):
        step = next(
            (before[tuple(history[:n])] for n in lengths if n and n <= len(history) and tuple(history[:n]) in before), None
        )
        if step is None:
            break
        history.insert(0, step)
    known = set(history)
    for window, row in windows:
        if not known.issuperset(window):
            item = next(i for i in window if i not in known)
            raise DataError(
                "a training row does not belong to the user's history",
                where=table.where(row),
                found=f"item {short(item)}",
                expected="items that come before the user's validation item",
            )
    return history


def _texts(path: Path) -> dict[str, str] | None:
    """Return item id -> text, or None if there is no .text file."""
    if not path.exists():
        return None
    table = _typed(path)
    table.require("item_id", "text")
    ids = table.ids("item_id")
    again = np.flatnonzero(pd.Series(ids).duplicated())
    if len(again):
        raise DataError(
            "an item stands twice", where=table.where(int(again[0])), found=short(ids[again[0]]), expected="one row per item"
        )
    return dict(zip(ids, (t.strip() for t in table.strings("text"))))


def _features(
    folder: Path, name: str, item_ids: np.ndarray, ordered: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    features, missing = {}, {}
    for suffix, modality in FEATURES.items():
        path = folder / f"{name}.{suffix}"
        if not path.exists():
            continue
        if not ordered and not np.array_equal(item_ids, np.arange(len(item_ids)).astype(str)):
            raise DataError(
                "which item a feature row belongs to is unknown",
                where=str(path),
                found=f"no {name}.item2index, and item ids that are not 0, 1, 2, …",
                expected=f"a {name}.item2index",
            )
        features[modality] = read_raw_float32(path, len(item_ids))
        missing[modality] = ~features[modality].any(axis=1)
    return features, missing


def _item_table(path: Path, item_ids: np.ndarray, texts: dict[str, str] | None) -> pd.DataFrame:
    """Return one row per item: its id, the columns of RecBole's .item file, and its text as ``caption``."""
    table = pd.DataFrame({"item_id": item_ids})
    if path.exists():
        source = _typed(path)
        source.require("item_id")
        data = pd.DataFrame({c: source.strings(c) for c in source.columns})
        rows = indices(item_ids, data["item_id"].drop_duplicates().to_numpy())
        data = data.drop_duplicates("item_id").reset_index(drop=True)
        for column in data.columns.drop("item_id"):
            table[column] = np.where(rows >= 0, data[column].to_numpy()[rows], "")
        for column in ("movie_title", "name"):
            if "title" not in table and column in table:
                table["title"] = table[column]
        for column in ("category", "categories", "class", "genre", "genres"):
            if column in table:
                table["category"] = first_category(table[column].to_numpy(), column)
                break
    if texts is not None:
        table["caption"] = [texts.get(i, "") for i in item_ids]
    return table
