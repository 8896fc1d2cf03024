"""Reading files nobody has vouched for: sizes are bounded before memory is asked for, nothing is ever unpickled.

Every function here either returns the whole of what it was asked for or raises a :class:`~mmrec_teach.errors.DataError`
that names the file, and the line or the array, what was found there and what should stand there.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mmrec_teach.errors import DataError

MAX_TEXT_BYTES = 2**31 - 2**20  # one text file; above it, Parquet is the better form anyway
MAX_TABLE_BYTES = 2**34  # one feature table or one Parquet file, unpacked
MAX_ROWS = 200_000_000  # rows of one table
MAX_HEADER_BYTES = 10_000  # an honest .npy header takes 128
ZIP_MAGIC = b"PK\x03\x04"
NPY_MAGIC = b"\x93NUMPY"
DATE = re.compile(r"\s*\d{4}-\d\d-\d\d")


def short(value: object, length: int = 60) -> str:
    """Return ``repr(value)``, cut to ``length`` characters, so that a message stays one sentence."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def listing(names: Iterable[str], length: int = 100) -> str:
    """Return ``names`` in a row, cut to ``length`` characters."""
    text = ", ".join(names)
    return text if len(text) <= length else text[: length - 1] + "…"


def checked_file(path: Path, limit: int, *, kind: str = "file") -> int:
    """Return the size in bytes of the regular, non-empty file ``path``.

    Raises:
        DataError: it is absent, a folder, a pipe or a device, empty, unreadable, or larger than ``limit`` bytes.
    """
    try:
        info = path.stat()
    except OSError as error:
        raise DataError(f"the {kind} cannot be opened", where=str(path), found=error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in the path
        raise DataError(f"not a path to a {kind}", where=short(str(path)), found=str(error)) from None
    if not stat.S_ISREG(info.st_mode):
        found = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise DataError("not a regular file", where=str(path), found=found, expected=f"a {kind}")
    if info.st_size == 0:
        raise DataError("the file is empty", where=str(path), found="0 bytes", expected=f"a {kind}")
    if info.st_size > limit:
        raise DataError(
            "the file is too large", where=str(path), found=f"{info.st_size:,} bytes", expected=f"at most {limit:,} bytes"
        )
    return info.st_size


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Return the bytes of a UTF-8 text file, without a byte order mark.

    Raises:
        DataError: see :func:`checked_file`; also bytes that are no UTF-8 (with their line) and NUL characters.
    """
    checked_file(path, limit, kind="text file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError("the file cannot be read", where=str(path), found=error.strerror) from None
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        raise DataError("the file is empty", where=str(path), found="blank lines only", expected="a header and rows")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            "not UTF-8 text",
            where=f"{path} line {line}",
            found=f"byte 0x{content[error.start]:02x}",
            expected="UTF-8",
            fix="Save the file as UTF-8, for example with: iconv -f latin1 -t utf-8",
        ) from None
    if (nul := content.find(b"\x00")) >= 0:
        line = content.count(b"\n", 0, nul) + 1
        raise DataError("a NUL character in a text file", where=f"{path} line {line}", expected="text")
    return content


# -- tables -----------------------------------------------------------------------------------------------------------
@dataclass
class Table:
    """A table of text or typed columns that remembers where its rows stand in the file.

    Attributes:
        path: the file it came from.
        data: the columns.
        locate: row number (0-based) -> where it stands, such as "line 7". Called for messages only.
    """

    path: Path
    data: pa.Table
    locate: Callable[[int], str] = field(default=lambda row: f"row {row}")

    def __len__(self) -> int:
        return self.data.num_rows

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in file order."""
        return self.data.column_names

    def where(self, row: int) -> str:
        """Return "FILE line N" for row ``row``."""
        return f"{self.path} {self.locate(row)}"

    def require(self, *names: str) -> None:
        """Raise a DataError unless every column in ``names`` is there."""
        absent = [n for n in names if n not in self.columns]
        if absent:
            raise DataError(
                f"column {absent[0]} is missing",
                where=str(self.path),
                found="columns " + listing(self.columns),
                expected="columns " + ", ".join(names),
            )

    def strings(self, name: str) -> np.ndarray:
        """Return column ``name`` as an object array of str; nulls become ''."""
        self.require(name)
        column = self.data[name]
        if pa.types.is_floating(column.type):  # ids that went through a float column: 3.0 is 3
            numbers = column.to_numpy()
            whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53)
            return np.array(
                ["" if np.isnan(n) else str(int(n)) if w else repr(float(n)) for n, w in zip(numbers, whole)], dtype=object
            )
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            try:
                column = column.cast(pa.string())
            except pa.ArrowException:
                column = pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
        return pc.fill_null(column, "").to_numpy().astype(object)

    def ids(self, name: str) -> np.ndarray:
        """Return column ``name`` as an object array of non-empty ids."""
        values = np.array([v.strip() for v in self.strings(name)], dtype=object)
        empty = np.flatnonzero(values == "")
        if len(empty):
            raise DataError(f"{name} is empty", where=self.where(int(empty[0])), found="''", expected="an id")
        return values

    def integers(self, name: str, *, minimum: int | None = None, what: str = "a whole number") -> np.ndarray:
        """Return column ``name`` as int64.

        Raises:
            DataError: at the first value that is no whole number, or below ``minimum``.
        """
        self.require(name)
        column = self.data[name]
        try:
            if column.null_count or pa.types.is_boolean(column.type):
                raise pa.ArrowInvalid("not numbers")
            values = column.cast(pa.int64()).to_numpy().astype(np.int64, copy=False)
        except pa.ArrowException:
            row, value = _first_bad(column, int)
            raise DataError(f"{name} is not a whole number", where=self.where(row), found=short(value), expected=what) from None
        if minimum is not None and len(values) and values.min() < minimum:
            row = int(np.flatnonzero(values < minimum)[0])
            raise DataError(
                f"{name} is too small", where=self.where(row), found=int(values[row]), expected=f"{what}, {minimum} or more"
            )
        return values

    def numbers(self, name: str, *, what: str = "a finite number") -> np.ndarray:
        """Return column ``name`` as finite float64; ``what`` says in messages what was expected.

        Raises:
            DataError: at the first value that is no finite number.
        """
        self.require(name)
        column = self.data[name]
        values = None
        if not column.null_count and not pa.types.is_boolean(column.type):
            if pa.types.is_temporal(column.type):
                column = column.cast(pa.timestamp("us")).cast(pa.int64())
                return column.to_numpy() / 1e6
            try:
                values = column.cast(pa.float64()).to_numpy().astype(np.float64, copy=False)
            except pa.ArrowException:
                values = None
        if values is None or not np.isfinite(values).all():
            row, value = _first_bad(column, float)
            raise DataError(f"{name} is not a number", where=self.where(row), found=short(value), expected=what)
        return values

    def times(self, name: str) -> np.ndarray:
        """Return column ``name`` as int64 seconds (fractions are cut off): numbers, or dates such as 2024-05-31 or 2024-05-31T17:30.

        Raises:
            DataError: at the first value that is neither.
        """
        values = self._dates(name)
        values = self.numbers(name, what="seconds since 1970, or a date such as 2024-05-31") if values is None else values
        if len(values) and np.abs(values).max() >= 2**62:
            row = int(np.argmax(np.abs(values)))
            raise DataError(f"{name} is no moment in time", where=self.where(row), found=values[row], expected="seconds")
        return np.floor(values).astype(np.int64)

    def _dates(self, name: str) -> np.ndarray | None:
        """Return a text column of dates, year first, as float64 seconds since 1970; None if it does not begin with one."""
        self.require(name)
        column = self.data[name]
        if not pa.types.is_string(column.type) or not len(column) or not DATE.match(column[0].as_py() or ""):
            return None
        seconds = np.empty(len(column))
        for row, text in enumerate(column.to_pylist()):
            try:
                moment = datetime.fromisoformat((text or "").strip())
                seconds[row] = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            except (ValueError, OverflowError):
                raise DataError(
                    f"{name} is no date", where=self.where(row), found=short(text), expected="such as 2024-05-31"
                ) from None
        return seconds


