"""Several data sets side by side as one: what a model reads that is to be trained over many shops at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmrec_teach.data.dataset import Dataset, Interactions
from mmrec_teach.data.validation import SPLITS
from mmrec_teach.errors import DataError

COLUMN = "source"
"""Column of a union's item table: the name of the data set that an item came from."""


def union(sources: Sequence[Dataset], name: str | None = None) -> Dataset:
    """Put data sets side by side: no user and no item of one is one of another.

    Users and items keep their order, those of the second set behind those of the first; their ids are ``NAME:ID``. Splits, times and
    missing flags stay as they are. Features that every set has are kept, so are the columns of the item tables; pictures where all
    have one size, counts where all have them. The planted truth of a generated set is not carried over.

    A table of one name must come from one encoder in all the sets: that its width is the same is all that can be checked.

    Args:
        sources: the data sets, of different names.
        name: of the whole; None: their names with ``+`` between.

    Returns:
        A data set; :func:`item_source` and the column ``source`` of its items tell where an item came from. Of a single set it is
        that set with new ids.

    Raises:
        DataError: no data set, two of one name, a feature table of another width than the first set's, or none that all have.
    """
    if not sources:
        raise DataError("nothing to put side by side", where="union", expected="at least one data set")
    names = [data.name for data in sources]
    name = "+".join(names) if name is None else name
    if twice := [n for k, n in enumerate(names) if n in names[:k]]:
        raise DataError("two data sets of one name", where="union", found=repr(twice[0]), expected="each set once")
    shared = _shared_tables(sources)
    shapes = {None if data.images is None else data.images.shape[1:] for data in sources}
    users, items = (np.cumsum([0, *(getattr(d, n) for d in sources)]) for n in ("n_users", "n_items"))
    parts = {
        split: Interactions.concatenate(
            *(
                Interactions(part.users + u, part.items + i, part.timestamps)
                for part, u, i in zip((data.split(split) for data in sources), users, items, strict=False)
            )
        )
        for split in SPLITS
    }
    columns = [column for column in sources[0].items if all(column in data.items for data in sources)]
    table = pd.concat([data.items[columns] for data in sources], ignore_index=True)
    table[COLUMN] = np.repeat(np.array(names, dtype=object), np.diff(items))
    counts = {
        kind: np.concatenate([getattr(data, kind) for data in sources])
        for kind in ("exposures", "clicks")
        if all(getattr(data, kind) is not None for data in sources)
    }
    return Dataset(
        name=name,
        user_ids=np.array([f"{data.name}:{one}" for data in sources for one in data.user_ids]),
        item_ids=np.array([f"{data.name}:{one}" for data in sources for one in data.item_ids]),
        **parts,
        features={m: np.concatenate([data.features[m] for data in sources]) for m in shared},
        missing={m: np.concatenate([data.missing[m] for data in sources]) for m in shared},
        items=table,
        images=np.concatenate([data.images for data in sources]) if len(shapes) == 1 and None not in shapes else None,
        **counts,
        time_is_order=any(data.time_is_order for data in sources),
        source=f"side by side: {', '.join(names)}",
    )


def item_source(data: Dataset) -> np.ndarray:
    """Return (I,) int64: which of its data sets each item of a :func:`union` came from, 0 for the first; all 0 where it is none."""
    if COLUMN not in data.items:
        return np.zeros(data.n_items, dtype=np.int64)
    return pd.factorize(data.items[COLUMN])[0].astype(np.int64)


def _shared_tables(sources: Sequence[Dataset]) -> list[str]:
    """Return the names of the feature tables that all have, in the first set's order."""
    first = sources[0]
    shared = [m for m in first.modalities if all(m in data.features for data in sources)]
    for data in sources:
        for m in shared:
            found, expected = data.features[m].shape[1], first.features[m].shape[1]
            if found != expected:
                raise DataError(
                    "a feature table of another width",
                    where=f"data set {data.name!r}, features[{m!r}]",
                    found=f"{found} columns",
                    expected=f"{expected} as in {first.name!r}",
                    fix="Make the features of all sets with one encoder",
                )
        if not shared and any(d.features for d in sources) and set(data.features) != set(first.features):
            raise DataError(
                "no feature table that all the sets have",
                where=f"data set {data.name!r}",
                found=", ".join(data.features) or "no features",
                expected=f"some of: {', '.join(first.features) or 'none'}, as {first.name!r} has",
            )
    return shared
