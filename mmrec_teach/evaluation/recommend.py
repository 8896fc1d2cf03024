"""What a trained model would show somebody, and why: the list, what of a score is ID and what content, the nearest liked items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.data.dataset import Interactions
from mmrec_teach.errors import OptionError, check_whole, guess
from mmrec_teach.evaluation.retrieval import index_of, query_table
from mmrec_teach.models.base import Recommender
from mmrec_teach.models.sequential import SequenceRecommender
from mmrec_teach.ops.index import VectorIndex
from mmrec_teach.ops.topk import top_k

KNOWN = ("train", "valid")
"""The splits that tell what a user has; test stays to be found."""

_names: WeakKeyDictionary[Dataset, tuple[str, ...]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Suggestion:
    """One line of a list.

    Attributes:
        item: its number.
        score: higher is better; only scores of one list can be compared.
        parts: ``{"id": …, "content": …}``, which add up to the model's score; None where it has no such parts.
        near: (item, cosine) of the liked items whose final vectors are nearest, nearest first.
        found: the user took it in test, which the model does not know.
    """

    item: int
    score: float
    parts: dict[str, float] | None
    near: tuple[tuple[int, float], ...]
    found: bool

    @property
    def shares(self) -> dict[str, float] | None:
        """The parts as shares of their sum; None where there are none or they pull in opposite directions."""
        if self.parts is None or min(self.parts.values()) * max(self.parts.values()) < 0 or not sum(self.parts.values()):
            return None
        return {name: value / sum(self.parts.values()) for name, value in self.parts.items()}


@dataclass(frozen=True)
class Suggestions:
    """A list with what it was made from.

    Attributes:
        user: whose it is; None for items given by hand.
        liked: item numbers, oldest first where the data have an order.
        best: the list.
        how: one sentence on where the list comes from.
        notes: sentences on what is not shown, and why.
    """

    user: int | None
    liked: tuple[int, ...]
    best: tuple[Suggestion, ...]
    how: str
    notes: tuple[str, ...] = ()


def recommend(
    model: Recommender, data: Dataset, users: Sequence[int], *, k: int = 10, near: int = 2, index: VectorIndex | None = None
) -> list[Suggestions]:
    """Return the k best items for each of ``users``, those they took in train and valid left out.

    Args:
        model: any; one whose score is an inner product is searched as vectors, of others every item is scored.
        data: what it was trained on.
        users: numbers.
        k: length of the lists.
        near: how many liked items to name beside each suggestion.
        index: of :func:`~mmrec_teach.evaluation.retrieval.index_of`; None: an exact one is made.

    Raises:
        OptionError: ``k`` or ``near`` out of range, an index for a model without vectors.
    """
    _check(k, near)
    who = torch.as_tensor(list(users), dtype=torch.int64)
    liked = [taken(data, int(user)) for user in who]
    with model.knowing(*KNOWN) if isinstance(model, SequenceRecommender) else nullcontext(), model.evaluating():
        if _searchable(model, index):
            scores, items = _search(model, model.user_vectors(who), k, liked, index)
        else:
            scores, items = _best(model.score(who), k, liked)
        parts, table = model.parts(who), _final(model)
    held_out = [set(data.test.items[data.test.users == int(user)].tolist()) for user in who]
    return [
        Suggestions(
            int(user), tuple(had.tolist()), _lines(row, scores, items, parts, table, had, near, later), *_words(model, index)
        )
        for row, (user, had, later) in enumerate(zip(who, liked, held_out, strict=True))
    ]


def recommend_after(
    model: Recommender, data: Dataset, items: Sequence[int], *, k: int = 10, near: int = 2, index: VectorIndex | None = None
) -> Suggestions:
    """Return the k best items after a history given by hand, or most like the given items.

    A model that reads histories takes ``items`` as one. Any other with item vectors answers with the items whose final vectors
    have the largest cosine with the mean of the given ones' directions.

    Args:
        model, data, k, near: as in :func:`recommend`.
        items: numbers, oldest first; they are left out of the list.
        index: for models that read histories, as in :func:`recommend`.

    Raises:
        OptionError: no items, ``k`` or ``near`` out of range, a model without item vectors, an index for one that does not read histories.
    """
    _check(k, near)
    if not len(items):
        raise OptionError("no items", where="items", expected="at least one")
    had = np.array(list(dict.fromkeys(int(item) for item in items)), dtype=np.int64)
    reads = isinstance(model, SequenceRecommender)
    parts = None
    with model.evaluating():
        table = _final(model)
        if reads:
            latest = torch.tensor([list(items)[-model.length :]], device=model.device)
            h = model.encode(latest, torch.tensor([latest.shape[1]], device=model.device))
            if _searchable(model, index):
                scores, found = _search(model, h, k, [had], index)
            else:
                scores, found = _best(model.match(h), k, [had])
            parts, (how, notes) = model.parts_of(h), _words(model, index)
            how = f"The items were read as a history. {how}"
        elif index is not None:
            raise OptionError(
                "an index of scores does not answer by cosine", where=type(model).__name__, fix="Leave the index out"
            )
        elif table is None:
            raise OptionError(
                "cannot start from items",
                where=type(model).__name__,
                found=model.unsearchable(),
                expected="a model with item vectors, or one that reads histories",
            )
        else:
            query = F.normalize(table[had], dim=1).mean(0, keepdim=True)
            scores, found = VectorIndex.build(table, metric="cosine").search(query, k, exclude=[had])
            how = "Items like these: the score is the cosine of the final vectors with the mean of theirs."
            notes = ("Such a cosine is not split into ID and content.",)
    return Suggestions(None, tuple(had.tolist()), _lines(0, scores, found, parts, table, had, near, set()), how, notes)


def taken(data: Dataset, user: int) -> np.ndarray:
    """Return (n,) int64, what ``user`` took in train and valid, oldest first where the data have an order."""
    known = Interactions.concatenate(*(data.split(name) for name in KNOWN))
    mine = known.select(known.users == user)
    return mine.items if mine.timestamps is None else mine.items[np.argsort(mine.timestamps, kind="stable")]


def item_names(data: Dataset) -> tuple[str, ...]:
    """Return every item's name: its title, with the id in brackets where several share it, or the id alone."""
    if data not in _names:
        titles, ids = _titles(data), data.item_ids.tolist()
        often = Counter(titles)
        _names[data] = tuple(t if often[t] == 1 else f"{t} ({i})" for t, i in zip(titles, ids, strict=True))
    return _names[data]