def _first_bad(column: pa.ChunkedArray, kind: type) -> tuple[int, object]:
    """Return row and value of the first entry of ``column`` that ``kind`` (int or float) cannot take."""
    target = pa.int64() if kind is int else pa.float64()
    for row, value in enumerate(column.to_pylist()):
        if value is None or isinstance(value, bool):
            return row, value
        try:
            number = pa.scalar(value).cast(target).as_py()
        except (pa.ArrowException, OverflowError):
            return row, value
        if kind is float and not math.isfinite(number):
            return row, value
    return 0, None  # not reached: the caller saw a bad one


def read_delimited(path: Path, separator: str, *, quoted: bool, header: list[str] | None = None) -> Table:
    """Read a CSV or TSV file with a header line; every column as text.

    Args:
        path: the file.
        separator: one character.
        quoted: whether a field may stand in double quotes (and then hold separators and line ends).
        header: column names for a file without a header line.

    Raises:
        DataError: not UTF-8, empty, a column name twice, or a row with too few or too many fields (with its line).
    """
    content = read_text(path)
    if header is None:
        first = next(line for line in content.splitlines() if line.strip()).decode("utf-8")
        header = next(csv.reader([first], delimiter=separator)) if quoted else first.split(separator)
        names = [h.strip() for h in header]
        for name in names:
            if names.count(name) > 1:
                raise DataError(
                    "a column name stands twice", where=f"{path} line 1", found=short(name), expected="distinct names"
                )
        skip_header = 1
    else:
        names, skip_header = header, 0

    def lines() -> Iterable[tuple[int, list[str]]]:
        """(line number, fields) of every row that holds anything, header included."""
        if quoted:
            reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), delimiter=separator)
            start = 1
            for fields in reader:
                if fields:
                    yield start, fields
                start = reader.line_num + 1
        else:
            for number, line in enumerate(io.StringIO(content.decode("utf-8"), newline=None), 1):
                if line.rstrip("\n"):
                    yield number, line.rstrip("\n").split(separator)

    def locate(row: int) -> str:
        for index, (number, _) in enumerate(lines()):
            if index == row + skip_header:
                return f"line {number}"
        return f"row {row}"

    try:
        data = pa_csv.read_csv(
            pa.BufferReader(content),
            # one block: a row may be longer than the default block, and the order of errors is the file's
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=max(len(content) + 1, 1024), column_names=names, skip_rows_after_names=skip_header
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False, newlines_in_values=quoted, ignore_empty_lines=True
            ),
            convert_options=pa_csv.ConvertOptions(column_types={n: pa.string() for n in names}, strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        for number, fields in lines():
            if len(fields) != len(names):
                raise DataError(
                    "a row has the wrong number of fields",
                    where=f"{path} line {number}",
                    found=len(fields),
                    expected=f"{len(names)} ({listing(names)})",
                ) from None
        raise DataError("not a readable table", where=str(path), found=short(str(error).splitlines()[0], 120)) from None
    if data.num_rows == 0:
        raise DataError("the file has a header but no rows", where=str(path), found="0 rows", expected="at least one")
    return Table(path, data, locate)


def read_jsonl(path: Path) -> Table:
    """Read a file with one JSON object a line. Lists become 'a|b', a field that a line lacks becomes null.

    Raises:
        DataError: a line that is no JSON object (with its number), or a file without one.
    """
    content = read_text(path)
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            found = error.msg if isinstance(error, json.JSONDecodeError) else short(str(error))
            raise DataError(
                "not valid JSON", where=f"{path} line {number}", found=f"{found} in {short(line.decode('utf-8'))}"
            ) from None
        if not isinstance(record, dict):
            raise DataError(
                "not a JSON object",
                where=f"{path} line {number}",
                found=short(record),
                expected='an object such as {"itemID": 1}',
            )
        rows.append(record)
        numbers.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([_plain(row.get(name)) for row in rows], pa.string()) for name in names}
    return Table(path, pa.table(columns), lambda row: f"line {numbers[row]}")


