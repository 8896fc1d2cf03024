"""Feature sets: what can be put on trial before a recommender is trained on it.

A feature set is an (I, d) table, or a function ``features(hide) -> (I, d)`` that can leave out modalities of some items:
``hide`` maps a modality's name to an (I,) bool mask of the items that lose it (None: nobody loses anything). A row of zeros is
an item without any of this content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, OptionError

Hide: TypeAlias = Mapping[str, np.ndarray]
FeatureSet: TypeAlias = "np.ndarray | Callable[..., np.ndarray]"

SCALINGS = ("unit", "raw")


def table_of(features: FeatureSet, n_items: int, hide: Hide | None = None) -> np.ndarray:
    """Return a feature set's table, checked.

    Args:
        features: a table or a function, see the module.
        n_items: rows it must have.
        hide: modalities to leave out, item by item; a plain table cannot.

    Returns:
        (n_items, d) floating point.

    Raises:
        OptionError: ``hide`` with a plain table.
        DataError: not such a table, or a number in it that is not finite.
    """
    if callable(features):
        table = np.asarray(features(hide=hide))
    elif hide:
        raise OptionError(
            "a plain table has no modalities to hide",
            where="features",
            found="an array",
            expected="a function features(hide) -> table",
            fix="Use feature_sets.joined(data), or a function that makes the table anew",
        )
    else:
        table = np.asarray(features)
    if table.ndim != 2 or len(table) != n_items or not np.issubdtype(table.dtype, np.number):
        raise DataError(
            "not a feature table of these items",
            where="features",
            found=f"shape {table.shape}, {table.dtype}",
            expected=f"({n_items}, d), numbers",
        )
    if not np.issubdtype(table.dtype, np.floating):
        table = table.astype(np.float64)
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(1))[0])
        raise DataError(
            "a number that is not finite", where=f"features, row {row}", found="NaN or infinity", expected="numbers"
        )
    return table


def with_table(data: Dataset, table: np.ndarray, name: str = "content") -> Dataset:
    """Return ``data`` with this one feature table; rows of zeros are marked as missing."""
    return data.with_features({}, **{name: np.asarray(table, dtype=np.float32)})


def unit_rows(table: np.ndarray) -> np.ndarray:
    """Return the rows scaled to length 1, float64; rows of zeros stay."""
    table = np.asarray(table, dtype=np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", table, table))
    return table / np.where(length > 0, length, 1.0)[:, None]


def joined(data: Dataset, modalities: Sequence[str] | str | None = None, scaling: str = "unit") -> Callable[..., np.ndarray]:
    """Return the feature set of some modalities side by side (of one: that table).

    Args:
        data: has the tables.
        modalities: which, in which order; None means all.
        scaling: "unit": each modality's rows have length 1 before they are joined, so that none is louder; "raw": as they are.

    Returns:
        A function ``features(hide=None) -> (I, sum of d_m)`` float64: a modality an item lacks, or loses, is a block of zeros.

    Raises:
        OptionError: no such modality, or another scaling. DataError: no feature tables.
    """
    names = tuple(data.modalities if modalities is None else [modalities] if isinstance(modalities, str) else modalities)
    if not names:
        raise DataError("no feature tables", where=f"data set {data.name!r}", found="none", expected="at least one")
    for name in names:
        if name not in data.features:
            raise OptionError("unknown modality", where="joined", found=repr(name), expected=", ".join(data.modalities))
    if scaling not in SCALINGS:
        raise OptionError("unknown scaling", where="joined(scaling=)", found=repr(scaling), expected=" or ".join(SCALINGS))
    tables = {
        name: unit_rows(data.features[name]) if scaling == "unit" else data.features[name].astype(np.float64) for name in names
    }

    def features(hide: Hide | None = None) -> np.ndarray:
        hide = hide or {}
        return np.concatenate(
            [table * ~hide[name][:, None] if name in hide else table for name, table in tables.items()], axis=1
        )

    return features


def shuffled(features: FeatureSet, n_items: int, seed: int = 0) -> np.ndarray:
    """Return the same rows at other items: all a table's statistics, nothing of its meaning. Rows of zeros stay where they are."""
    table = table_of(features, n_items).copy()
    there = np.flatnonzero(table.any(1))
    table[there] = table[np.random.default_rng(seed).permutation(there)]
    return table


def noise(features: FeatureSet, n_items: int, seed: int = 0) -> np.ndarray:
    """Return normal noise of a table's shape, for the items that have a row there."""
    table = table_of(features, n_items)
    return np.random.default_rng(seed).standard_normal(table.shape) * table.any(1)[:, None]


def aligned(
    data: Dataset, modalities: Sequence[str] | None = None, *, dim: int = 16, ridge: float = 0.1
) -> Callable[..., np.ndarray]:
    """Return two modalities mapped into one space in which an item's two vectors agree (canonical correlation analysis).

    This is the linear relative of CLIP: two maps, learned from pairs alone, without users. The maps are fitted on the items that
    have both modalities, in closed form; the vector of an item is the mean of its mapped modalities, each of length 1 (of one, where
    it has one).

    Args:
        data: has the tables.
        modalities: two names; None means the data set's first two.
        dim: directions kept, those that agree best; at most the narrower table's width.
        ridge: share of each table's mean variance added to every direction before it is whitened.

    Raises:
        OptionError: not two modalities. DataError: fewer than two items have both.
    """
    names = tuple(data.modalities[:2] if modalities is None else modalities)
    if len(names) != 2 or any(name not in data.features for name in names):
        raise OptionError("two modalities are needed", where="aligned", found=names, expected=f"two of {data.modalities}")
    both = ~(data.missing[names[0]] | data.missing[names[1]])
    if both.sum() < 2:
        raise DataError("too few items have both modalities", where="aligned", found=int(both.sum()), expected="2 or more")
    centred, whiten = {}, {}
    for name in names:
        table = data.features[name].astype(np.float64)
        centred[name] = (table - table[both].mean(0)) * ~data.missing[name][:, None]
        covariance = centred[name][both].T @ centred[name][both] / both.sum()
        values, vectors = np.linalg.eigh(covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
        whiten[name] = (vectors / np.sqrt(np.maximum(values, 1e-12))) @ vectors.T
    a, b = (centred[name][both] @ whiten[name] for name in names)
    left, _, right = np.linalg.svd(a.T @ b / both.sum(), full_matrices=False)
    maps = {names[0]: whiten[names[0]] @ left[:, :dim], names[1]: whiten[names[1]] @ right[:dim].T}
    parts = {name: unit_rows(centred[name] @ maps[name]) for name in names}

    def features(hide: Hide | None = None) -> np.ndarray:
        hide = hide or {}
        kept = [part * ~hide[name][:, None] if name in hide else part for name, part in parts.items()]
        return sum(kept) / np.maximum(sum(part.any(1) for part in kept), 1)[:, None]

    return features


def of_data(data: Dataset, *, encoder: Any = None) -> dict[str, FeatureSet]:
    """Return the feature sets a data set offers by itself: each table, and where it has several, both ways to join them.

    Args:
        data: has the tables.
        encoder: a pre-trained encoder with ``.vectors(data, hide=...)``; adds "mmenc".
    """
    sets: dict[str, FeatureSet] = {name: joined(data, name, "raw") for name in data.modalities}
    if len(sets) > 1:
        sets |= {"joined, unit": joined(data), "joined, raw": joined(data, scaling="raw")}
    if encoder is not None:
        sets["mmenc"] = lambda hide=None: encoder.vectors(data, hide=hide)
    return sets