def item_name(data: Dataset, item: int) -> str:
    """Return one of :func:`item_names`; of a number that the data do not have, words that say so."""
    return item_names(data)[item] if item < data.n_items else f"new item {item}"


def _titles(data: Dataset) -> list[str]:
    ids = data.item_ids.tolist()
    if data.items is None or "title" not in data.items:
        return ids
    return [t or i for t, i in zip(data.items["title"].fillna("").astype(str), ids, strict=True)]


def user_number(data: Dataset, name: str) -> int:
    """Return the number of the user whose id is ``name``.

    Raises:
        OptionError: there is none; it names the most similar one.
    """
    found = np.flatnonzero(data.user_ids == name)
    if not len(found):
        some = f"an id such as {data.user_ids[0]}"
        raise OptionError(
            "no such user", where=data.name, found=repr(name), expected=some, fix=guess(name, data.user_ids.tolist())
        )
    return int(found[0])


def item_number(data: Dataset, name: str) -> int:
    """Return the number of the item whose id, or else whose title, is ``name``.

    Raises:
        OptionError: there is none, or several have that title; it names the most similar one.
    """
    found = np.flatnonzero(data.item_ids == name)
    titles = _titles(data)
    if not len(found):
        found = np.flatnonzero([title.casefold() == name.casefold() for title in titles])
    if len(found) > 1:
        ids = ", ".join(str(data.item_ids[item]) for item in found[:5])
        raise OptionError("several items have that title", where=data.name, found=repr(name), expected=f"an id: {ids}")
    if not len(found):
        raise OptionError(
            "no such item",
            where=data.name,
            found=repr(name),
            expected=f"an id or title such as {data.item_ids[0]}",
            fix=guess(name, [*data.item_ids.tolist(), *titles]),
        )
    return int(found[0])