def _plain(value: Any) -> str | None:
    """Return a JSON value as text: lists joined by '|', numbers and texts as they are, NaN and null as None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "|".join(_plain(v) or "" for v in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def read_parquet(path: Path) -> Table:
    """Read a Parquet file after checking, from its footer, that what it unpacks to is of a bearable size.

    Raises:
        DataError: not Parquet, or more than ``MAX_ROWS`` rows or ``MAX_TABLE_BYTES`` bytes unpacked.
    """
    checked_file(path, MAX_TABLE_BYTES, kind="Parquet file")
    try:
        footer = pq.read_metadata(path)
        size = sum(footer.row_group(g).total_byte_size for g in range(footer.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise DataError("not a Parquet file", where=str(path), found=short(str(error).splitlines()[0], 120)) from None
    if footer.num_rows > MAX_ROWS or size > MAX_TABLE_BYTES:
        raise DataError(
            "the file claims to hold too much",
            where=str(path),
            found=f"{footer.num_rows:,} rows, {size:,} bytes unpacked",
            expected=f"at most {MAX_ROWS:,} rows and {MAX_TABLE_BYTES:,} bytes",
        )
    try:
        data = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError("the Parquet file is damaged", where=str(path), found=short(str(error).splitlines()[0], 120)) from None
    if data.num_rows == 0:
        raise DataError("the file has no rows", where=str(path), found="0 rows", expected="at least one")
    return Table(path, data)


# -- arrays -----------------------------------------------------------------------------------------------------------
def read_npy(path: Path, *, ndim: int = 2, limit: int = MAX_TABLE_BYTES) -> np.ndarray:
    """Read a .npy file of floating-point numbers; its header is checked against the file's size first.

    Returns:
        An array of ``ndim`` dimensions in the dtype of the file.

    Raises:
        DataError: not .npy, pickled, another dtype, another number of dimensions, truncated, or too large.
    """
    size = checked_file(path, limit, kind=".npy file")
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(ZIP_MAGIC):
            raise DataError(
                "a zip archive (.npz) under the name of an array", where=str(path), expected="one array saved by numpy.save"
            )
        if start.startswith(b"\x80"):
            raise DataError(
                "a pickled object, which could run code when read",
                where=str(path),
                expected="a plain array of numbers saved by numpy.save",
                fix="Pickles are never opened here",
            )
        if not start.startswith(NPY_MAGIC):
            raise DataError(
                "not a .npy file", where=str(path), found=f"first bytes {short(start)}", expected="an array saved by numpy.save"
            )
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers from Python 2
                shape, _, dtype = reader(file, max_header_size=MAX_HEADER_BYTES)
        except KeyError:
            raise DataError(
                "a .npy version that is not supported", where=str(path), found=version, expected="1.0 or 2.0"
            ) from None
        except (
            Exception
        ) as error:  # the header is a Python literal: a broken one fails in many ways, tokenize.TokenError among them
            raise DataError(
                "the .npy header cannot be read", where=str(path), found=short(str(error).splitlines()[0], 100)
            ) from None
        offset = file.tell()
    if dtype.hasobject:
        raise DataError(
            "an array of Python objects, which could run code when read",
            where=str(path),
            found=f"dtype {dtype}",
            expected="a plain array of numbers",
            fix="Pickles are never opened here",
        )
    if not np.issubdtype(dtype, np.floating):
        raise DataError(
            "features are not floating-point numbers",
            where=str(path),
            found=f"dtype {dtype}",
            expected="float16, float32 or float64",
        )
    if len(shape) != ndim or min(shape) < 1:
        raise DataError(
            "the array has the wrong shape", where=str(path), found=f"shape {shape}", expected="shape (items, dimension)"
        )
    claimed = math.prod(shape) * dtype.itemsize  # Python integers: no overflow
    if claimed > limit:
        raise DataError(
            "the array claims to be too large",
            where=str(path),
            found=f"shape {shape}, {claimed:,} bytes",
            expected=f"at most {limit:,} bytes",
        )
    if claimed != size - offset:
        what = "the array is truncated" if claimed > size - offset else "the file holds more than its header says"
        raise DataError(
            what,
            where=str(path),
            found=f"{size - offset:,} bytes of numbers",
            expected=f"{claimed:,} bytes for shape {shape}, {dtype}",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.load(path, allow_pickle=False)
    except Exception as error:
        raise DataError("the array cannot be read", where=str(path), found=short(str(error), 100)) from None


def finite_float32(table: np.ndarray, where: str) -> np.ndarray:
    """Return ``table`` as float32, read-only (its memory too, where it is float32 already).

    Raises:
        DataError: an entry is not finite; the first such one is named.
    """
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(table, dtype=np.float32)
    if not np.isfinite(result).all():
        row, column = map(int, np.argwhere(~np.isfinite(result))[0])
        raise DataError(
            "a number that is not finite",
            where=f"{where} row {row}, column {column}",
            found=str(table[row, column]),
            expected="finite numbers within float32's range",
        )
    result.flags.writeable = False  # spares the data set a copy
    return result


def read_raw_float32(path: Path, n_rows: int, *, limit: int = MAX_TABLE_BYTES) -> np.ndarray:
    """Read a headerless file of little-endian float32 as (n_rows, d); d follows from the file's size.

    Raises:
        DataError: the size is no multiple of 4 * n_rows bytes, or numbers are not finite.
    """
    size = checked_file(path, limit, kind="feature file")
    if size % (4 * n_rows):
        raise DataError(
            "the size does not divide into one row per item",
            where=str(path),
            found=f"{size:,} bytes",
            expected=f"a multiple of {4 * n_rows:,} bytes ({n_rows:,} items x 4 bytes)",
        )
    return finite_float32(np.fromfile(path, dtype="<f4").reshape(n_rows, -1), str(path))


def inside(folder: Path, relative: str, where: str) -> Path:
    """Return ``folder / relative``, provided that it stays inside ``folder``, links followed.

    Raises:
        DataError: an absolute path, one that climbs out with '..', or a link that leads out.
    """
    if "\x00" in relative:
        raise DataError("not a file name", where=where, found=short(relative), expected="a path inside the folder")
    path = folder / relative
    if Path(relative).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            "the file lies outside the data folder", where=where, found=short(relative), expected=f"a path inside {folder}"
        )
    return path
