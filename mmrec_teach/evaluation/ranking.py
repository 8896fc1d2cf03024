"""Full ranking: every item is ranked for every user who took something in the split, and the lists are judged.

Scores are computed block by block and only the best K items are kept, so memory does not grow with users x items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.data.dataset import SPLITS
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.evaluation import metrics as m
from mmrec_teach.evaluation.statistics import Comparison, bootstrap_interval, paired_comparison
from mmrec_teach.ops.topk import TIES, top_k

DEFAULT_MASK = {"train": (), "valid": ("train",), "test": ("train", "valid")}
HISTORY = {"train": ("train",), "valid": ("train",), "test": ("train", "valid")}
"""What a model that reads histories is told of each user before it is judged on a split, whatever is masked."""


# -- the result -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Evaluation:
    """What full ranking found. Rows of every per-user array are the judged users: those with something in the split.

    Attributes:
        split: "valid" or "test" (or "train").
        mask: splits whose items were taken out of each user's ranking.
        ties: the rule for equal scores.
        ks: cut-offs, ascending.
        users: (n,) int64 judged users, ascending.
        n_relevant: (n,) int64 items each took in the split.
        per_user: "recall@20" -> (n,) float64, for recall, ndcg, precision, map, mrr, hitrate at every cut-off.
        topk: (n, max(ks)) int64 recommended items, best first, -1 where nothing was left.
        beyond: "coverage@20", "gini@20", "novelty@20" -> float, about all lists together.
        relevant: (2, m) int64 the judged pairs: row of ``users``, item.
        relevant_ranks: (m,) int64 place (from 1) of each such item in the user's list, 0 if not in it.
        item_counts: (I,) int64 training interactions per item.
        cold_topk: (c, max(ks)) int64 best *cold* items for users with a relevant cold item, ranked among cold items only.
        cold_rows: (c,) int64 rows of ``users`` these belong to.
        data: the data set's name.
    """

    split: str
    mask: tuple[str, ...]
    ties: str
    ks: tuple[int, ...]
    users: np.ndarray
    n_relevant: np.ndarray
    per_user: dict[str, np.ndarray]
    topk: np.ndarray
    beyond: dict[str, float]
    relevant: np.ndarray
    relevant_ranks: np.ndarray
    item_counts: np.ndarray
    cold_topk: np.ndarray
    cold_rows: np.ndarray
    data: str = ""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        """How many items were ranked."""
        return len(self.item_counts)

    def mean(self, metric: str = "recall@20") -> float:
        """Return the mean of ``metric`` over the judged users (or the value of a metric of all lists).

        Raises:
            OptionError: a metric that was not computed.
        """
        if metric in self.beyond:
            return self.beyond[metric]
        return float(self._values(metric).mean())

    def means(self) -> dict[str, float]:
        """Return every metric's mean by name."""
        return {name: float(values.mean()) for name, values in self.per_user.items()} | dict(self.beyond)

    def interval(
        self, metric: str = "recall@20", level: float = 0.95, n_boot: int = 1000, seed: int = 0
    ) -> tuple[float, float]:
        """Return the bootstrap interval over users of the mean of a per-user metric.

        Raises:
            OptionError: a metric that is not per user, a level outside (0, 1).
        """
        return bootstrap_interval(self._values(metric), level, n_boot, seed)

    def by_frequency(self, edges: Sequence[int] | None = None, k: int | None = None) -> pd.DataFrame:
        """Return recall and exposure by how often items occur in training: the long-tail table.

        Args:
            edges: ascending lowest counts of the buckets after the cold one; (1, 10, 50) means 0 | 1-9 | 10-49 | 50 and more.
                By default the quintiles of the warm items' counts, so that buckets hold about equally many items.
            k: the cut-off; 20 if it was evaluated, else the largest.

        Returns:
            One row a bucket, rarest first: ``bucket`` (label), ``low``, ``high`` (counts, both included), ``items``,
            ``relevant`` (judged interactions with these items), ``recall@K`` (share of those interactions found, NaN if there
            are none) and ``share`` (of all recommendations made).

        Raises:
            OptionError: edges that are not ascending positive numbers, a cut-off that was not evaluated.
        """
        k = self._cutoff(k)
        counts = self.item_counts
        if edges is None:
            warm = counts[counts > 0]
            edges = np.unique(np.quantile(warm, [0.2, 0.4, 0.6, 0.8], method="higher")) if len(warm) else np.array([1])
            edges = np.unique(np.concatenate([[1], edges]))
        edges = np.asarray(edges)
        if edges.ndim != 1 or len(edges) == 0 or edges[0] < 1 or (np.diff(edges) <= 0).any():
            raise OptionError(
                "not ascending positive counts", where="edges", found=edges.tolist(), expected="such as (1, 10, 50)"
            )
        if edges[0] > 1:
            edges = np.concatenate([[1], edges])
        bucket = np.searchsorted(edges, counts, side="right")  # 0 is the cold bucket
        n_buckets = len(edges) + 1
        of_pair = bucket[self.relevant[1]]
        relevant = np.bincount(of_pair, minlength=n_buckets)
        found = np.bincount(of_pair[(self.relevant_ranks > 0) & (self.relevant_ranks <= k)], minlength=n_buckets)
        shown = np.bincount(bucket, weights=m.exposure(self.topk, self.n_items, k), minlength=n_buckets)
        low = np.concatenate([[0], edges])
        high = np.concatenate([[0], edges[1:] - 1, [max(int(counts.max(initial=0)), int(edges[-1]))]])
        label = ["cold", *(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(low[1:], high[1:], strict=True))]
        with np.errstate(invalid="ignore"):
            return pd.DataFrame(
                {
                    "bucket": label,
                    "low": low.astype(np.int64),
                    "high": high.astype(np.int64),
                    "items": np.bincount(bucket, minlength=n_buckets),
                    "relevant": relevant,
                    f"recall@{k}": found / relevant,
                    "share": shown / max(shown.sum(), 1.0),
                }
            )

    def cold(self, k: int | None = None) -> dict[str, float | int]:
        """Return how items without any training interaction fare.

        Returns:
            ``items`` (cold items), ``users`` (judged users who took one), ``relevant`` (such interactions), ``recall@K`` (mean
            over those users of the share of their cold items found among ALL items), ``recall_among_cold@K`` (the same when
            only cold items are ranked: what the model knows of them once the warm ones do not crowd them out),
            ``chance_among_cold@K`` (what random order would reach there) and ``share@K`` (of all recommendations that are cold
            items). NaN where there is nothing to judge.

        Raises:
            OptionError: a cut-off that was not evaluated.
        """
        k = self._cutoff(k)
        cold = self.item_counts == 0
        relevant = int(cold[self.relevant[1]].sum())
        result: dict[str, float | int] = {"items": int(cold.sum()), "users": len(self.cold_rows), "relevant": relevant}
        shown = m.exposure(self.topk, self.n_items, k)
        share = float(shown[cold].sum() / max(shown.sum(), 1))
        if not relevant:
            nothing = float("nan")
            return (
                result
                | {f"{name}@{k}": nothing for name in ("recall", "recall_among_cold", "chance_among_cold")}
                | {f"share@{k}": share}
            )
        return (
            result
            | {name: float(values.mean()) for name, values in self.cold_per_user(k).items()}
            | {f"chance_among_cold@{k}": min(1.0, k / int(cold.sum())), f"share@{k}": share}
        )

    def cold_per_user(self, k: int | None = None) -> dict[str, np.ndarray]:
        """Return ``recall@K`` and ``recall_among_cold@K`` of :meth:`cold` user by user, (c,) each, in the order of ``cold_rows``.

        Raises:
            OptionError: a cut-off that was not evaluated.
        """
        k = self._cutoff(k)
        cold = self.item_counts == 0
        rows, items = self.relevant[:, cold[self.relevant[1]]]
        ranks = self.relevant_ranks[cold[self.relevant[1]]]
        own = np.searchsorted(self.cold_rows, rows)
        n_relevant = np.bincount(own, minlength=len(self.cold_rows))
        found = np.bincount(own[(ranks > 0) & (ranks <= k)], minlength=len(self.cold_rows))
        hits = m.hit_matrix(self.cold_topk, (own, items), self.n_items)
        return {f"recall@{k}": found / n_relevant, f"recall_among_cold@{k}": m.recall(hits, n_relevant, k)}

    def to_json(self) -> dict[str, Any]:
        """Return the protocol and all means as a dict of plain values, ready for ``json.dumps``."""
        return {
            "data": self.data,
            "split": self.split,
            "mask": list(self.mask),
            "ties": self.ties,
            "ks": list(self.ks),
            "users": len(self.users),
            "relevant": int(self.n_relevant.sum()),
            "means": self.means(),
        }

    def __repr__(self) -> str:
        k = self._cutoff(None)
        shown = ", ".join(f"{name}@{k} {self.per_user[f'{name}@{k}'].mean():.4f}" for name in ("recall", "ndcg"))
        masked = " + ".join(self.mask) or "nothing"
        return f"Evaluation({self.data!r} {self.split}, {len(self.users):,} users, {masked} masked: {shown})"

    def _values(self, metric: str) -> np.ndarray:
        if metric not in self.per_user:
            raise OptionError(
                "no such per-user metric", where="metric", found=repr(metric), expected="one of " + ", ".join(self.per_user)
            )
        return self.per_user[metric]

    def _cutoff(self, k: int | None) -> int:
        if k is None:
            return 20 if 20 in self.ks else self.ks[-1]
        if k not in self.ks:
            raise OptionError("cut-off was not evaluated", where="k", found=k, expected=f"one of {self.ks}")
        return k