def to_json(data: Dataset, lists: Sequence[Suggestions]) -> list[dict[str, Any]]:
    """Return lists as plain values: ids and names in place of numbers."""

    def named(item: int, **more: Any) -> dict[str, Any]:
        return {"item": str(data.item_ids[item]) if item < data.n_items else None, "name": item_name(data, item), **more}

    return [
        {
            "user": None if one.user is None else str(data.user_ids[one.user]),
            "how": one.how,
            "liked": [named(item) for item in one.liked],
            "suggestions": [
                named(
                    s.item,
                    rank=rank,
                    score=s.score,
                    parts=s.parts,
                    shares=s.shares,
                    near=[named(item, cosine=cosine) for item, cosine in s.near],
                    taken_in_test=s.found,
                )
                for rank, s in enumerate(one.best, start=1)
            ],
            "notes": list(one.notes),
        }
        for one in lists
    ]


# -- how -------------------------------------------------------------------------------------------------------------------
def _check(k: int, near: int) -> None:
    for name, value, least in (("k", k, 1), ("near", near, 0)):
        check_whole(name, value, least)


def _searchable(model: Recommender, index: VectorIndex | None) -> bool:
    if index is not None:
        model.check_searchable()
    return not model.unsearchable()


def _search(model: Recommender, h: Tensor, k: int, liked: list[np.ndarray], index: VectorIndex | None) -> tuple[Tensor, Tensor]:
    return (index_of(model) if index is None else index).search(query_table(model, h), k, exclude=liked)


def _best(scores: Tensor, k: int, liked: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    scores = scores.clone()
    for row, had in enumerate(liked):
        scores[row, had] = -torch.inf
    items = top_k(scores, k)
    return scores.gather(1, items.clamp_min(0)), items


def _final(model: Recommender) -> Tensor | None:
    """Return the items' final vectors (I, d); None for a model without."""
    return model.item_vectors() if not model.unsearchable() else model.views().get("item/final")


def _words(model: Recommender, index: VectorIndex | None) -> tuple[str, tuple[str, ...]]:
    """Return where a list comes from, and what is not shown and why."""
    if why := model.unsearchable():
        how = f"Every item was scored, without a search among vectors: {why}."
    else:
        how = f"A search among {model.n_items if index is None else len(index):,} item vectors, "
        how += "exact." if index is None or index.kind in ("exact", "flat") else f"approximate ({index.kind})."
    if model.parts_note:
        return how, (f"A score is not split into ID and content: {model.parts_note}.",)
    return how, ("ID and content add up to the score; their shares stand where both pull the same way.",)


def _lines(
    row: int,
    scores: Tensor,
    items: Tensor,
    parts: dict[str, Tensor] | None,
    table: Tensor | None,
    had: np.ndarray,
    near: int,
    later: set[int],
) -> tuple[Suggestion, ...]:
    lines, mine = [], None if table is None else F.normalize(table[had], dim=1)
    for score, item in zip(scores[row].tolist(), items[row].tolist(), strict=True):
        if item < 0:
            break
        known = table is not None and item < len(table)
        split = {name: float(part[row, item]) for name, part in parts.items()} if parts and known else None
        nearest = ()
        if known and near and len(had):
            cosine = mine @ F.normalize(table[item], dim=0)
            best = top_k(cosine[None], min(near, len(had)))[0]
            nearest = tuple((int(had[i]), float(cosine[i])) for i in best)
        lines.append(Suggestion(item, score, split, nearest, item in later))
    return tuple(lines)
