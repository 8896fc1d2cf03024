"""Where the embedded data lives on disk, and the promise that it is what was generated.

Each domain is one compressed ``.npz`` (no pickle inside). ``checksums.json`` beside them holds the SHA-256 of every file and of
every array's content, so that a damaged file is recognised at once, and a regenerated one can be compared whatever the
compression library did.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from mmrec_teach.data import bazaar, pictures
from mmrec_teach.data.dataset import Dataset, Interactions, Truth
from mmrec_teach.errors import DataError
from mmrec_teach.files import write_bytes, write_json

CHECKSUMS = "checksums.json"
CONTACT_SHEET = "contact_sheet.png"
ENCODER = "bazaar-encoder.npz"
"""The masked encoder, pre-trained on the bazaar. Training is not the same to the last bit on two machines, so it is stored."""
SEQUENCES = "bazaar-sequences.npz"
"""MISSRec, pre-trained on the three small corners of the bazaar."""
MODELS = {
    "encoder": (ENCODER, "Run: mmrec-teach pretrain --stored"),
    "sequences": (SEQUENCES, "Run: mmrec-teach pretrain-sequences --stored"),
}
"""What is trained and stored: its entry in the checksums -> its file, and how to make it anew."""
FIX = "Run: mmrec-teach data regenerate"
FEATURE_TOLERANCE = 1e-3
"""How far a regenerated feature may be from the stored one: linear algebra libraries differ in their last digits. Everything
else must be equal."""


def file_name(domain: str) -> str:
    """Return the name of a domain's file: ``bazaar/garden`` -> ``bazaar-garden.npz``."""
    return domain.replace("/", "-") + ".npz"


def data_dir() -> Path:
    """Return the folder of the embedded data.

    ``$MMREC_TEACH_DATA`` if set; else ``data/`` of the repository this package runs from; else, for a package installed without
    the repository, ``data/`` in the working directory if the bazaar lies there (a lesson handed out to a class), or a folder in
    the user's cache (``$XDG_CACHE_HOME`` or ``~/.cache``).
    """
    if chosen := os.environ.get("MMREC_TEACH_DATA"):
        return Path(chosen).expanduser()
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file() and (root / "data").is_dir():
        return root / "data"
    if (handed_out := Path.cwd() / "data").joinpath(CHECKSUMS).is_file():
        return handed_out
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).expanduser() / "mmrec_teach" / "data"


def digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's type, shape and content (little-endian)."""
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    head = f"{array.dtype.str} {array.shape}\n".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def regenerate(folder: Path | None = None, seed: int = bazaar.SEED) -> Path:
    """Generate all domains and write them, each file atomically, the checksums last. Returns the folder."""
    folder = Path(folder) if folder is not None else data_dir()
    made = bazaar.generate(seed)
    sums: dict[str, dict] = {}
    for domain, arrays in made.items():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        content = buffer.getvalue()
        write_bytes(folder / file_name(domain), content)
        sums[file_name(domain)] = {
            "domain": domain,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "arrays": {name: digest(array) for name, array in arrays.items()},
        }
    same = MODELS if seed == bazaar.SEED else ()  # the same bazaar: what was trained on it still fits
    trained = {kind: entry for kind in same if (entry := _model_entry(kind, folder)) is not None}
    write_json(folder / CHECKSUMS, {"seed": seed, "files": sums, **trained})
    write_bytes(folder / CONTACT_SHEET, _contact_sheet(made))
    return folder