# -- evaluate -------------------------------------------------------------------------------------------------------------
class Scorer(Protocol):
    """What can be evaluated: any :class:`~mmrec_teach.models.base.Recommender`, or anything with these two methods."""

    def score(self, users: Tensor) -> Tensor:
        """Scores of every item, (len(users), n_items)."""
        ...

    def evaluating(self) -> Any:
        """A context in which `score` may compute its tables once."""
        ...


def evaluate(
    model: Scorer,
    data: Dataset,
    split: str = "valid",
    *,
    ks: Sequence[int] = (5, 10, 20, 50),
    mask: Sequence[str] | None = None,
    batch_users: int = 512,
    ties: str = "index",
    seed: int = 0,
) -> Evaluation:
    """Rank all items for every user with something in ``split`` and judge the lists.

    Args:
        model: scores users; left as it was found (mode, caches).
        data: what it was made for.
        split: the interactions to find again.
        ks: cut-offs.
        mask: splits whose items a user is not shown again. Default: train when validating, train and valid when testing, so
            that no known item takes a place. The public code behind many published tables masks only train when testing:
            pass ("train",). Sequence models are published with nothing masked: pass ().
        batch_users: users scored at a time; changes memory, not results.
        ties, seed: the rule for equal scores, see :func:`top_k`.

    Raises:
        OptionError: a setting outside what is allowed, an empty split, scores of the wrong shape.
        InputError: a score is NaN.
    """
    return _evaluate(
        model.score,
        data,
        split,
        ks,
        mask,
        batch_users,
        ties,
        seed,
        context=_scoring(model, split),
        device=getattr(model, "device", None),
    )


