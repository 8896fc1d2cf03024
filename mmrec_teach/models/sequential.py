"""What all models that read histories share: whose history is known, and scores from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.data.sequences import LENGTH, Histories, histories
from mmrec_teach.models.base import Recommender
from mmrec_teach.models.layers import whole

BLOCK = 512
"""Users encoded at a time where a table of all users is wanted."""


class SequenceRecommender(Recommender):
    r"""A user is what she took, in order: :math:`h = \mathrm{encode}(i_1, \dots, i_n)`, :math:`s = \mathrm{match}(h)`.

    There are no user parameters. Scores read the users' training histories; inside ``with model.knowing("train", "valid"):`` those
    of both splits, as is right when test is judged. :func:`~mmrec_teach.evaluation.evaluate` sees to it.

    Subclasses implement :meth:`encode`, :meth:`match`, ``losses`` and ``views``.

    Args:
        data: its interactions need an order.
        length: items of a history that are read, the latest ones.
        seed: as for every model.

    Raises:
        DataError: the interactions have no order.
    """

    batches = "users"

    def __init__(self, data: Dataset, *, length: int = LENGTH, seed: int = 0):
        super().__init__(data, seed=seed)
        self.length = whole(f"{type(self).__name__}(length=)", length, 1)
        self.data = data
        self._known: dict[tuple[str, ...], Histories] = {("train",): histories(data)}
        self._told: tuple[str, ...] = ("train",)

    # -- what a model of this kind says ---------------------------------------------------------------------------------
    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the users' vectors (B, d) after histories ``items`` (B, L) of ``lengths`` (B,), as in a SequenceBatch."""
        raise NotImplementedError

    def match(self, h: Tensor) -> Tensor:
        """Return the scores (B, I) of all items for user vectors ``h`` (B, d)."""
        raise NotImplementedError

    # -- histories --------------------------------------------------------------------------------------------------------
    @contextmanager
    def knowing(self, *splits: str) -> Iterator[None]:
        """Score from the histories that ``splits`` tell together.

        Raises:
            DataError: the interactions of these splits have no order.
        """
        if splits not in self._known:
            self._known = {**self._known, splits: histories(self.data, *splits)}
        before, self._told = self._told, splits
        try:
            yield
        finally:
            self._told = before

    def history(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is known of ``users`` (B,): items (B, L) int64, padded behind, and lengths (B,); length 0 for nothing."""
        known, users = self._known[self._told], users.cpu().numpy()
        places, lengths = known.windows(users, known.starts[users + 1], self.length)
        items = torch.from_numpy(known.items[places])
        return items.to(self.device), torch.from_numpy(lengths).to(self.device)

    def score(self, users: Tensor) -> Tensor:
        with self.evaluating():
            return self.match(self.encode(*self.history(users)))

    def user_vectors(self) -> Tensor:
        """Return :meth:`encode` of every user's history (U, d), without gradient."""
        with self.evaluating():
            users = torch.arange(self.n_users).split(BLOCK)
            return torch.cat([self.encode(*self.history(part)) for part in users])


def inside(items: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, L) bool: which places hold an item. The padding stands behind."""
    return torch.arange(items.shape[1], device=items.device) < lengths[:, None]


def last(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the rows (B, d) of ``x`` (B, L, d) at each history's last item; of an empty history the first row."""
    return x[torch.arange(len(x), device=x.device), (lengths - 1).clamp_min(0)]
