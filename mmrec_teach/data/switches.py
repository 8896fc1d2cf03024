"""Switches on a data set: take something away, or put something else in its place, and look what it did.

One small frozen value says what was done, so that a run can be told, shared and repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from mmrec_teach.data.dataset import Dataset, Interactions
from mmrec_teach.errors import OptionError

FEATURES = ("own", "shuffled", "zero", "random")
_SHARES = ("missing", "cold", "keep")


@dataclass(frozen=True)
class Switches:
    """What is changed in a data set. The default changes nothing.

    Every switch draws from a stream of its own: turning one leaves what the others chose as it was. Shares are nested: with
    one seed, whatever is taken away at 0.2 is also taken away at 0.5.

    Attributes:
        without: modalities left out.
        features: what stands in the feature tables. ``"own"``; ``"shuffled"``: every item has another item's content, the same
            other item's in all modalities, its gaps included; ``"zero"``: all numbers are 0, and nothing tells two items apart;
            ``"random"``: normal noise with the mean and spread of each column. Under the last two an item has the modalities
            it had: its zeros are an opinion like any other, not a gap.
        missing: share of the items that lose a modality they have, drawn anew for each modality: their rows become zero and
            they are marked as missing.
        cold: share of the warm items that lose all their training interactions. An item is passed over if it is the last a
            user has left, so that near 1 fewer items go.
        keep: share of the training interactions (of those that ``cold`` left) that stay; every user keeps one at least.
        seed: of every choice above.

    Raises:
        OptionError: a value outside what is allowed.
    """

    without: tuple[str, ...] = ()
    features: str = "own"
    missing: float = 0.0
    cold: float = 0.0
    keep: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        without = (self.without,) if isinstance(self.without, str) else self.without
        if not isinstance(without, (tuple, list, set, frozenset)) or not all(isinstance(name, str) for name in without):
            raise OptionError(
                "not a list of modalities",
                where="Switches(without=)",
                found=repr(self.without),
                expected='names such as ("image",)',
            )
        object.__setattr__(self, "without", tuple(sorted(set(without))))
        if self.features not in FEATURES:
            raise OptionError(
                "unknown choice", where="Switches(features=)", found=repr(self.features), expected=" or ".join(FEATURES)
            )
        for name in _SHARES:
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 1:
                raise OptionError(
                    "share out of range", where=f"Switches({name}=)", found=repr(value), expected="a number from 0 to 1"
                )
            object.__setattr__(self, name, float(value))
        if isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer)) or self.seed < 0:
            raise OptionError(
                "not a seed", where="Switches(seed=)", found=repr(self.seed), expected="a whole number, 0 or more"
            )
        object.__setattr__(self, "seed", int(self.seed))

    # -- to a data set ----------------------------------------------------------------------------------------------
    def apply(self, data: Dataset) -> Dataset:
        """Return ``data`` with the changes: same users, items, ids, item table, pictures, validation and test.

        If nothing is switched (the seed alone is nothing), ``data`` itself is returned.

        Raises:
            OptionError: ``without`` names a modality the data set does not have.
        """
        for name in self.without:
            if name not in data.features:
                raise OptionError(
                    "unknown modality",
                    where="Switches(without=)",
                    found=repr(name),
                    expected=f"some of: {', '.join(data.modalities) or 'none, the data set has no features'}",
                )
        if not self:
            return data
        features, missing = self._content(data)
        return replace(
            data, features=features, missing=missing, train=self._train(data), source=f"{data.source}; {self.words()}"
        )

    def _content(self, data: Dataset) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        features = {name: table for name, table in data.features.items() if name not in self.without}
        missing = {name: data.missing[name] for name in features}
        if self.features == "shuffled":
            order = self._stream("shuffled").permutation(data.n_items)
            other = np.empty_like(order)
            other[order] = np.roll(order, 1)  # one round through all items: nobody meets itself
            features = {name: table[other] for name, table in features.items()}
            missing = {name: flags[other] for name, flags in missing.items()}
        elif self.features != "own":
            features = {name: self._replaced(name, table, missing[name]) for name, table in features.items()}
        if self.missing:
            for name, table in features.items():
                order = self._stream("missing", name).permutation(data.n_items)
                there = order[~missing[name][order]]
                gone = there[: round(self.missing * len(there))]
                features[name], missing[name] = table.copy(), missing[name].copy()
                features[name][gone], missing[name][gone] = 0.0, True
        return features, missing

    def _replaced(self, name: str, table: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Return zeros or noise of a table's shape; a missing item's row stays zero."""
        if self.features == "zero" or missing.all():
            return np.zeros_like(table)
        there = table[~missing]
        noise = self._stream("random", name).standard_normal(table.shape, dtype=np.float32)
        noise = noise * there.std(0) + there.mean(0)
        noise[missing] = 0.0
        return noise

    def _train(self, data: Dataset) -> Interactions:
        train = data.train
        if self.cold:
            train = train.select(~np.isin(train.items, self._made_cold(data)))
        if self.keep < 1:
            order = self._stream("keep").permutation(len(data.train))  # drawn for all, so that `cold` does not change it
            if self.cold:
                order = order[~np.isin(data.train.items[order], self._made_cold(data))]
            first = np.unique(data.train.users[order], return_index=True)[1]  # what comes first of every user's stays
            rest = np.delete(order, first)
            kept = np.concatenate([order[first], rest[: max(0, round(self.keep * len(order)) - len(first))]])
            train = data.train.select(np.sort(kept))
        return train

    def _made_cold(self, data: Dataset) -> np.ndarray:
        """Return the items that lose their training interactions."""
        users, items = data.train.users, data.train.items
        by_item = np.argsort(items, kind="stable")
        takers = np.split(users[by_item], np.cumsum(data.item_counts)[:-1])
        left = data.user_counts.copy()
        warm = np.flatnonzero(~data.cold_items)
        gone: list[int] = []
        for item in self._stream("cold").permutation(warm):
            if len(gone) == round(self.cold * len(warm)):
                break
            if (left[takers[item]] > 1).all():  # each user stands there once: a pair is never twice in the data
                left[takers[item]] -= 1
                gone.append(int(item))
        return np.array(gone, dtype=np.int64)

    def _stream(self, *words: str) -> np.random.Generator:
        """Return the random stream of one switch."""
        return np.random.default_rng([self.seed, *"/".join(words).encode()])

    # -- to words and back ------------------------------------------------------------------------------------------
    def __bool__(self) -> bool:
        """Whether anything is switched."""
        return replace(self, seed=0) != Switches()

    def words(self) -> str:
        """Return what is changed in one phrase, such as "without image, features shuffled (seed 3)"."""
        if not self:
            return "data as they are"
        parts = []
        if self.without:
            parts.append("without " + " and ".join(self.without))
        if self.features != "own":
            parts.append(f"features {self.features}")
        if self.missing:
            parts.append(f"features missing of {_percent(self.missing)} of the items")
        if self.cold:
            parts.append(f"{_percent(self.cold)} of the warm items made cold")
        if self.keep < 1:
            parts.append(f"{_percent(self.keep)} of the training interactions kept")
        return ", ".join(parts) + (f" (seed {self.seed})" if self.seed else "")

    def to_json(self) -> dict[str, Any]:
        """Return all fields as a plain dictionary."""
        return asdict(self) | {"without": list(self.without)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Switches:
        """Return the switches that :meth:`to_json` wrote; what is left out has its default.

        Raises:
            OptionError: not a dictionary, an unknown key, a value outside what is allowed.
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(value, Mapping):
            raise OptionError("not a dictionary", where="Switches.from_json", found=repr(value), expected=", ".join(known))
        for key in value:
            if key not in known:
                raise OptionError("no such switch", where="Switches.from_json", found=repr(key), expected=", ".join(known))
        return cls(**value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
