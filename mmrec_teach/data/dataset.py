"""The one shape in which data enters everything else: a frozen, validated :class:`Dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mmrec_teach.data.frozen import frozen
from mmrec_teach.data.validation import SPLITS, validated_fields
from mmrec_teach.errors import DataError


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who took what, and when if that is known. Row n is one event.

    Attributes:
        users: (n,) int64 user indices.
        items: (n,) int64 item indices.
        timestamps: (n,) int64 seconds (or positions, see ``Dataset.time_is_order``), or None.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("users", "items", "timestamps"):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.asarray(value)
            if value.ndim != 1 or not (np.issubdtype(value.dtype, np.integer) or value.size == 0):
                raise DataError(
                    "not a list of whole numbers",
                    where=f"Interactions.{name}",
                    found=f"shape {value.shape}, dtype {value.dtype}",
                    expected="shape (n,), an integer dtype",
                )
            object.__setattr__(self, name, frozen(value.astype(np.int64, copy=False)))
        if len(self.users) != len(self.items):
            raise DataError(
                "users and items differ in length",
                where="Interactions",
                found=f"{len(self.users)} users, {len(self.items)} items",
                expected="one user and one item per row",
            )
        if self.timestamps is not None and len(self.timestamps) != len(self.users):
            raise DataError(
                "timestamps and users differ in length",
                where="Interactions",
                found=f"{len(self.timestamps)} timestamps, {len(self.users)} users",
                expected="one timestamp per row",
            )

    def __len__(self) -> int:
        return len(self.users)

    def select(self, rows: np.ndarray) -> Interactions:
        """Return the events at ``rows`` (indices or a boolean mask)."""
        return Interactions(self.users[rows], self.items[rows], None if self.timestamps is None else self.timestamps[rows])

    @staticmethod
    def concatenate(*parts: Interactions) -> Interactions:
        """Return all events of ``parts`` in that order; timestamps survive only where every non-empty part has them."""
        kept = [p for p in parts if len(p)] or list(parts[:1])
        timed = all(p.timestamps is not None for p in kept)
        return Interactions(
            np.concatenate([p.users for p in kept]),
            np.concatenate([p.items for p in kept]),
            np.concatenate([p.timestamps for p in kept]) if timed else None,
        )


@dataclass(frozen=True, eq=False)
class Truth:
    """What only a generated shop can know: why its users took what they took.

    Attributes:
        utility: (U, I) float32, the planted liking of every user for every item, popularity left out. The oracle ranks by it.
        user_interests: (U, 3) int64 planted interest (category) ids, -1 where a user has fewer.
        interest_shares: (U, 3) float32 share of each interest, rows sum to 1.
        care: (U, 2) float32, how much the user minds picture and words, rows sum to 1.
        item_interest: (I,) int64 the interest (category) each item belongs to.
        picture_style: (I, p) float32 the hidden style only pictures reveal.
        word_style: (I, w) float32 the hidden style only captions reveal.
        extra: whatever else a generator wants to tell, by name.
    """

    utility: np.ndarray
    user_interests: np.ndarray
    interest_shares: np.ndarray
    care: np.ndarray
    item_interest: np.ndarray
    picture_style: np.ndarray
    word_style: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Users, items, their interactions in three splits, and what is known of each item. Frozen and validated.

    Attributes:
        name: a short name for tables and figures.
        user_ids: (U,) the ids the source used, as strings; row = our user index.
        item_ids: (I,) likewise for items.
        train, valid, test: disjoint :class:`Interactions`. A user in valid or test has training interactions.
        features: modality name -> (I, d_m) float32, read-only, finite. A missing item's row is zero.
        missing: modality name -> (I,) bool, True where the item lacks that modality. Same keys as ``features``.
        items: one row an item, in index order; columns as the source knows them. By convention ``title``,
            ``category`` and ``caption`` where known.
        images: (I, H, W, 3) uint8 pictures, or None. A missing picture is all zero.
        truth: the planted truth of a generated data set, or None.
        exposures, clicks: (I,) int64 how often each item was shown and clicked before the test period, or None.
        time_is_order: timestamps are positions in a user's history, not clock time.
        source: one sentence on where the data came from and how it was split.

    Raises:
        DataError: at construction, if anything above does not hold.
    """

    name: str
    user_ids: np.ndarray
    item_ids: np.ndarray
    train: Interactions
    valid: Interactions
    test: Interactions
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: Mapping[str, np.ndarray] = field(default_factory=dict)
    items: pd.DataFrame | None = None
    images: np.ndarray | None = None
    truth: Truth | None = None
    exposures: np.ndarray | None = None
    clicks: np.ndarray | None = None
    time_is_order: bool = False
    source: str = ""

    # -- sizes -----------------------------------------------------------------------------------------------------
    @property
    def n_users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """How many items there are, cold ones included."""
        return len(self.item_ids)

    @property
    def n_interactions(self) -> int:
        """How many interactions there are, of train, validation and test together."""
        return len(self.train) + len(self.valid) + len(self.test)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the feature tables, in a fixed order."""
        return tuple(self.features)

    def split(self, name: str) -> Interactions:
        """Return the interactions of split ``name``."""
        if name not in SPLITS:
            raise DataError("unknown split", where="Dataset.split", found=repr(name), expected="train, valid or test")
        return getattr(self, name)

    # -- derived, computed once -------------------------------------------------------------------------------------
    def matrix(self, *splits: str) -> sp.csr_array:
        """Return the (U, I) float32 0/1 CSR matrix of the given splits (train if none is named)."""
        parts = [self.split(s) for s in (splits or ("train",))]
        users = np.concatenate([p.users for p in parts])
        items = np.concatenate([p.items for p in parts])
        ones = np.ones(len(users), dtype=np.float32)
        return sp.coo_array((ones, (users, items)), shape=(self.n_users, self.n_items)).tocsr()

    @cached_property
    def item_counts(self) -> np.ndarray:
        """(I,) int64 training interactions per item."""
        return frozen(np.bincount(self.train.items, minlength=self.n_items))

    @cached_property
    def user_counts(self) -> np.ndarray:
        """(U,) int64 training interactions per user."""
        return frozen(np.bincount(self.train.users, minlength=self.n_users))

    @cached_property
    def cold_items(self) -> np.ndarray:
        """(I,) bool: items without a single training interaction."""
        return frozen(self.item_counts == 0)

    @property
    def captions(self) -> tuple[str, ...] | None:
        """The caption of every item ('' where missing), or None if the source has none."""
        if self.items is None or "caption" not in self.items:
            return None
        return tuple(self.items["caption"].fillna("").astype(str))

    # -- variations -------------------------------------------------------------------------------------------------
    def with_features(
        self,
        features: Mapping[str, np.ndarray] | None = None,
        missing: Mapping[str, np.ndarray] | None = None,
        **more: np.ndarray,
    ) -> Dataset:
        """Return the same data with other feature tables, or with more.

        Args:
            features: the tables that take the place of all others; None keeps those there are.
            missing: their flags, by default none missing.
            more: tables to add, by name: ``data.with_features(mmenc=table)``. A row of zeros counts as missing.
        """
        if features is None:
            features, missing = self.features, {**self.missing, **(missing or {})}
        zero = {name: ~np.asarray(table).any(axis=-1) for name, table in more.items()}
        return replace(self, features={**features, **more}, missing={**(missing or {}), **zero})

    def with_splits(self, train: Interactions, valid: Interactions, test: Interactions, source: str = "") -> Dataset:
        """Return the same users and items with other splits."""
        return replace(self, train=train, valid=valid, test=test, source=source or self.source)

    # -- validation -------------------------------------------------------------------------------------------------
    def __post_init__(self) -> None:
        for name, value in validated_fields(self).items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple:
        # The read-only mappings do not pickle; a copy (deepcopy, another process) is built from plain ones, and checked again.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values.update(features=dict(self.features), missing=dict(self.missing))
        return _rebuilt, (values,)

    def __repr__(self) -> str:
        features = ", ".join(f"{k} {v.shape[1]}-d" for k, v in self.features.items()) or "none"
        return (
            f"Dataset({self.name!r}: {self.n_users:,} users, {self.n_items:,} items, "
            f"{len(self.train):,}/{len(self.valid):,}/{len(self.test):,} interactions, features: {features})"
        )


def _rebuilt(values: dict) -> Dataset:
    return Dataset(**values)
