"""Every way a data set can be broken that we could think of: each is refused with one clear sentence.

A case is a good data set (``mmrec``, ``histories``, ``atomic`` or ``raw``), a way to break it, and what the sentence must say:
where it is wrong, what was found, what was expected.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmrec_teach.data import readers
from mmrec_teach.data.readers import images, safety
from mmrec_teach.errors import DataError, InputError, OptionError


# -- four good data sets ------------------------------------------------------------------------------------------------
def mmrec(folder: Path) -> None:
    """Three users, four items, two modalities."""
    rows = [(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 0), (1, 2, 1), (1, 0, 2), (2, 3, 0)]
    lines = ["userID\titemID\tx_label", *("\t".join(map(str, r)) for r in rows)]
    (folder / "small.inter").write_text("\n".join(lines) + "\n")
    for name in ("image", "text"):
        np.save(folder / f"{name}_feat.npy", np.arange(1, 13, dtype=np.float32).reshape(4, 3))


def histories(folder: Path) -> None:
    """Two users with four items each, told as histories, with texts and features."""
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    (folder / "S.train.inter").write_text(header + "0\t0\t1\n1\t3\t2\n")
    (folder / "S.valid.inter").write_text(header + "0\t0 1\t2\n1\t3 2\t1\n")
    (folder / "S.test.inter").write_text(header + "0\t0 1 2\t3\n1\t3 2 1\t0\n")
    (folder / "S.item2index").write_text("A\t0\nB\t1\nC\t2\nD\t3\n")
    (folder / "S.user2index").write_text("U\t0\nV\t1\n")
    (folder / "S.text").write_text("item_id:token\ttext:token_seq\nA\ta red lamp\nB\ta blue lamp\nC\ta cup\nD\ta red cup\n")
    for suffix in ("feat1CLS", "feat3CLS"):
        np.arange(1, 9, dtype="<f4").tofile(folder / f"S.{suffix}")


def atomic(folder: Path) -> None:
    """One plain .inter with ratings and times."""
    rows = [f"u{u}\ti{i}\t{1 + (u + i) % 5}\t{100 * u + i}" for u in range(4) for i in range(5)]
    (folder / "P.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows) + "\n")


def raw(folder: Path) -> None:
    """Ratings, items and pictures of 16 x 16."""
    rows = [f"{u},{i},{1 + (u + i) % 5},{100 * u + i}" for u in range(4) for i in range(5)]
    (folder / "ratings.csv").write_text("userID,itemID,rating,timestamp\n" + "\n".join(rows) + "\n")
    words = "red lamp blue cup green"
    with (folder / "items.jsonl").open("w") as file:
        for i in range(5):
            text = " ".join(np.roll(words.split(), i)[:3])
            file.write(json.dumps({"itemID": i, "title": f"thing {i}", "plot": text, "poster": f"p/{i}.png"}) + "\n")
    (folder / "p").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "p" / f"{i}.png")


GOOD = {"mmrec": mmrec, "histories": histories, "atomic": atomic, "raw": raw}


# -- ways to break them ---------------------------------------------------------------------------------------------------
Break = Callable[[Path], Any]


def replaced(name: str, old: str, new: str) -> Break:
    """Replace the first ``old`` in a file by ``new``."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def appended(name: str, line: str) -> Break:
    return lambda folder: (folder / name).open("a").write(line + "\n")


def written(name: str, content: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content)


def removed(*names: str) -> Break:
    return lambda folder: [(folder / n).unlink() for n in names]


def saved(name: str, array: np.ndarray, **options: Any) -> Break:
    return lambda folder: np.save(folder / name, array, **options)


def cut(name: str, bytes_less: int) -> Break:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - bytes_less)


def huge_npy(shape: str) -> bytes:
    """A .npy file of a few bytes whose header claims ``shape``."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\x00" * 16


def npz_bomb() -> bytes:
    """An archive of a few kB that unpacks to 16 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x00" * 2**24)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims ``width`` x ``height``."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00" * 100)) + chunk(b"IEND", b"")