def evaluate_scores(
    scores: np.ndarray | Tensor | Callable[[Tensor], Tensor | np.ndarray],
    data: Dataset,
    split: str = "valid",
    *,
    ks: Sequence[int] = (5, 10, 20, 50),
    mask: Sequence[str] | None = None,
    batch_users: int = 512,
    ties: str = "index",
    seed: int = 0,
) -> Evaluation:
    """:func:`evaluate` for a (U, I) table of scores, an (I,) list shown to everybody, or a function users -> (len(users), I).

    The table is not changed. Other arguments and errors as in :func:`evaluate`.
    """
    if callable(scores):
        return _evaluate(scores, data, split, ks, mask, batch_users, ties, seed)
    table = torch.as_tensor(np.array(scores) if isinstance(scores, np.ndarray) else scores)
    if not table.is_floating_point():
        table = table.double()
    if table.shape == (data.n_items,):
        return _evaluate(lambda users: table.expand(len(users), -1), data, split, ks, mask, batch_users, ties, seed)
    if table.shape != (data.n_users, data.n_items):
        raise OptionError(
            "scores do not fit the data",
            where="evaluate_scores",
            found=f"shape {tuple(table.shape)}",
            expected=f"({data.n_users}, {data.n_items}) or ({data.n_items},)",
        )
    return _evaluate(lambda users: table[users.to(table.device)], data, split, ks, mask, batch_users, ties, seed)


