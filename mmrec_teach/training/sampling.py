"""Negative sampling, vectorised and exact: a sampled negative is never a training positive of its user."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.data.sequences import Histories
from mmrec_teach.errors import DataError, OptionError


class NegativeSampler:
    """Draws, for each user, items uniformly among those of a pool that the user did not take in training.

    A pair (u, i) is the key u·I + i; whether it is a positive is one binary search in the sorted keys. Collisions are drawn again;
    users who took nearly everything, for whom that would take long, draw from their explicit list of untaken items.

    Args:
        data: its training split says what is positive.
        pool: ``"warm"``: items with a training interaction (an item not yet sold was not there to be passed over);
            ``"all"``: the whole catalogue, which teaches a model to rank cold items last.

    Raises:
        DataError: some user took every item of the pool.
    """

    ROUNDS = 20

    def __init__(self, data: Dataset, pool: str = "warm"):
        if pool not in ("warm", "all"):
            raise OptionError("unknown pool of negatives", where="negatives", found=repr(pool), expected="warm or all")
        self.n_items, self.pool = data.n_items, pool
        candidates = np.arange(data.n_items) if pool == "all" else np.flatnonzero(data.item_counts > 0)
        self.candidates = torch.from_numpy(candidates.astype(np.int64))
        self.keys = torch.from_numpy(np.sort(data.train.users * data.n_items + data.train.items))
        # every training positive is warm, so both pools contain all of a user's positives
        full = np.flatnonzero(data.user_counts >= len(candidates))
        if len(full):
            raise DataError(
                "a user took every item, so there is no negative to draw",
                where=f"data set {data.name!r}, train",
                found=f"user {full[0]} ({data.user_ids[full[0]]}) with all {len(candidates)} items",
                expected="at least one untaken item per user",
            )

    def is_positive(self, users: Tensor, items: Tensor) -> Tensor:
        """Return (n,) bool: whether each pair is a training interaction."""
        keys = users * self.n_items + items
        places = torch.searchsorted(self.keys, keys).clamp_max(len(self.keys) - 1)
        return self.keys[places] == keys

    def sample(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """Return (n,) int64 negatives, one per entry of ``users`` (n,), uniform over the user's untaken items of the pool."""
        draws = torch.randint(len(self.candidates), (len(users),), generator=generator)
        items = self.candidates[draws]
        open_rows = torch.arange(len(users))
        for _ in range(self.ROUNDS):
            open_rows = open_rows[self.is_positive(users[open_rows], items[open_rows])]
            if not len(open_rows):
                return items
            draws = torch.randint(len(self.candidates), (len(open_rows),), generator=generator)
            items[open_rows] = self.candidates[draws]
        open_rows = open_rows[self.is_positive(users[open_rows], items[open_rows])]
        for user in users[open_rows].unique():  # nearly everything taken: write the list down
            untaken = self.candidates[~self.is_positive(user.expand(len(self.candidates)), self.candidates)]
            mine = open_rows[users[open_rows] == user]
            items[mine] = untaken[torch.randint(len(untaken), (len(mine),), generator=generator)]
        return items


def epoch_batches(data: Dataset, batch_size: int, sampler: NegativeSampler | None, generator: torch.Generator):
    """Yield ``(users, items, negatives)`` over all training interactions once, in random order, on the CPU.

    The last batch may be smaller. Negatives of the whole epoch are drawn at once: one search instead of one a batch.
    """
    order = torch.randperm(len(data.train), generator=generator)
    return ordered_batches(data.train.select(order.numpy()), batch_size, sampler, generator)


def ordered_batches(events: Interactions, batch_size: int, sampler: NegativeSampler | None, generator: torch.Generator):
    """Yield ``(users, items, negatives)`` of ``events`` once, in the order in which they stand, as :func:`epoch_batches` does."""
    users, items = torch.from_numpy(events.users.copy()), torch.from_numpy(events.items.copy())
    negatives = None if sampler is None else sampler.sample(users, generator)
    for start in range(0, len(users), batch_size):
        part = slice(start, start + batch_size)
        yield users[part], items[part], None if negatives is None else negatives[part]


def sequence_batches(
    told: Histories, rows: str, length: int, batch_size: int, sampler: NegativeSampler | None, generator: torch.Generator
):
    """Yield ``(users, items, lengths, targets, negatives)`` of :class:`SequenceBatch` over all histories once, in random order.

    Args:
        told: the training histories.
        rows: ``"prefixes"``: one row for each item that has something before it. ``"users"``: one row for each user with two
            items or more, the latest ``length`` + 1 of them; every item but the first of these is a target.
        length: longest history read.
        batch_size: targets a batch. With ``"users"`` about so many: a user is never cut in two.
        sampler: draws the negatives of the whole epoch at once; None: no negatives.
        generator: of order and negatives.
    """
    if rows == "prefixes":
        stops = told.prefixes()
        users, counts = told.users[stops], np.ones(len(stops), dtype=np.int64)
    else:
        users = np.flatnonzero(told.lengths > 1)
        stops = told.starts[users + 1] - 1
        counts = np.minimum(stops - told.starts[users], length)
    order = torch.randperm(len(users), generator=generator).numpy()
    users, stops, counts = users[order], stops[order], counts[order]
    ends = np.cumsum(counts)
    drawn = None if sampler is None else sampler.sample(torch.from_numpy(np.repeat(users, counts)), generator).numpy()
    number = (ends - counts) // batch_size  # the batch a row falls into: that of its first target
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(users)]])
    for a, b in pairwise(cuts):
        places, lengths = told.windows(users[a:b], stops[a:b], length)
        column = np.arange(places.shape[1])
        inside = column < lengths[:, None]
        asked = inside if rows == "users" else column == lengths[:, None] - 1
        items = np.where(inside, told.items[places], 0)
        targets = np.full_like(items, -1)
        targets[asked] = told.items[places[asked] + 1]
        negatives = None
        if drawn is not None:
            negatives = np.full_like(items, -1)
            negatives[asked] = drawn[ends[a] - counts[a] : ends[b - 1]]
        parts = (users[a:b], items, lengths, targets, negatives)
        yield tuple(None if part is None else torch.from_numpy(part) for part in parts)