def _contact_sheet(made: dict[str, dict[str, np.ndarray]], per_category: int = 5, bands: int = 3) -> bytes:
    """A PNG with the first few pictures of every category, categories in three bands side by side. For people only."""
    from PIL import Image

    rows = []
    for arrays in made.values():
        for c in range(int(arrays["category"].max()) + 1):
            rows.append(np.flatnonzero((arrays["category"] == c) & ~arrays["missing_image"])[:per_category])
            rows[-1] = arrays["images"][rows[-1]]
    height = -(-len(rows) // bands)
    ordered = [rows[band * height + k] for k in range(height) for band in range(bands) if band * height + k < len(rows)]
    sheet = pictures.contact_sheet(np.concatenate(ordered), columns=bands * per_category)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def ensure() -> Path:
    """Return the data folder; fill it first if it is the user's cache and still empty."""
    folder = data_dir()
    root = Path(__file__).resolve().parents[2] / "data"
    if not (folder / CHECKSUMS).exists() and folder != root and "MMREC_TEACH_DATA" not in os.environ:
        regenerate(folder)
    return folder


def read_sums(folder: Path) -> dict[str, dict]:
    """Return what ``checksums.json`` says: file name -> its entry.

    Raises:
        DataError: the file is missing or is not what :func:`regenerate` writes.
    """
    path = folder / CHECKSUMS
    try:
        sums = json.loads(path.read_text(encoding="utf-8"))["files"]
        for entry in sums.values():
            _ = entry["sha256"] + "", entry["arrays"].items(), entry["domain"] + ""
    except FileNotFoundError:
        raise DataError("the embedded data is not there", where=str(path), fix=FIX) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("the list of checksums is damaged", where=str(path), found=type(error).__name__, fix=FIX) from None
    return sums


def read(domain: str, folder: Path | None = None) -> dict[str, np.ndarray]:
    """Read and verify one domain's arrays; all are read-only.

    Raises:
        DataError: the file is missing, or differs from its checksum.
    """
    folder = folder if folder is not None else ensure()
    path = folder / file_name(domain)
    entry = read_sums(folder).get(path.name)
    if entry is None:
        raise DataError("no checksum for this file", where=str(folder / CHECKSUMS), found=f"nothing on {path.name}", fix=FIX)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError("the embedded data is not there", where=str(path), fix=FIX) from None
    except OSError as error:
        raise DataError("cannot read the file", where=str(path), found=error.strerror, fix=FIX) from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DataError(
            "the file differs from its checksum",
            where=str(path),
            found=f"{len(content):,} bytes",
            expected=f"the {entry.get('bytes', 0):,} bytes that were written",
            fix=FIX,
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataError("not an array archive", where=str(path), found=type(error).__name__, fix=FIX) from None
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _model_entry(kind: str, folder: Path) -> dict | None:
    try:
        entry = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8")).get(kind)
    except (OSError, ValueError, AttributeError):
        return None
    return entry if isinstance(entry, dict) else None


def write_model(kind: str, content: bytes, folder: Path | None = None) -> None:
    """Write the file of a pre-trained model, one of :data:`MODELS`, then its checksum beside those of the data."""
    folder = folder if folder is not None else data_dir()
    write_bytes(folder / MODELS[kind][0], content)
    sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    sums[kind] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_json(folder / CHECKSUMS, sums)


def read_model(kind: str, folder: Path | None = None) -> bytes:
    """Return the content of a pre-trained model's file, one of :data:`MODELS`, verified.

    Raises:
        DataError: the file is missing, has no checksum, or differs from it.
    """
    folder = folder if folder is not None else ensure()
    name, fix = MODELS[kind]
    path, entry = folder / name, _model_entry(kind, folder)
    if entry is None or "sha256" not in entry:
        raise DataError("no checksum for this file", where=str(folder / CHECKSUMS), found=f"nothing on {name}", fix=fix)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError("cannot read the pre-trained model", where=str(path), found=error.strerror, fix=fix) from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DataError(
            "the file differs from its checksum",
            where=str(path),
            found=f"{len(content):,} bytes",
            expected=f"the {entry.get('bytes', 0):,} bytes that were written",
            fix=fix,
        )
    return content


def verify(folder: Path | None = None) -> list[str]:
    """Check every file of the folder, down to each array. Returns one line a file.

    Pre-trained models are checked where there are some: a freshly generated folder has none yet.

    Raises:
        DataError: at the first file that is missing or damaged.
    """
    folder = folder if folder is not None else ensure()
    sums = read_sums(folder)
    if absent := [d for d in bazaar.DOMAINS if file_name(d) not in sums]:
        raise DataError(
            "no checksum for this file", where=str(folder / CHECKSUMS), found=f"nothing on {file_name(absent[0])}", fix=FIX
        )
    report = []
    for domain in bazaar.DOMAINS:
        arrays, entry = read(domain, folder), sums[file_name(domain)]
        for name, expected in entry["arrays"].items():
            if name not in arrays or digest(arrays[name]) != expected:
                raise DataError("an array differs from its checksum", where=f"{folder / file_name(domain)}, {name}", fix=FIX)
        report.append(f"OK  {file_name(domain)}  {entry['bytes'] / 1e6:.2f} MB  {len(arrays)} arrays")
    for kind, (name, _) in MODELS.items():
        if (folder / name).exists() or _model_entry(kind, folder) is not None:
            report.append(f"OK  {name}  {len(read_model(kind, folder)) / 1e6:.2f} MB")
    return report


def differences(made: dict[str, np.ndarray], stored: dict[str, np.ndarray]) -> list[str]:
    """Return one sentence for every way in which freshly generated arrays differ from stored ones; [] if they agree.

    Features may differ by up to :data:`FEATURE_TOLERANCE`, everything else must be equal.
    """
    wrong = [f"{name}: only on one side" for name in sorted(set(made) ^ set(stored))]
    for name in made:
        if name not in stored:
            continue
        a, b = made[name], stored[name]
        if a.dtype != b.dtype or a.shape != b.shape:
            wrong.append(f"{name}: {a.dtype} {a.shape} against {b.dtype} {b.shape}")
        elif name.startswith("features_"):
            gap = float(np.abs(a - b).max(initial=0.0))
            if not gap <= FEATURE_TOLERANCE:
                wrong.append(f"{name}: differs by up to {gap:.3g}")
        elif not np.array_equal(a, b):
            wrong.append(f"{name}: {int((a != b).sum())} of {a.size} values differ")
    return wrong


def dataset(domain: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """Turn a domain's arrays into a :class:`Dataset` with its default split and its truth."""
    categories = np.array(bazaar.unpack(arrays["category_names"]))
    events = Interactions(arrays["event_user"], arrays["event_item"], arrays["event_time"])
    split = arrays["event_split"]
    items = pd.DataFrame(
        {
            "title": bazaar.unpack(arrays["titles"]),
            "category": categories[arrays["category"]],
            "caption": bazaar.unpack(arrays["captions"]),
            "price": arrays["price"] / 100.0,
            "launched": arrays["launched"].copy(),
        }
    )
    factors = {f: _one_hot(arrays[f], n) for f, n in bazaar.FACTORS.items()}
    truth = Truth(
        utility=_frozen(arrays["utility"].astype(np.float32) / np.float32(bazaar.UTILITY_GRID)),
        user_interests=_frozen(arrays["interests"].astype(np.int64)),
        interest_shares=arrays["shares"],
        care=arrays["care"],
        item_interest=_frozen(arrays["category"].astype(np.int64)),
        picture_style=_frozen(np.concatenate([factors["tone"], factors["pattern"]], axis=1)),
        word_style=_frozen(np.concatenate([factors["spirit"], factors["making"]], axis=1)),
        extra={
            "interest_names": _frozen(categories),
            **{k: arrays[k] for k in ("hue", *bazaar.FACTORS, "log_popularity", "cold", "launched", "tribe", "joined")},
            **{f"taste_{f}": arrays[f"taste_{f}"] for f in bazaar.FACTORS},
            **{k: arrays[k] for k in ("event_user", "event_item", "event_time", "event_session", "event_interest")},
        },
    )
    return Dataset(
        name=domain,
        user_ids=np.array(bazaar.unpack(arrays["user_ids"])),
        item_ids=np.array(bazaar.unpack(arrays["item_ids"])),
        train=events.select(split == 0),
        valid=events.select(split == 1),
        test=events.select(split == 2),
        features={"image": arrays["features_image"], "text": arrays["features_text"]},
        missing={"image": arrays["missing_image"], "text": arrays["missing_caption"]},
        items=items,
        images=arrays["images"],
        truth=truth,
        exposures=arrays["exposures"],
        clicks=arrays["clicks"],
        source="generated by mmrec_teach.data.bazaar; split at random per user, about 80/10/10, cold items never in train",
    )


def _one_hot(values: np.ndarray, n: int) -> np.ndarray:
    return np.eye(n, dtype=np.float32)[values]


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