@contextmanager
def _scoring(model: Scorer, split: str) -> Iterator[None]:
    """Score as a model does that may know what came before ``split``."""
    knowing = getattr(model, "knowing", None)
    with nullcontext() if knowing is None else knowing(*HISTORY.get(split, ())), model.evaluating():
        yield


def _evaluate(
    score: Callable[[Tensor], Tensor | np.ndarray],
    data: Dataset,
    split: str,
    ks: Sequence[int],
    mask: Sequence[str] | None,
    batch_users: int,
    ties: str,
    seed: int,
    context: Any = None,
    device: torch.device | None = None,
) -> Evaluation:
    ks, mask = _checked(split, ks, mask, batch_users, ties)
    judged = data.split(split)
    users, row_of_pair = np.unique(judged.users, return_inverse=True)
    if not len(users):
        raise OptionError(
            "nobody to judge", where="evaluate", found=f"an empty {split} split", expected="at least one interaction"
        )
    n, k_max = len(users), ks[-1]

    # items to leave out, as (row, item) sorted by row: every block is a slice
    hidden_users = np.concatenate([data.split(s).users for s in mask]) if mask else np.empty(0, np.int64)
    hidden_items = np.concatenate([data.split(s).items for s in mask]) if mask else np.empty(0, np.int64)
    row_of_user = np.full(data.n_users, -1, dtype=np.int64)
    row_of_user[users] = np.arange(n)
    hidden_rows = row_of_user[hidden_users]
    by_row = np.argsort(hidden_rows, kind="stable")
    by_row = by_row[np.searchsorted(hidden_rows[by_row], 0) :]
    hidden_rows, hidden_items = hidden_rows[by_row], hidden_items[by_row]

    is_cold = data.item_counts == 0
    cold_items = torch.from_numpy(np.flatnonzero(is_cold))
    wants_cold = np.zeros(n, dtype=bool)
    wants_cold[row_of_pair[is_cold[judged.items]]] = True

    generator = torch.Generator().manual_seed(seed)
    cold_generator = torch.Generator().manual_seed(seed + 1)
    topk = np.empty((n, k_max), dtype=np.int64)
    cold_topk: list[np.ndarray] = [np.empty((0, k_max), dtype=np.int64)]
    with torch.no_grad(), nullcontext() if context is None else context:
        for start in range(0, n, batch_users):
            stop = min(start + batch_users, n)
            scores = score(torch.from_numpy(users[start:stop]).to(device))
            if isinstance(scores, np.ndarray):
                scores = torch.from_numpy(np.require(scores, requirements="W"))  # copied only if it is read-only
            if scores.shape != (stop - start, data.n_items):
                raise OptionError(
                    "scores have the wrong shape",
                    where="score(users)",
                    found=tuple(scores.shape),
                    expected=f"({stop - start}, {data.n_items}): one row a user, one column an item",
                )
            if not scores.is_floating_point():
                scores = scores.double()
            if (
                0 in scores.stride()
            ):  # one row shown to everybody (expand): it needs memory of its own before we mark items in it
                scores = scores.contiguous()
            a, b = np.searchsorted(hidden_rows, (start, stop))
            rows = torch.from_numpy(hidden_rows[a:b] - start).to(scores.device)
            items = torch.from_numpy(hidden_items[a:b]).to(scores.device)
            before = scores[rows, items]
            if before.isnan().any():
                raise InputError("a score is not a number", where="score(users)", found="NaN", expected="numbers")
            scores[rows, items] = -torch.inf
            try:
                topk[start:stop] = top_k(scores, k_max, ties, generator).cpu().numpy()
                if wants_cold[start:stop].any():
                    among = torch.from_numpy(np.flatnonzero(wants_cold[start:stop])).to(scores.device)
                    only = scores[among[:, None], cold_items.to(scores.device)[None]]
                    best = top_k(only, k_max, ties, cold_generator).cpu()
                    cold_topk.append(torch.where(best < 0, best, cold_items[best.clamp_min(0)]).numpy())
            finally:
                scores[rows, items] = before  # the table may be the model's own: hand it back as it came

    hits = m.hit_matrix(topk, (row_of_pair, judged.items), data.n_items)
    n_relevant = np.bincount(row_of_pair, minlength=n)
    return Evaluation(
        split=split,
        mask=mask,
        ties=ties,
        ks=ks,
        users=users,
        n_relevant=n_relevant,
        per_user={
            f"{name}@{k}": values
            for k in ks
            for name, values in (
                ("recall", m.recall(hits, n_relevant, k)),
                ("ndcg", m.ndcg(hits, n_relevant, k)),
                ("precision", m.precision(hits, k)),
                ("map", m.average_precision(hits, n_relevant, k)),
                ("mrr", m.mrr(hits, k)),
                ("hitrate", m.hitrate(hits, k)),
            )
        },
        topk=topk,
        beyond={
            f"{name}@{k}": value
            for k in ks
            for name, value in (
                ("coverage", m.coverage(topk, data.n_items, k)),
                ("gini", m.gini(topk, data.n_items, k)),
                ("novelty", m.novelty(topk, data.item_counts, data.n_users, k)),
            )
        },
        relevant=np.stack([row_of_pair, judged.items]),
        relevant_ranks=_ranks(hits, topk, row_of_pair, judged.items, data.n_items),
        item_counts=data.item_counts,
        cold_topk=np.concatenate(cold_topk),
        cold_rows=np.flatnonzero(wants_cold),
        data=data.name,
    )