def with_nan(value: float) -> np.ndarray:
    table = np.ones((4, 3), dtype=np.float32)
    table[2, 1] = value
    return table


class Tripwire:
    """Unpickling this would write a file."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch unpickled",)


def linked_out(folder: Path) -> None:
    outside = folder.parent / "outside.png"
    Image.new("RGB", (16, 16)).save(outside)
    (folder / "p" / "1.png").unlink()
    (folder / "p" / "1.png").symlink_to(outside)


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def as_parquet(**columns: list) -> Break:
    def change(folder: Path) -> None:
        (folder / "ratings.csv").unlink()
        pq.write_table(pa.table(columns), folder / "ratings.parquet")

    return change


class Case(NamedTuple):
    good: str
    change: Break
    says: tuple[str, ...]
    options: dict[str, Any] = {}
    error: type[InputError] = DataError


CASES = {
    # the MMRec folder
    "missing column": Case(
        "mmrec", replaced("small.inter", "itemID", "item"), ("small.inter: column itemID is missing", "userID, item, x_label")
    ),
    "no x_label": Case("mmrec", replaced("small.inter", "x_label", "fold"), ("column x_label is missing", "fold")),
    "column twice": Case(
        "mmrec", replaced("small.inter", "x_label", "userID"), ("small.inter line 1: a column name stands twice", "'userID'")
    ),
    "non-numeric id": Case(
        "mmrec", replaced("small.inter", "1\t2\t1", "1\tB00\t1"), ("small.inter line 7: itemID is not a whole number", "'B00'")
    ),
    "fraction as id": Case(
        "mmrec", replaced("small.inter", "2\t3\t0", "2.5\t3\t0"), ("line 9: userID is not a whole number", "'2.5'")
    ),
    "id beyond 64 bits": Case(
        "mmrec", appended("small.inter", f"{10**30}\t1\t0"), ("line 10: userID is not a whole number", "'1000")
    ),
    "negative id": Case(
        "mmrec", replaced("small.inter", "2\t3\t0", "-2\t3\t0"), ("line 9: userID is too small", "found -2", "0 or more")
    ),
    "id out of range": Case(
        "mmrec", appended("small.inter", "2\t4\t0"), ("line 10: an item has no feature row", "itemID 4", "0 to 3", "4 rows")
    ),
    "unknown label": Case(
        "mmrec",
        replaced("small.inter", "0\t2\t1", "0\t2\t7"),
        ("line 4: unknown x_label", "found 7", "0 (train), 1 (valid) or 2 (test)"),
    ),
    "label not a number": Case(
        "mmrec", replaced("small.inter", "0\t2\t1", "0\t2\ttrain"), ("line 4: x_label is not a whole number", "'train'")
    ),
    "empty split": Case(
        "mmrec",
        written("small.inter", b"userID\titemID\tx_label\n0\t0\t0\n0\t1\t2\n"),
        ("a split is empty", "no row with x_label 1 (valid)"),
    ),
    "duplicate pair": Case(
        "mmrec",
        appended("small.inter", "0\t1\t2"),
        ("small.inter line 3 and line 10: duplicate interaction", "user 0, item 1 twice"),
    ),
    "cold test user": Case(
        "mmrec",
        appended("small.inter", "7\t1\t2"),
        ("test: a user to be judged has no training interaction", "user 3 (7)"),
        {"cold_users": "error"},
    ),
    "time not a number": Case(
        "mmrec",
        written("small.inter", b"userID\titemID\tx_label\ttimestamp\n0\t0\t0\t5\n0\t1\t1\tyesterday\n0\t2\t2\t7\n"),
        ("line 3: timestamp is not a number", "'yesterday'"),
    ),
    "time not finite": Case(
        "mmrec",
        written("small.inter", b"userID\titemID\tx_label\ttimestamp\n0\t0\t0\tnan\n0\t1\t1\t6\n0\t2\t2\t7\n"),
        ("line 2: timestamp is not a number", "'nan'"),
    ),
    "too few fields": Case(
        "mmrec",
        replaced("small.inter", "1\t1\t0", "1\t1"),
        ("small.inter line 6: a row has the wrong number of fields", "found 2", "3 (userID"),
    ),
    "too many fields": Case(
        "mmrec", replaced("small.inter", "1\t1\t0", "1\t1\t0\t9"), ("line 6: a row has the wrong number of fields", "found 4")
    ),
    "commas for tabs": Case(
        "mmrec",
        written("small.inter", b"userID,itemID,x_label\n0,0,0\n"),
        ("column userID is missing", "userID,itemID,x_label"),
    ),
    "empty file": Case("mmrec", written("small.inter", b""), ("small.inter: the file is empty", "0 bytes")),
    "blank file": Case("mmrec", written("small.inter", b"\n\n  \n"), ("small.inter: the file is empty", "blank lines only")),
    "header only": Case("mmrec", written("small.inter", b"userID\titemID\tx_label\n"), ("a header but no rows",)),
    "not UTF-8": Case(
        "mmrec",
        lambda f: (f / "small.inter").open("ab").write(b"caf\xe9\t1\t0\n"),
        ("small.inter line 10: not UTF-8", "0xe9", "iconv"),
    ),
    "NUL character": Case("mmrec", appended("small.inter", "2\x00\t1\t0"), ("line 10: a NUL character",)),
    "two .inter files": Case(
        "mmrec",
        written("other.inter", b"userID\titemID\tx_label\n0\t0\t0\n"),
        ("exactly one .inter file", "other.inter, small.inter"),
    ),
    ".inter is a folder": Case(
        "mmrec", lambda f: ((f / "small.inter").unlink(), (f / "small.inter").mkdir()), ("not a regular file", "a folder")
    ),
    ".inter is a pipe": Case(
        "mmrec", lambda f: ((f / "small.inter").unlink(), os.mkfifo(f / "small.inter")), ("not a regular file", "a pipe")
    ),
    "a link to nothing": Case(
        "mmrec",
        lambda f: ((f / "small.inter").unlink(), (f / "small.inter").symlink_to(f / "gone")),
        ("small.inter", "cannot be opened", "No such file"),
    ),
    # feature tables
    "too few feature rows": Case(
        "mmrec",
        lambda f: [np.save(f / f"{m}_feat.npy", np.ones((3, 2))) for m in ("image", "text")],
        ("an item has no feature row", "itemID 3", "3 rows"),
    ),
    "modalities of different rows": Case(
        "mmrec", saved("text_feat.npy", np.ones((5, 2))), ("feature tables differ in rows", "image_feat.npy 4, text_feat.npy 5")
    ),
    "features of one dimension": Case(
        "mmrec",
        saved("image_feat.npy", np.ones(4)),
        ("image_feat.npy: the array has the wrong shape", "shape (4,)", "(items, dimension)"),
    ),
    "features of three dimensions": Case("mmrec", saved("image_feat.npy", np.ones((4, 2, 2))), ("wrong shape", "(4, 2, 2)")),
    "no columns": Case("mmrec", saved("image_feat.npy", np.ones((4, 0))), ("wrong shape", "(4, 0)")),
    "integer features": Case(
        "mmrec",
        saved("image_feat.npy", np.ones((4, 2), dtype=np.int32)),
        ("image_feat.npy: features are not floating-point numbers", "int32"),
    ),
    "features of text": Case("mmrec", saved("image_feat.npy", np.full((4, 2), "x")), ("not floating-point numbers", "<U1")),
    "NaN": Case(
        "mmrec",
        saved("image_feat.npy", with_nan(np.nan)),
        ("image_feat.npy row 2, column 1: a number that is not finite", "found nan"),
    ),
    "infinity": Case("mmrec", saved("image_feat.npy", with_nan(-np.inf)), ("row 2, column 1", "found -inf")),
    "beyond float32": Case(
        "mmrec", saved("image_feat.npy", np.full((4, 3), 1e300)), ("row 0, column 0", "found 1e+300", "float32's range")
    ),
    "truncated .npy": Case(
        "mmrec", cut("image_feat.npy", 5), ("image_feat.npy: the array is truncated", "43 bytes", "48 bytes for shape (4, 3)")
    ),
    "bytes after the array": Case(
        "mmrec", lambda f: (f / "image_feat.npy").open("ab").write(b"more"), ("more than its header says", "52 bytes")
    ),
    "half a header": Case(
        "mmrec", lambda f: os.truncate(f / "image_feat.npy", 30), ("image_feat.npy: the .npy header cannot be read",)
    ),
    "header of nonsense": Case(
        "mmrec", lambda f: (f / "image_feat.npy").write_bytes(huge_npy("4 +")), ("the .npy header cannot be read",)
    ),
    "huge shape": Case(
        "mmrec",
        written("image_feat.npy", huge_npy("(4, 10000000000000)")),
        ("the array claims to be too large", "160,000,000,000,000 bytes"),
    ),
    "shape that overflows": Case(
        "mmrec", written("image_feat.npy", huge_npy("(4, 4611686018427387904)")), ("the array claims to be too large",)
    ),
    "negative shape": Case("mmrec", written("image_feat.npy", huge_npy("(4, -3)")), ("wrong shape", "(4, -3)")),
    "not .npy": Case("mmrec", written("image_feat.npy", b"1.0 2.0 3.0\n"), ("image_feat.npy: not a .npy file", "1.0 2.0")),
    "zip bomb": Case(
        "mmrec", written("image_feat.npy", npz_bomb()), ("image_feat.npy: a zip archive (.npz) under the name of an array",)
    ),
    "a pickle": Case(
        "mmrec", written("image_feat.npy", pickle.dumps(Tripwire())), ("image_feat.npy: a pickled object", "never opened here")
    ),
    "array of objects": Case(
        "mmrec",
        saved("image_feat.npy", np.array([[Tripwire()]] * 4, dtype=object), allow_pickle=True),
        ("image_feat.npy: an array of Python objects", "dtype object"),
    ),
    "empty .npy": Case("mmrec", written("image_feat.npy", b""), ("image_feat.npy: the file is empty",)),
    "feature file without a name": Case(
        "mmrec", saved("_feat.npy", np.ones((4, 2))), ("a feature file without a modality's name",)
    ),
    # the atomic form
    "untyped header": Case(
        "histories",
        replaced("S.valid.inter", "item_id:token\n", "item_id\n"),
        ("S.valid.inter line 1: a column without a known type", "'item_id'", "token_seq"),
    ),
    "unknown type": Case(
        "histories",
        replaced("S.valid.inter", "item_id:token\n", "item_id:int\n"),
        ("a column without a known type", "'item_id:int'"),
    ),
    "typed column twice": Case(
        "atomic",
        replaced("P.inter", "rating:float", "item_id:float"),
        ("P.inter line 1: a column name stands twice", "'item_id'"),
    ),
    "no item_id": Case(
        "atomic", replaced("P.inter", "item_id:token", "thing:token"), ("P.inter: column item_id is missing", "thing")
    ),
    "a split file missing": Case("histories", removed("S.valid.inter"), ("S.valid.inter", "cannot be opened", "No such file")),
    "histories in one file only": Case(
        "histories", written("S.test.inter", b"user_id:token\titem_id:token\n0\t3\n"), ("some files have histories", "test: no")
    ),
    "two data sets": Case(
        "histories", written("T.inter", b"user_id:token\titem_id:token\n0\t3\n"), ("exactly one data set", "S, T", 'name="S"')
    ),
    "unknown item in a list": Case(
        "histories",
        replaced("S.valid.inter", "3 2\t1", "3 9\t1"),
        ("S.valid.inter line 3: unknown item", "'9'", "0 to 3", "S.item2index"),
    ),
    "unknown target": Case(
        "histories", replaced("S.test.inter", "0 1 2\t3", "0 1 2\tZ"), ("S.test.inter line 2: unknown item", "'Z'")
    ),
    "unknown user": Case(
        "histories",
        replaced("S.test.inter", "1\t3 2 1", "5\t3 2 1"),
        ("S.test.inter line 3: unknown user", "'5'", "S.user2index"),
    ),
    "empty target": Case(
        "histories", replaced("S.test.inter", "0 1 2\t3", "0 1 2\t"), ("S.test.inter line 2: unknown item", "found ''")
    ),
    "two test rows of a user": Case(
        "histories", appended("S.test.inter", "0\t0 1\t2"), ("S.test.inter line 4: a user has two test rows", "'0'")
    ),
    "training row from elsewhere": Case(
        "histories", appended("S.train.inter", "0\t0 1\t3"), ("S.train.inter line 4: a training row does not belong", "'D'")
    ),
    "index twice": Case(
        "histories",
        replaced("S.item2index", "C\t2", "C\t1"),
        ("S.item2index line 3: the indices are not 0, 1, 2", "1 a second time"),
    ),
    "index left out": Case("histories", replaced("S.item2index", "C\t2", "C\t4"), ("S.item2index line 3", "found 4", "0 to 3")),
    "item name twice": Case(
        "histories", replaced("S.item2index", "C\t2", "A\t2"), ("S.item2index line 3: a name stands twice", "A a second time")
    ),
    "text of an unknown item": Case(
        "histories", appended("S.text", "Z\ta thing"), ("S.text: an item that is not in .item2index", "'Z'")
    ),
    "two texts of an item": Case("histories", appended("S.text", "A\ta thing"), ("S.text line 6: an item stands twice", "'A'")),
    "raw features of odd size": Case(
        "histories", cut("S.feat1CLS", 4), ("S.feat1CLS: the size does not divide", "28 bytes", "multiple of 16", "4 items")
    ),
    "raw features with NaN": Case(
        "histories",
        written("S.feat3CLS", np.array([1, 2, 3, np.nan], dtype="<f4").tobytes()),
        ("S.feat3CLS row 3, column 0", "nan"),
    ),
    "features of nameless order": Case(
        "atomic",
        written("P.feat1CLS", b"\x00" * 80),
        ("P.feat1CLS: which item a feature row belongs to is unknown", "P.item2index"),
    ),
    "rating not a number": Case(
        "atomic", replaced("P.inter", "u0\ti1\t2", "u0\ti1\tgood"), ("P.inter line 3: rating is not a number", "'good'")
    ),
    "empty id": Case("atomic", replaced("P.inter", "u0\ti1", "u0\t"), ("P.inter line 3: item_id is empty",)),
    "time beyond all bounds": Case(
        "atomic", replaced("P.inter", "u0\ti0\t1\t0", "u0\ti0\t1\t1e30"), ("P.inter line 2: timestamp is no moment", "1e+30")
    ),
    "repeats under error": Case(
        "atomic",
        appended("P.inter", "u0\ti1\t2\t5"),
        ("P.inter: duplicate interaction", "user u0, item i1", 'repeats="first"'),
        {"repeats": "error"},
    ),
    "nothing left after k-core": Case(
        "atomic", lambda f: None, ("P.inter: no interactions are left", "9 and 9", "Loosen the filter"), {"k_core": 9}
    ),
    # raw tables
    "no user column": Case(
        "raw",
        replaced("ratings.csv", "userID", "who"),
        ("no table has a user and an item column", "ratings.csv (who, itemID", "columns={"),
    ),
    "two tables of interactions": Case(
        "raw",
        written("views.csv", b"userID,itemID\n1,1\n"),
        ("several tables could hold the interactions", "ratings.csv, views.csv", 'interactions="'),
    ),
    "two tables of items": Case(
        "raw",
        written("more.csv", b"itemID,title\n1,a\n"),
        ("several tables could hold the items", "items.jsonl, more.csv", 'items="'),
    ),
    "ragged CSV": Case(
        "raw",
        replaced("ratings.csv", "0,3,4,3", "0,3,4"),
        ("ratings.csv line 5: a row has the wrong number of fields", "found 3", "4 (userID"),
    ),
    "broken JSON line": Case(
        "raw", replaced("items.jsonl", '{"itemID": 2, ', '{"itemID": 2 '), ("items.jsonl line 3: not valid JSON", "delimiter")
    ),
    "JSON but no object": Case("raw", appended("items.jsonl", "[1, 2]"), ("items.jsonl line 6: not a JSON object", "[1, 2]")),
    "JSON too deep": Case("raw", appended("items.jsonl", "[" * 100_000), ("items.jsonl line 6: not valid JSON",)),
    "item without an id": Case(
        "raw", appended("items.jsonl", '{"title": "nameless"}'), ("items.jsonl line 6: itemID is empty",)
    ),
    "item twice": Case("raw", appended("items.jsonl", '{"itemID": 2}'), ("items.jsonl line 6: an item stands twice", "'2'")),
    "items of another world": Case(
        "raw", written("items.jsonl", b'{"itemID": "x1"}\n{"itemID": "x2"}\n'), ("does not know a single item", "'x1'", "'0'")
    ),
    "raw rating not a number": Case(
        "raw", replaced("ratings.csv", "0,3,4,3", "0,3,*4*,3"), ("ratings.csv line 5: rating is not a number", "'*4*'")
    ),
    "raw time not a number": Case(
        "raw", replaced("ratings.csv", "0,3,4,3", "0,3,4,May"), ("ratings.csv line 5: timestamp is not a number", "'May'")
    ),
    "no rating reaches the threshold": Case(
        "raw", lambda f: None, ("no interactions are left", "no rating reaches 6"), {"rating_threshold": 6}
    ),
    "threshold without ratings": Case(
        "raw", replaced("ratings.csv", "rating", "r"), ("no ratings to compare",), {"rating_threshold": 3}
    ),
    "column that is not there": Case(
        "raw",
        lambda f: None,
        ("column reader is missing", "columns['user']"),
        {"columns": {"user": "reader"}, "interactions": "ratings.csv"},
    ),
    "named file missing": Case("raw", lambda f: None, ("buys.csv: the table cannot be opened",), {"interactions": "buys.csv"}),
    "not Parquet": Case(
        "raw", lambda f: (f / "ratings.csv").rename(f / "ratings.parquet"), ("ratings.parquet: not a Parquet file",)
    ),
    "truncated Parquet": Case(
        "raw",
        lambda f: (as_parquet(userID=[1, 2], itemID=[1, 2])(f), os.truncate(f / "ratings.parquet", 100)),
        ("ratings.parquet: not a Parquet file", "found "),
    ),
    "damaged Parquet": Case(
        "raw",
        lambda f: (as_parquet(userID=[1, 2], itemID=[1, 2])(f), overwrite(f / "ratings.parquet", 4, b"\xff" * 40)),
        ("ratings.parquet: the Parquet file is damaged",),
    ),
    "null in Parquet": Case(
        "raw",
        as_parquet(userID=[1, 2], itemID=[1, 2], rating=[3.0, None]),
        ("ratings.parquet row 1: rating is not a number", "None"),
    ),
    "time order without times": Case(
        "raw", replaced("ratings.csv", "timestamp", "shelf"), ("needs timestamps", 'split="random"'), {"split": "user-time"}
    ),
    # pictures
    "corrupt picture": Case("raw", cut("p/2.png", 300), ("p/2.png: the picture is damaged",)),
    "text for a picture": Case("raw", written("p/2.png", b"hello"), ("p/2.png: not a picture", "JPEG")),
    "empty picture": Case("raw", written("p/2.png", b""), ("p/2.png: the file is empty",)),
    "picture of huge size": Case(
        "raw", written("p/2.png", huge_png(30_000, 30_000)), ("p/2.png: the picture claims to be too large",)
    ),
    "picture of too large a size": Case(
        "raw", written("p/2.png", huge_png(9_000, 9_000)), ("p/2.png: the picture claims to be too large", "9000 x 9000")
    ),
    "no picture at all": Case("raw", lambda f: (f / "p").rename(f / "q"), ("none of the pictures exists",)),
    "picture outside": Case(
        "raw",
        replaced("items.jsonl", "p/1.png", "../outside.png"),
        ("items.jsonl, picture of item 1", "outside the data folder", "'../outside.png'"),
    ),
    "picture at an absolute path": Case(
        "raw", replaced("items.jsonl", "p/1.png", "/etc/passwd"), ("outside the data folder", "'/etc/passwd'")
    ),
    "picture linked outside": Case("raw", linked_out, ("outside the data folder", "'p/1.png'")),
    "folder of pictures missing": Case("raw", lambda f: None, ("the folder of pictures is missing",), {"pictures": "photos"}),
    # options
    "unknown option": Case(
        "mmrec", lambda f: None, ("mmrec reader: unknown option", "'kcore'", "cold_users"), {"kcore": 5}, OptionError
    ),
    "unknown format": Case(
        "mmrec", lambda f: None, ("format: unknown format", "'csv'", "mmrec, atomic, raw"), {"format": "csv"}, OptionError
    ),
    "unknown split": Case(
        "mmrec", lambda f: None, ("split: unknown way to split", "'loo'", "leave-one-out"), {"split": "loo"}, OptionError
    ),
    "unknown policy for cold users": Case(
        "mmrec", lambda f: None, ("cold_users", "'keep'", "drop or error"), {"cold_users": "keep"}, OptionError
    ),
    "unknown policy for repeats": Case("raw", lambda f: None, ("repeats", "'all'"), {"repeats": "all"}, OptionError),
    "k-core of zero": Case("raw", lambda f: None, ("k_core: not a k-core", "found 0"), {"k_core": 0}, OptionError),
    "threshold that is no number": Case(
        "raw", lambda f: None, ("rating_threshold: not a number", "nan"), {"rating_threshold": float("nan")}, OptionError
    ),
    "unknown role": Case(
        "raw",
        lambda f: None,
        ("columns: unknown role", "'reader'", "user, item"),
        {"columns": {"reader": "userID"}},
        OptionError,
    ),
    "picture size out of bounds": Case(
        "raw", lambda f: None, ("picture_size", "100000", "16 to 1024"), {"picture_size": 100_000}, OptionError
    ),
    "unknown encoder": Case("raw", lambda f: None, ("encoder: unknown encoder", "'bert'"), {"encoder": "bert"}, OptionError),
    "unknown picture encoder": Case(
        "raw", lambda f: None, ("image_encoder: unknown encoder", "'vit'"), {"image_encoder": "vit"}, OptionError
    ),
    "feature dimension": Case(
        "raw", lambda f: None, ("feature_dim: not a dimension", "found 0"), {"feature_dim": 0}, OptionError
    ),
}


def one_sentence(error: InputError) -> str:
    """Return the message after checking its form: one line, a full stop, and no other error dragged along."""
    message = str(error)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 600
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("good", GOOD)
def test_the_unbroken_data_sets_open(good: str, folder: Path) -> None:
    GOOD[good](folder)
    assert readers.open_path(folder).n_interactions >= 8


@pytest.mark.parametrize("name", CASES)
def test_broken_input_is_refused_with_one_clear_sentence(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    GOOD[case.good](folder)
    case.change(folder)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(InputError) as caught:
        readers.open_path(folder, **case.options)
    assert type(caught.value) is case.error
    message = one_sentence(caught.value)
    for fragment in case.says:
        assert fragment in message
    assert not (folder.parent / "unpickled").exists()


def test_the_cases_are_many_and_say_different_things(tmp_path: Path) -> None:
    assert len(CASES) >= 30
    assert len({case.says for case in CASES.values()}) == len(CASES)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return ``content`` with one to three small accidents."""
    inserts = [b"\n", b"\t", b",", b'"', b"-", b"nan", b"1e999", b":", b" ", b"null", b"[]", b"{}", b"\r", b"\xff"]
    result = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(4):
            case 0:
                result[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                result[at:at] = rng.choice(inserts)
            case 2:
                del result[at : at + rng.randint(1, 8)]
            case 3:
                result[at : at + 1] = bytes([rng.choice(b"0123456789\t\n ,")])
    return bytes(result)


@pytest.mark.parametrize("good", GOOD)
def test_random_accidents_end_in_a_data_set_or_in_one_sentence(good: str, folder: Path) -> None:
    GOOD[good](folder)
    rng = random.Random(good)
    originals = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    options = {"encoder": None, "image_encoder": None} if good == "raw" else {}
    refused = 0
    for _ in range(120):
        path = rng.choice(list(originals))
        path.write_bytes(mutated(originals[path], rng))
        try:
            readers.open_path(folder, **options)
        except InputError as error:
            one_sentence(error)
            refused += 1
        path.write_bytes(originals[path])
    assert refused > 40  # the accidents do bite


# -- what needs no data set -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "pattern"),
    [("nowhere", "nowhere: there is no such file or folder"), ("a\x00b", "there is no such file or folder")],
)
def test_no_such_path(path: str, pattern: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        readers.open_path(tmp_path / path)
    one_sentence(caught.value)


def test_empty_folder_and_foreign_files(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no interactions found .found an empty folder"):
        readers.open_path(folder)
    (folder / "notes.md").write_text("hello")
    with pytest.raises(DataError, match=r"found notes.md, expected a .inter file"):
        readers.open_path(folder)
    with pytest.raises(DataError, match=r"notes.md: not a file of interactions .found suffix '.md'"):
        readers.open_path(folder / "notes.md")


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read everything")
def test_unreadable_file(folder: Path) -> None:
    mmrec(folder)
    (folder / "small.inter").chmod(0)
    with pytest.raises(DataError, match=r"cannot be (read|opened).*Permission"):
        readers.open_path(folder)


def test_sizes_are_bounded_before_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mmrec(folder)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("the file was read"))
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("the array was read"))
    with pytest.raises(DataError, match=r"small.inter: the file is too large .found \d+ bytes, expected at most 10 bytes"):
        safety.read_text(folder / "small.inter", limit=10)
    with pytest.raises(DataError, match=r"image_feat.npy: the file is too large"):
        safety.read_npy(folder / "image_feat.npy", limit=100)


def test_pictures_together_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw(folder)
    monkeypatch.setattr(images, "MAX_ARRAY_BYTES", 1000)
    with pytest.raises(DataError, match=r"5 x 16 x 16 x 3 = 3,840 bytes, expected at most 1,000 bytes.*picture_size"):
        readers.open_path(folder)


def test_parquet_that_claims_too_much(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"userID": [1, 2, 3], "itemID": [1, 2, 3]}).to_parquet(folder / "r.parquet")
    monkeypatch.setattr(safety, "MAX_ROWS", 2)
    monkeypatch.setattr(pq, "read_table", lambda *a, **k: pytest.fail("the table was read"))
    with pytest.raises(DataError, match=r"r.parquet: the file claims to hold too much .found 3 rows"):
        readers.open_path(folder)


def test_an_encoder_without_its_package_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw(folder)
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(OptionError, match=r'no sentence_transformers.*pip install "mmrec_teach\[encoders\]"') as caught:
        readers.open_path(folder, encoder="sentence-transformers:all-MiniLM-L6-v2")
    one_sentence(caught.value)
