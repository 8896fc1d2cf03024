"""A user's list of best items, and how it differs from an earlier one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from mmrec_teach.data import Dataset
from mmrec_teach.models import Recommender
from mmrec_teach.training.state import ModelState, give_back, take, undisturbed
from mmrec_teach.views.updates import TopItem, TopList


@dataclass(frozen=True, eq=False)
class Reference:
    """A former ranking of one user.

    Attributes:
        user: whose.
        ranking: (n,) int32 items, best first, training items left out.
        words: when that was.
    """

    user: int
    ranking: np.ndarray
    words: str


@dataclass(frozen=True, eq=False)
class Memory:
    """A model as it was at one moment: anybody's list can be asked for later. Nobody may train the model meanwhile.

    Attributes:
        model: the model object, which may have been trained on since.
        state: what it was.
        data: what it was trained on.
        known: user -> ranking, of those asked for so far.
    """

    model: Recommender
    state: ModelState
    data: Dataset
    known: dict[int, np.ndarray] = field(default_factory=dict)

    def ranking(self, user: int) -> np.ndarray:
        """Return (n,) int32, the user's ranking at that moment."""
        if user not in self.known:
            now = take(self.model)
            try:
                give_back(self.model, self.state)
                self.known[user] = ranking(self.data, user, scores_of(self.model, user))
            finally:
                give_back(self.model, now)
        return self.known[user]


def scores_of(model: Recommender, user: int) -> np.ndarray:
    """Return (I,) float32 scores of one user; the model stays as it was found."""
    with undisturbed(model), model.evaluating():
        return model.score(torch.tensor([user], device=model.device))[0].detach().float().cpu().numpy().copy()


def ranking(data: Dataset, user: int, scores: np.ndarray) -> np.ndarray:
    """Return (n,) int32 items by descending score, those the user took in training left out; equal scores by index."""
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    taken = data.train.items[data.train.users == user]
    return order[~np.isin(order, taken)]


def top_list(data: Dataset, user: int, scores: np.ndarray, k: int = 10, reference: Reference | None = None) -> TopList:
    """Return the user's ``k`` best items and what entered and left since ``reference``.

    Args:
        data: what the model was trained on.
        user: an index.
        scores: (I,) the model's scores for this user.
        k: how many.
        reference: a former ranking of the same user.
    """
    order = ranking(data, user, scores)
    place = np.zeros(data.n_items, np.int64)
    place[order] = np.arange(1, len(order) + 1)
    before = np.zeros(data.n_items, np.int64)
    if reference is not None:
        before[reference.ranking] = np.arange(1, len(reference.ranking) + 1)
    liked = set(data.valid.items[data.valid.users == user].tolist())
    named = data.items is not None and "title" in data.items

    def entry(item: int) -> TopItem:
        title = data.items["title"].iloc[item] if named else ""
        title = str(title) if isinstance(title, str) and title else str(data.item_ids[item])
        return TopItem(
            item, title, float(scores[item]), int(place[item]), int(before[item]) or None, "valid" if item in liked else None
        )

    items = tuple(entry(int(i)) for i in order[:k])
    left = ()
    if reference is not None:
        left = tuple(entry(int(i)) for i in reference.ranking[:k] if not 0 < place[i] <= k)
    return TopList(user, items, left, reference.words if reference is not None else "")