def _checked(
    split: str, ks: Sequence[int], mask: Sequence[str] | None, batch_users: int, ties: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return ks ascending and the mask, or say which setting is wrong before anything is computed."""
    if split not in SPLITS:
        raise OptionError("unknown split", where="split", found=repr(split), expected=", ".join(SPLITS))
    mask = DEFAULT_MASK[split] if mask is None else (mask,) if isinstance(mask, str) else tuple(mask)
    if unknown := [s for s in mask if s not in SPLITS]:
        raise OptionError("unknown split", where="mask", found=repr(unknown[0]), expected="some of " + ", ".join(SPLITS))
    if split in mask:
        raise OptionError(
            "the items to find are masked", where="mask", found=repr(split), expected=f"other splits than {split!r}"
        )
    if not ks or any(isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1 for k in ks):
        raise OptionError(
            "not a list of cut-offs", where="ks", found=repr(ks), expected="positive whole numbers such as (10, 20)"
        )
    if batch_users < 1:
        raise OptionError("no users a block", where="batch_users", found=batch_users, expected="at least 1")
    if ties not in TIES:
        raise OptionError("unknown rule for ties", where="ties", found=repr(ties), expected=" or ".join(TIES))
    return tuple(sorted({int(k) for k in ks})), mask


def _ranks(hits: np.ndarray, topk: np.ndarray, rows: np.ndarray, items: np.ndarray, n_items: int) -> np.ndarray:
    """Return (m,) the place from 1 of each relevant pair in its user's list, 0 where it is not in it."""
    hit_rows, places = np.nonzero(hits)
    keys = rows * n_items + items
    order = np.argsort(keys)
    ranks = np.zeros(len(keys), dtype=np.int64)
    ranks[order[np.searchsorted(keys, hit_rows * n_items + topk[hit_rows, places], sorter=order)]] = places + 1
    return ranks


def compare(
    a: Evaluation,
    b: Evaluation,
    metric: str = "recall@20",
    *,
    level: float = 0.95,
    n_boot: int = 1000,
    n_permutations: int = 5000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations user by user: difference of means (a - b), bootstrap interval, sign-flip permutation p-value.

    Raises:
        OptionError: other users, split, mask or relevant items; a metric that one of them lacks.
    """
    for name in ("split", "mask"):
        if getattr(a, name) != getattr(b, name):
            raise OptionError(
                "the two were judged differently", where=f"compare {name}", found=f"{getattr(a, name)} and {getattr(b, name)}"
            )
    if not np.array_equal(a.users, b.users):
        raise OptionError(
            "not the same users",
            where="compare",
            found=f"{len(a.users)} and {len(b.users)} users, {len(np.intersect1d(a.users, b.users))} in common",
            expected="the same users in both",
            fix="evaluate both on the same data and split",
        )
    if not np.array_equal(a.n_relevant, b.n_relevant):
        raise OptionError("not the same interactions to find", where="compare", fix="evaluate both on the same data and split")
    return paired_comparison(
        metric, a._values(metric), b._values(metric), level=level, n_boot=n_boot, n_permutations=n_permutations, seed=seed
    )
