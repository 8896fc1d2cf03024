"""Raw data, as people have it: a table of interactions, a table of items, a folder of pictures.

    ml-100k/
        ratings.csv         userID,itemID,rating,timestamp      .csv, .tsv, .jsonl or .parquet
        items.jsonl         {"itemID": 1, "title": …, "genres": …, "plot": …, "poster": "posters/1.jpg"}
        posters/1.jpg       named in the item table, or by the item's id in a folder "pictures", "images" or "posters"

What the columns mean is guessed from their names (:data:`mmrec_teach.data.readers.items.GUESSES`) or told by ``columns``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mmrec_teach.data.dataset import Dataset
from mmrec_teach.data.kept import kept
from mmrec_teach.data.readers.events import Events, filtered, in_order, indices, split_events
from mmrec_teach.data.readers.images import SUFFIXES, read_pictures
from mmrec_teach.data.readers.items import first_category, require_roles, roles
from mmrec_teach.data.readers.safety import (
    Table,
    checked_file,
    inside,
    listing,
    read_delimited,
    read_jsonl,
    read_parquet,
    short,
)
from mmrec_teach.errors import DataError, OptionError

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
PICTURE_FOLDERS = ("pictures", "images", "posters")
NEURAL = "sentence-transformers:"


def read(
    folder: Path,
    *,
    name: str | None = None,
    interactions: str | Path | None = None,
    items: str | Path | None = None,
    pictures: str | None = None,
    columns: Mapping[str, str] | None = None,
    rating_threshold: float | None = None,
    k_core: int | Sequence[int] | None = None,
    repeats: str = "first",
    split: str | None = None,
    seed: int = 0,
    picture_size: int | tuple[int, int] | None = None,
    encoder: str | None = "default",
    image_encoder: str | None = "default",
    feature_dim: int = 64,
) -> Dataset:
    """Open raw tables and pictures.

    Args:
        folder: where the files lie.
        name: name of the data set (default: the folder's).
        interactions: file of the interactions (default: the one table with a user and an item column).
        items: file of the items (default: the one table with an item and no user column; there may be none).
        pictures: folder of the pictures (default: what the item table's picture column says, else "pictures", "images"
            or "posters"), relative to ``folder``.
        columns: role -> column name, for roles user, item, rating, timestamp, title, category, text, picture.
        rating_threshold, k_core, repeats: filters, see :func:`mmrec_teach.data.readers.events.filtered`. Without
            ``k_core`` every item of the item table stays in the catalogue, taken or not.
        split, seed: see :mod:`mmrec_teach.data.splits`; by default "random" per user.
        picture_size: see :func:`mmrec_teach.data.readers.images.read_pictures`.
        encoder: how texts become features: "default" (TF-IDF and SVD), "sentence-transformers:MODEL" (needs the
            ``encoders`` extra), or None for no text features.
        image_encoder: likewise for pictures: "default" (hand-made descriptors and PCA), "sentence-transformers:MODEL"
            with a CLIP model, or None.
        feature_dim: dimension of the default features.

    Returns:
        The data set. ``items`` has the item table's columns, and ``title``, ``category`` (the first one listed) and
        ``caption`` (the text, or the title where there is none). Text features are made from title and text.

    Raises:
        DataError: something is wrong with a file.
        OptionError: an option makes no sense.
    """
    if not isinstance(feature_dim, int) or not 1 <= feature_dim <= 4096:
        raise OptionError(
            "not a dimension", where="feature_dim", found=repr(feature_dim), expected="a whole number from 1 to 4096"
        )
    path, item_path = _find(folder, interactions, items, columns)
    table = read_table(path)
    role = roles(table.columns, columns)
    source = read_table(item_path) if item_path else None
    _check_told(columns, [*table.columns, *(source.columns if source is not None else ())])
    require_roles(role, ("user", "item"), str(path), table.columns)
    times = table.times(role["timestamp"]) if "timestamp" in role else None
    ratings = table.numbers(role["rating"]) if "rating" in role else None
    events = Events(table.ids(role["user"]), table.ids(role["item"]), times, ratings)
    events = filtered(events, str(path), rating_threshold=rating_threshold, repeats=repeats, k_core=k_core)

    catalogue = _catalogue(source, columns) if source is not None else None
    listed = catalogue["item_id"].to_numpy() if catalogue is not None else np.array([], dtype=object)
    taken = in_order(events.items)
    unlisted = taken[indices(taken, listed) < 0]
    if item_path and len(unlisted):
        if len(unlisted) == len(taken):
            raise DataError(
                "the item table does not know a single item of the interactions",
                where=str(item_path),
                found=f"items such as {short(listed[0])}",
                expected=f"items such as {short(taken[0])}",
                fix='Say which column holds the id: columns={"item": NAME}',
            )
        events.notes.append(f"{len(unlisted):,} items are not in {item_path.name}")
    stays = listed if k_core is None else listed[indices(listed, taken) >= 0]
    item_ids = np.concatenate([stays, unlisted])
    user_ids = in_order(events.users)
    item_table = pd.DataFrame({"item_id": item_ids})
    if catalogue is not None:
        item_table = item_table.merge(catalogue, on="item_id", how="left").fillna("")
    train, valid, test = split_events(events, user_ids, item_ids, split=split or "random", seed=seed)

    features, missing = {}, {}
    images = None
    files = _picture_files(folder, pictures, item_table, item_path)
    if files is not None:
        images, absent, _ = read_pictures(files, picture_size)
        lost = sum(f is not None and not f.exists() for f in files)
        if lost:
            events.notes.append(f"{lost:,} of the pictures named do not exist")
        if image_encoder is not None:
            features["image"], missing["image"] = encode_pictures(images, absent, image_encoder, feature_dim), absent
    texts = _texts(item_table)
    if texts is not None and encoder is not None:
        empty = np.array([not t for t in texts])
        if not empty.all():
            try:
                features["text"], missing["text"] = encode_texts(texts, empty, encoder, feature_dim), empty
            except DataError as error:  # such as titles that share no word: no reason to keep the rest from opening
                events.notes.append(f"no text features: {error.what}")
    item_table = item_table.drop(columns=[c for c in ("_picture", "_text") if c in item_table])
    return Dataset(
        name=name or folder.resolve().name,
        user_ids=user_ids,
        item_ids=item_ids,
        train=train,
        valid=valid,
        test=test,
        features=features,
        missing=missing,
        items=item_table,
        images=images,
        source=f"raw tables of {folder.resolve().name} ({path.name}), " + "; ".join(events.notes) + ".",
    )


# -- tables -----------------------------------------------------------------------------------------------------------
def read_table(path: Path) -> Table:
    """Read a .csv, .tsv, .jsonl or .parquet file.

    Raises:
        DataError: another suffix, or see the readers in :mod:`mmrec_teach.data.readers.safety`.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return read_jsonl(path)
    if suffix == ".parquet":
        return read_parquet(path)
    if suffix in (".csv", ".tsv"):
        return read_delimited(path, _separator(path, _first_line(path)), quoted=True)
    raise DataError("not a table", where=str(path), found=f"suffix {path.suffix!r}", expected=", ".join(TABLES))


def _peek(path: Path) -> list[str]:
    """Return the column names of a table without reading it; errors come as DataErrors."""
    checked_file(path, 2**62, kind="table")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            return pq.read_schema(path).names
        except (pa.ArrowException, OSError) as error:
            raise DataError("not a Parquet file", where=str(path), found=short(str(error).splitlines()[0], 120)) from None
    text = _first_line(path)
    if suffix == ".jsonl":
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        return list(record) if isinstance(record, dict) else read_jsonl(path).columns  # the full reader says what is wrong
    return [h.strip().strip('"') for h in text.split(_separator(path, text))]


def _first_line(path: Path) -> str:
    """Return the first line that is not blank."""
    checked_file(path, 2**62, kind="table")
    with path.open("rb") as file:
        line = b""
        while not line.strip():
            line = file.readline(2**20)
            if not line:
                raise DataError("the file is empty", where=str(path), found="blank lines only", expected="a header and rows")
    return line.decode("utf-8-sig", errors="replace").strip("\r\n")


def _separator(path: Path, header: str) -> str:
    """Return what parts the columns: a tab in .tsv; in .csv a comma, or what spreadsheets write where the comma is decimal."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _find(
    folder: Path, interactions: str | Path | None, items: str | Path | None, columns: Mapping[str, str] | None
) -> tuple[Path, Path | None]:
    """Return the files of interactions and of items (or None)."""
    told = [folder / p if p is not None else None for p in (interactions, items)]
    for path in told:
        if path is not None:
            checked_file(path, 2**62, kind="table")
            if path.suffix.lower() not in TABLES:
                raise DataError("not a table", where=str(path), found=f"suffix {path.suffix!r}", expected=", ".join(TABLES))
    with_users, without_users, seen = [], [], []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in TABLES and p.is_file()):
        if all(told):
            break
        names = _peek(path)
        role = roles(names, columns)
        seen.append(f"{path.name} ({', '.join(names)[:60]})")
        if "item" in role:
            (with_users if "user" in role else without_users).append(path)
    if told[0] is None:
        if not with_users:
            raise DataError(
                "no table has a user and an item column",
                where=str(folder),
                found="; ".join(seen)[:200] or "no table",
                expected="a first line that names the columns, such as userID,itemID",
                fix=f"If it does, say which they are: {_told('user')} and {_told('item')}",
            )
        if len(with_users) > 1:
            raise DataError(
                "several tables could hold the interactions",
                where=str(folder),
                found=", ".join(p.name for p in with_users),
                expected="one",
                fix=f'Say which: interactions="{with_users[0].name}"',
            )
        told[0] = with_users[0]
    if told[1] is None:
        without_users = [p for p in without_users if p != told[0]]
        if len(without_users) > 1:
            raise DataError(
                "several tables could hold the items",
                where=str(folder),
                found=", ".join(p.name for p in without_users),
                expected="at most one",
                fix=f'Say which: items="{without_users[0].name}"',
            )
        told[1] = without_users[0] if without_users else None
    return told[0], told[1]


def _told(role: str) -> str:
    return f'columns={{"{role}": NAME}} (--column {role}=NAME)'


def _check_told(columns: Mapping[str, str] | None, have: Sequence[str]) -> None:
    """Raise a DataError if ``columns`` names a column that neither table has."""
    for role, column in (columns or {}).items():
        if column not in have:
            raise DataError(
                f"column {column} is missing",
                where=f"columns[{role!r}]",
                found="columns " + listing(have, 150),
                expected="one of these",
            )


def _catalogue(table: Table, columns: Mapping[str, str] | None) -> pd.DataFrame:
    """Return the item table: item_id, title/category/caption where known, every source column, and _text and _picture."""
    role = roles(table.columns, columns)
    require_roles(role, ("item",), str(table.path), table.columns)
    ids = table.ids(role["item"])
    again = np.flatnonzero(pd.Series(ids).duplicated())
    if len(again):
        row = int(again[0])
        raise DataError("an item stands twice", where=table.where(row), found=short(ids[row]), expected="one row per item")
    content = {c: table.strings(c) for c in table.columns if c != role["item"]}
    result = {"item_id": ids}
    if "title" in role:
        result["title"] = content[role["title"]]
    if "category" in role:
        result["category"] = first_category(content[role["category"]], role["category"])
    text = content[role["text"]] if "text" in role else np.full(len(ids), "", dtype=object)
    if "text" in role or "title" in role:
        title = result.get("title", np.full(len(ids), "", dtype=object))
        result["caption"] = np.where(text == "", title, text)
        result["_text"] = np.array(
            [". ".join(p for p in (a.strip(), b.strip()) if p) for a, b in zip(title, text)], dtype=object
        )
    if "picture" in role:
        result["_picture"] = content[role["picture"]]
    for column, values in content.items():
        result.setdefault(column, values)
    return pd.DataFrame(result)


def _texts(item_table: pd.DataFrame) -> list[str] | None:
    return list(item_table["_text"]) if "_text" in item_table else None


def _picture_files(
    folder: Path, pictures: str | None, item_table: pd.DataFrame, item_path: Path | None
) -> list[Path | None] | None:
    """Return the picture file of each item (None where it has none), or None if the source has no pictures."""
    base = folder
    if pictures is not None:
        base = inside(folder, str(pictures), "pictures")
        if not base.is_dir():
            raise DataError("the folder of pictures is missing", where=str(base), expected="a folder of picture files")
    if "_picture" in item_table:
        where = f"{item_path}, picture of item"
        named = [v.strip() for v in item_table["_picture"]]
        there = [inside(base, v, f"{where} {i}") if v else None for i, v in zip(item_table["item_id"], named)]
        if pictures is not None or any(f is not None and f.exists() for f in there):
            return there
        base = _picture_folder(folder)  # the column may hold bare file names
        return there if base is None else [inside(base, v, where) if v else None for v in named]
    if pictures is None and (base := _picture_folder(folder)) is None:
        return None
    found = [p for p in sorted(base.iterdir(), reverse=True) if p.suffix.lower() in SUFFIXES]
    if not found:
        raise DataError(
            "the folder of pictures holds none",
            where=str(base),
            found="folders only" if any(p.is_dir() for p in base.iterdir()) else "other files",
            expected=", ".join(SUFFIXES),
            fix='Put the pictures straight into it, or name each one\'s path in a column "picture" of the item table',
        )
    by_name = {p.stem: p for p in found} | {p.name: p for p in found}
    files = [by_name.get(i) or by_name.get(i.rpartition("/")[2]) for i in item_table["item_id"]]
    if not any(files):
        raise DataError(
            "no picture has the name of an item",
            where=str(base),
            found=f"pictures such as {short(found[-1].name)}",
            expected=f"names such as {item_table['item_id'].iloc[0]}{found[-1].suffix}",
            fix="Name them by the items' ids, or add a table of items with the columns item and picture",
        )
    for file in files:
        if file is not None:
            inside(base, file.name, str(base))
    return files


def _picture_folder(folder: Path) -> Path | None:
    """Return the folder of pictures: one of the usual names, else the only one that holds pictures, ``folder`` itself included.

    Raises:
        DataError: several hold pictures and none has a usual name.
    """
    if usual := next((folder / n for n in PICTURE_FOLDERS if (folder / n).is_dir()), None):
        return usual
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))]
    places = [p for p in places if any(f.suffix.lower() in SUFFIXES for f in p.iterdir())]
    if len(places) > 1:
        raise DataError(
            "several folders could hold the pictures",
            where=str(folder),
            found=", ".join(p.name for p in places),
            expected="one",
            fix=f'Say which: pictures="{places[-1].name}" (--pictures {places[-1].name})',
        )
    return places[0] if places else None


# -- features ---------------------------------------------------------------------------------------------------------
def encode_texts(texts: Sequence[str], missing: np.ndarray, encoder: str, dim: int) -> np.ndarray:
    """Return (I, d) float32 features of ``texts``; the rows of missing ones are zero.

    Raises:
        OptionError: the encoder is unknown, or its package is not installed.
    """
    if encoder == "default":
        from mmrec_teach.data.encode import text_features

        return kept(lambda: text_features(list(texts), missing, dim), f"text default {dim}", [*texts, missing])
    there = [t for t, gone in zip(texts, missing) if not gone]
    return kept(lambda: _neural(there, missing, encoder, "encoder"), f"text {encoder}", [*texts, missing])


def encode_pictures(images: np.ndarray, missing: np.ndarray, encoder: str, dim: int) -> np.ndarray:
    """Return (I, d) float32 features of ``images`` (I, H, W, 3); the rows of missing ones are zero.

    Raises:
        OptionError: the encoder is unknown, or its package is not installed.
    """
    if encoder == "default":
        from mmrec_teach.data.encode import picture_features

        return kept(lambda: picture_features(_reduced(images), missing, dim), f"image default {dim}", [images, missing])

    def neural() -> np.ndarray:
        return _neural([Image.fromarray(images[row]) for row in np.flatnonzero(~missing)], missing, encoder, "image_encoder")

    return kept(neural, f"image {encoder}", [images, missing])


def _reduced(images: np.ndarray) -> np.ndarray:
    """Return pictures averaged over k x k blocks to about 48 x 48 pixels, the size the descriptors are made for.

    On film posters of 96 x 64 pixels the neighbours agree on genres as well as before, in a sixth of the time.
    """
    height, width = images.shape[1:3]
    k = min(math.ceil(math.sqrt(height * width) / 48), min(height, width) // 16)
    if k <= 1:
        return images
    height, width = height // k, width // k
    result = np.empty((len(images), height, width, 3), dtype=np.uint8)
    for start in range(0, len(images), 256):  # in pieces, to keep the memory flat
        part = images[start : start + 256, : height * k, : width * k]
        result[start : start + 256] = part.reshape(-1, height, k, width, k, 3).mean(axis=(2, 4)).round()
    return result


def _neural(content: list, missing: np.ndarray, encoder: str, option: str) -> np.ndarray:
    """Encode ``content`` (what is not missing) with a sentence-transformers model."""
    if not encoder.startswith(NEURAL) or not encoder.removeprefix(NEURAL):
        raise OptionError("unknown encoder", where=option, found=repr(encoder), expected=f'"default", "{NEURAL}MODEL" or None')
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise OptionError(
            "this encoder needs a package that is not installed",
            where=option,
            found="no sentence_transformers",
            fix='Install it with: pip install "mmrec_teach[encoders]"',
        ) from None
    model = SentenceTransformer(encoder.removeprefix(NEURAL))
    vectors = np.asarray(model.encode(content, show_progress_bar=False), dtype=np.float32)
    result = np.zeros((len(missing), vectors.shape[1]), dtype=np.float32)
    result[~missing] = vectors
    return result
