"""What a learned model must beat: chance, popularity, item neighbours; and what none can beat, the planted truth."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models.base import Recommender


class _Baseline(Recommender):
    """A model with nothing to train: fitted at construction, no loss terms, no views."""

    trainable: ClassVar[bool] = False
    needs_negatives: ClassVar[bool] = False
    made_of: ClassVar[str] = ""
    parts_note: ClassVar[str] = "nothing is learned from IDs or content"
    new_note: ClassVar[str] = "it knows items by their interactions only"

    def unsearchable(self) -> str:
        return f"its score is {self.made_of}"

    def __init__(self, data: Dataset, *, seed: int = 0):
        super().__init__(data, seed=seed)
        self.register_buffer("_anchor", torch.zeros(0), persistent=False)  # knows the device

    def losses(self, batch, active=None) -> dict[str, Tensor]:
        return {}

    def views(self) -> dict[str, Tensor]:
        return {}


class Random(_Baseline):
    """A score drawn once for every user and item from ``seed``: the floor of every metric."""

    made_of = "a number drawn for every pair"

    def __init__(self, data: Dataset, *, seed: int = 0):
        super().__init__(data, seed=seed)
        self.seed = seed

    def score(self, users: Tensor) -> Tensor:
        # A hash (splitmix64) of user, item and seed, so that a pair's score does not depend on who else is asked for.
        with np.errstate(over="ignore"):
            pair = users.cpu().numpy().astype(np.uint64)[:, None] * np.uint64(self.n_items)
            x = pair + np.arange(self.n_items, dtype=np.uint64) + np.uint64(self.seed % 2**31) * np.uint64(0x9E3779B97F4A7C15)
            x += np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x ^= x >> np.uint64(31)
        uniform = (x >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
        return torch.from_numpy(uniform).to(self.device)


class Popularity(_Baseline):
    """Everyone gets the same list: items by their number of training interactions."""

    made_of = "a count an item, the same for everybody"

    def __init__(self, data: Dataset, *, seed: int = 0):
        super().__init__(data, seed=seed)
        self.register_buffer("counts", torch.from_numpy(data.item_counts.astype(np.float32)))

    def score(self, users: Tensor) -> Tensor:
        return self.counts.expand(len(users), -1)


class Oracle(_Baseline):
    """Ranks by the planted liking of a generated data set: the ceiling no model can honestly pass.

    Raises:
        DataError: the data set has no planted truth.
    """

    made_of = "the planted liking of every pair"

    def __init__(self, data: Dataset, *, seed: int = 0):
        super().__init__(data, seed=seed)
        if data.truth is None:
            raise DataError(
                "this data set has no planted truth",
                where=f"data set {data.name!r}",
                expected="a generated data set such as the bazaar",
                fix="Leave the oracle out on real data",
            )
        self.register_buffer("utility", torch.from_numpy(np.array(data.truth.utility, dtype=np.float32)))

    def score(self, users: Tensor) -> Tensor:
        return self.utility[users]


class ItemKNN(_Baseline):
    r"""Item neighbours by co-purchase: :math:`s_{ui} = \sum_{j\in N_u} S_{ji}`, S the shrunk cosine of interaction columns.

    Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; shrinkage as usual in later practice.

    Args:
        k: neighbours kept per item.
        shrink: added to the cosine's denominator, so that one shared buyer alone is no proof.
    """

    made_of = "a sum of likenesses to what the user took"

    def __init__(self, data: Dataset, *, k: int = 100, shrink: float = 10.0, seed: int = 0):
        super().__init__(data, seed=seed)
        if k < 1 or shrink < 0:
            raise OptionError("out of range", where="ItemKNN", found=f"k={k}, shrink={shrink}", expected="k >= 1, shrink >= 0")
        self._train = data.matrix("train")
        together = (self._train.T @ self._train).tocsr()
        norm = np.sqrt(together.diagonal())
        together.setdiag(0)
        together.eliminate_zeros()
        together = together.tocoo()
        cosine = together.data / (norm[together.row] * norm[together.col] + shrink)
        # rows sorted by (row, -cosine, column): the first k of each row stay
        order = np.lexsort((together.col, -cosine, together.row))
        row = together.row[order]
        starts = np.searchsorted(row, np.arange(self.n_items))
        keep = order[np.arange(len(order)) - starts[row] < k]
        # column j of S holds the neighbours of item j: what a user who took j is pointed to
        self._similar = sp.csr_array(
            (cosine[keep].astype(np.float32), (together.row[keep], together.col[keep])), shape=(self.n_items, self.n_items)
        )

    def score(self, users: Tensor) -> Tensor:
        rows = (self._train[users.cpu().numpy()] @ self._similar).toarray()
        return torch.from_numpy(rows).to(self.device)
