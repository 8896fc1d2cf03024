"""Judge features before any training: zero-shot, item-CF and mask-modality.

The three intermediate protocols of AlignRec (Liu et al., CIKM 2024, arXiv:2403.12384). They come without public code. What the
paper and the article on its use leave open is settled here, each by a named option:

zero-shot
    A user's last item is the target. Her vector is the mean of her other items' vectors. All items she has not taken are ranked by
    cosine with it; is the target among the first K?
    *Last* is by time where every split read has timestamps (equal times: the later split, then the later row). Without, events of a
    later split count as later, and among those of one split the last is drawn at random, once, from ``seed``.
    ``splits``: train and valid, so that whoever picks features by this number has not looked at test.
    ``length``: "own" vectors are averaged as they are, "unit" ones at length 1. The cosine hides the lengths in any case but this.
item-CF
    Two items are as close as their buyers agree: the number of common buyers over the root of the product of their numbers of
    buyers (the cosine of the columns of the purchase matrix). Each item's closest one is its target. All other items are ranked by
    the cosine of their features with the item's; is the target among the first K?
    Equally close targets: the one with more common buyers, then the lower index. ``min_common``: fewer common buyers are no target.
    ``splits``: train. Items without a common buyer with anybody (all cold ones) are not judged.
mask-modality
    A share of the items, drawn at random, loses one modality. The drop is the modality's worth. The article measures it in the final
    recommendation, which needs a trained model; any judge will do, also the two protocols above.

Everywhere: an item whose row is zero has no content. It is never found, and whoever has nothing but such items finds nothing:
both count as misses, so that every feature set is judged on the same rows. Equal scores are ordered by index, or at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.errors import DataError, OptionError, check_choice
from mmrec_teach.evaluation.feature_sets import FeatureSet, table_of, unit_rows
from mmrec_teach.evaluation.statistics import bootstrap_interval
from mmrec_teach.ops.topk import TIES

LENGTHS = ("own", "unit")
_BLOCK = 4_000_000  # scores held at a time


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a protocol found.

    Attributes:
        protocol: "zero-shot" or "item-cf".
        rows: (n,) int64 who was judged: users (zero-shot) or items (item-CF).
        targets: (n,) int64 the item each should find.
        ranks: (n,) int64 its place, from 1; 0 where it cannot be ranked for want of content.
        candidates: (n,) int64 how many items were ranked, the target among them.
    """

    protocol: str
    rows: np.ndarray
    targets: np.ndarray
    ranks: np.ndarray
    candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def found(self, k: int = 20) -> np.ndarray:
        """Return (n,) float64: 1 where the target is among the first ``k``."""
        if k < 1:
            raise OptionError("cut-off too small", where="k", found=k, expected="at least 1")
        return ((self.ranks > 0) & (self.ranks <= k)).astype(np.float64)

    def recall(self, k: int = 20) -> float:
        """Return the share of targets among the first ``k``: with one target this is recall@K and the hit rate."""
        return float(self.found(k).mean())

    def chance(self, k: int = 20) -> float:
        """Return what a random order would find."""
        return float(np.minimum(1.0, k / self.candidates).mean())

    def interval(self, k: int = 20, level: float = 0.95, n_boot: int = 1000, seed: int = 0) -> tuple[float, float]:
        """Return the bootstrap interval of :meth:`recall` over the judged rows."""
        return bootstrap_interval(self.found(k), level, n_boot, seed)

    @property
    def mute(self) -> float:
        """The share of rows that cannot be answered for want of content."""
        return float((self.ranks == 0).mean())

    def __repr__(self) -> str:
        return f"Judgement({self.protocol}, {len(self):,} judged: recall@20 {self.recall():.4f}, chance {self.chance():.4f})"


def target_ranks(
    queries: np.ndarray, table: np.ndarray, targets: np.ndarray, left_out: sp.csr_array, ties: str = "index", seed: int = 0
) -> np.ndarray:
    """Return the place of each query's target when items are ranked by cosine: what both protocols come down to.

    Args:
        queries: (n, d).
        table: (I, d) the items; rows of zeros stand in no list.
        targets: (n,) items, none of them left out.
        left_out: (n, I) CSR, non-zero where an item does not compete.
        ties, seed: the rule for equal scores.

    Returns:
        (n,) int64 from 1; 0 where the query or the target has no content.
    """
    check_choice("ties=", ties, TIES)
    # equal rows are scored once: the same vector has the same score to the last bit, wherever it stands
    distinct, place = np.unique(np.asarray(table), axis=0, return_inverse=True)
    place = place.reshape(-1)
    distinct = unit_rows(distinct)
    full = distinct.any(1)[place]
    rng = np.random.default_rng(seed)
    out = np.zeros(len(queries), dtype=np.int64)
    n_items, step = len(table), max(1, _BLOCK // max(len(table), 1))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        query, target = queries[rows], targets[rows]
        scores = (unit_rows(query) @ distinct.T)[:, place]
        allowed = np.tile(full, (len(query), 1))
        part = left_out[rows]
        allowed[np.repeat(np.arange(len(query)), np.diff(part.indptr)), part.indices] = False
        own = scores[np.arange(len(query)), target][:, None]
        better = (allowed & (scores > own)).sum(1)
        equal = allowed & (scores == own)
        if ties == "index":
            ahead = (equal & (np.arange(n_items) < target[:, None])).sum(1)
        else:
            ahead = rng.integers(0, np.maximum(equal.sum(1), 1))
        answered = query.any(1) & full[target]
        out[rows] = np.where(answered, 1 + better + ahead, 0)
    return out


# -- zero-shot ------------------------------------------------------------------------------------------------------------
def last_events(
    data: Dataset, splits: Sequence[str] = ("train", "valid"), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, sp.csr_array]:
    """Return every user's last item, and what she took before.

    Args:
        data: the data set.
        splits: whose events are read, earliest first.
        seed: of the draw where time is not known.

    Returns:
        ``users`` (n,) ascending: those with two events or more; ``targets`` (n,); ``history`` (n, I) 0/1 CSR without the targets.

    Raises:
        OptionError: no splits. DataError: an unknown split, or nobody has two events.
    """
    if not splits:
        raise OptionError("no splits to read", where="last_events", found="none", expected="such as ('train', 'valid')")
    parts = [data.split(name) for name in splits]
    events = Interactions.concatenate(*parts)
    part = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    if events.timestamps is not None:
        order = np.lexsort((np.arange(len(events)), part, events.timestamps, events.users))
    else:
        order = np.lexsort((np.random.default_rng(seed).permutation(len(events)), part, events.users))
    by_user = events.users[order]
    is_last = np.append(by_user[1:] != by_user[:-1], True) if len(order) else np.empty(0, dtype=bool)
    enough = np.bincount(events.users, minlength=data.n_users) > 1
    last = order[is_last & enough[by_user]]
    if not len(last):
        raise DataError("nobody to judge", where="zero-shot", found="no user with two events", expected="at least one")
    users, targets = events.users[last], events.items[last]
    row_of = np.full(data.n_users, -1)
    row_of[users] = np.arange(len(users))
    earlier = np.ones(len(events), dtype=bool)
    earlier[last] = False
    earlier &= enough[events.users]
    rows = row_of[events.users[earlier]]
    history = sp.coo_array(
        (np.ones(len(rows)), (rows, events.items[earlier])), shape=(len(users), data.n_items)
    ).tocsr()  # fmt: skip
    return users, targets, history


def zero_shot(
    features: FeatureSet,
    data: Dataset,
    *,
    splits: Sequence[str] = ("train", "valid"),
    length: str = "own",
    ties: str = "index",
    seed: int = 0,
) -> Judgement:
    """Does the mean of what a user took point at what she took last? See the module for every choice.

    Args:
        features: a table or a function, see :mod:`~mmrec_teach.evaluation.feature_sets`.
        data: users, items and their events.
        splits: whose events are read.
        length: "own" or "unit": how vectors enter the mean.
        ties, seed: the rule for equal scores; the seed also draws the last event where time is not known.

    Raises:
        OptionError, DataError: a setting outside what is allowed, or a table that is none of these items.
    """
    check_choice("length=", length, LENGTHS)
    table = table_of(features, data.n_items)
    users, targets, history = last_events(data, splits, seed)
    means = history @ (unit_rows(table) if length == "unit" else table.astype(np.float64))  # a sum: its cosine is the mean's
    ranks = target_ranks(means, table, targets, history, ties, seed)
    return Judgement("zero-shot", users, targets, ranks, data.n_items - np.diff(history.indptr))


# -- item-CF ----------------------------------------------------------------------------------------------------------------
def cf_partners(
    data: Dataset, splits: Sequence[str] = ("train",), min_common: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each item's partner by co-purchase.

    Args:
        data: the data set.
        splits: whose purchases are read.
        min_common: common buyers a partner must have at least.

    Returns:
        ``items`` (n,) ascending: those with a partner; ``partners`` (n,); ``scores`` (n,) cosine of the two purchase columns.

    Raises:
        OptionError: no splits, or ``min_common`` below 1. DataError: an unknown split, or no two items share a buyer.
    """
    if not splits or min_common < 1:
        raise OptionError(
            "nothing to count", where="cf_partners", found=f"splits {splits}, min_common {min_common}", expected="1 or more"
        )
    taken = data.matrix(*splits).astype(np.float64).T.tocsr()  # (I, U)
    counts = np.diff(taken.indptr).astype(np.float64)
    items, partners, scores = [], [], []
    for start in range(0, data.n_items, 1024):
        common = (taken[start : start + 1024] @ taken.T).tocoo()
        i, j, c = common.row + start, common.col, common.data
        keep = (i != j) & (c >= min_common)
        i, j, c = i[keep].astype(np.int64), j[keep].astype(np.int64), c[keep]
        # for one item the root of its own count changes no order; whole numbers divided once: equal scores are equal bits
        close = c * c / counts[j]
        order = np.lexsort((j, -c, -close, i))
        first = order[np.unique(i[order], return_index=True)[1]]
        items.append(i[first])
        partners.append(j[first])
        scores.append(c[first] / np.sqrt(counts[i[first]] * counts[j[first]]))
    found = [np.concatenate(parts) for parts in (items, partners, scores)]
    if not len(found[0]):
        raise DataError("no two items share a buyer", where="item-CF", found="nothing to judge", expected="common buyers")
    return found[0], found[1], found[2]


def item_cf(
    features: FeatureSet,
    data: Dataset,
    *,
    splits: Sequence[str] = ("train",),
    min_common: int = 1,
    ties: str = "index",
    seed: int = 0,
) -> Judgement:
    """Do the features find the item that shares most buyers? See the module for every choice.

    Args:
        features: a table or a function, see :mod:`~mmrec_teach.evaluation.feature_sets`.
        data: users, items and their events.
        splits, min_common: see :func:`cf_partners`.
        ties, seed: the rule for equal scores.

    Raises:
        OptionError, DataError: a setting outside what is allowed, or a table that is none of these items.
    """
    table = table_of(features, data.n_items)
    items, partners, _ = cf_partners(data, splits, min_common)
    itself = sp.coo_array((np.ones(len(items)), (np.arange(len(items)), items)), shape=(len(items), data.n_items)).tocsr()
    ranks = target_ranks(table[items].astype(np.float64), table, partners, itself, ties, seed)
    return Judgement("item-cf", items, partners, ranks, np.full(len(items), data.n_items - 1))


PROTOCOLS: dict[str, Callable[..., Judgement]] = {"zero-shot": zero_shot, "item-cf": item_cf}


# -- mask-modality ------------------------------------------------------------------------------------------------------------
def hidden(data: Dataset, modality: str, share: float, seed: int = 0) -> np.ndarray:
    """Return (I,) bool: which items lose ``modality`` when ``share`` of those that have it do.

    Shares are nested: with one seed, whoever loses it at 0.2 also loses it at 0.5.

    Raises:
        OptionError: an unknown modality, a share outside [0, 1].
    """
    if modality not in data.missing:
        raise OptionError("unknown modality", where="hidden", found=repr(modality), expected=", ".join(data.modalities))
    if not 0 <= share <= 1:
        raise OptionError("share out of range", where="hidden", found=share, expected="from 0 to 1")
    order = np.random.default_rng([seed, *modality.encode()]).permutation(data.n_items)
    there = order[~data.missing[modality][order]]
    mask = np.zeros(data.n_items, dtype=bool)
    mask[there[: round(share * len(there))]] = True
    return mask


def mask_modality(
    features: Callable[..., np.ndarray],
    data: Dataset,
    judge: str | Callable[[np.ndarray], np.ndarray] = "zero-shot",
    *,
    modalities: Sequence[str] | None = None,
    shares: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    k: int = 20,
) -> pd.DataFrame:
    """Hide a modality from a share of the items and measure the drop: what is this modality worth to these features?

    Args:
        features: a function ``features(hide) -> table``.
        data: says which items have which modality.
        judge: "zero-shot", "item-cf", or a function from a table to (n,) values of the same n rows each time. For the article's form,
            the final recommendation: give a model the table and return its recall user by user.
        modalities: which are hidden, one at a time; None means all of the data set.
        shares: of the items that have the modality.
        seeds: of the choice of items.
        k: the cut-off of the two named judges.

    Returns:
        One row for each modality, share and seed: ``modality``, ``share``, ``seed``, ``whole`` (value with nothing hidden),
        ``hidden`` (value with it), ``drop`` (whole - hidden), ``low``, ``high`` (its 95 % bootstrap interval over rows).

    Raises:
        OptionError: a plain table, an unknown judge, modality or share.
    """
    measured = _judge(judge, data, k)
    whole = np.asarray(measured(table_of(features, data.n_items)), dtype=np.float64)
    rows = []
    for modality in data.modalities if modalities is None else modalities:
        for share in shares:
            for seed in seeds:
                less = measured(table_of(features, data.n_items, {modality: hidden(data, modality, share, seed)}))
                drop = whole - np.asarray(less, dtype=np.float64)
                low, high = bootstrap_interval(drop)
                told = {"whole": whole.mean(), "hidden": np.mean(less), "drop": drop.mean(), "low": low, "high": high}
                rows.append({"modality": modality, "share": share, "seed": seed, **told})
    return pd.DataFrame(rows)


# -- tables -------------------------------------------------------------------------------------------------------------------
def judge_table(
    sets: Mapping[str, FeatureSet], data: Dataset, *, k: int = 20, hide: float = 0.5, seeds: Sequence[int] = (0, 1, 2)
) -> pd.DataFrame:
    """Put feature sets side by side under all three protocols.

    Args:
        sets: by name.
        data: users, items and their events.
        k: the cut-off.
        hide: share of the items that lose a modality, for mask-modality (zero-shot its judge).
        seeds: of the choice of those items.

    Returns:
        One row a set: ``dim``, ``empty`` (items without content), ``zero-shot@K`` and ``item-cf@K`` with their intervals
        (``… low``, ``… high``), and for each modality ``hide NAME``: the mean drop of zero-shot, NaN for plain tables. The frame's
        ``attrs`` hold ``chance``: what random order finds under each protocol.
    """
    rows, chance = {}, {}
    for name, features in sets.items():
        table = table_of(features, data.n_items)
        row: dict[str, float] = {"dim": table.shape[1], "empty": int((~table.any(1)).sum())}
        for protocol, judge in PROTOCOLS.items():
            told = judge(table, data)
            low, high = told.interval(k)
            row |= {f"{protocol}@{k}": told.recall(k), f"{protocol} low": low, f"{protocol} high": high}
            chance[protocol] = told.chance(k)
        if callable(features):
            drops = mask_modality(features, data, shares=(hide,), seeds=seeds, k=k).groupby("modality")["drop"].mean()
            row |= {f"hide {modality}": float(drops[modality]) for modality in data.modalities}
        else:
            row |= {f"hide {modality}": float("nan") for modality in data.modalities}
        rows[name] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("features")
    frame.attrs["chance"] = chance
    return frame


def rank_agreement(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, n_boot: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, float | int]:
    """Do two ways of judging put the same feature sets first? Kendall's τ, and how sure it is.

    Args:
        first: one (n,) array of values a feature set, the same judged rows each time (a protocol's hits).
        second: likewise, (m,) arrays in the same order of sets (a trained model's recall by user, mean over seeds).
        n_boot, level, seed: the rows of both sides are drawn again with replacement, and τ of the means computed anew. That is the
            uncertainty of the measurement; it does not say what other feature sets would have given.

    Returns:
        ``tau``, ``low``, ``high``, ``agreeing`` and ``pairs`` (pairs of sets that both put in the same order, of how many),
        ``sets``. A pair that is equal on one side counts as neither agreeing nor not (τ_a).

    Raises:
        OptionError: fewer than two sets, or not as many on both sides.
    """
    if len(first) != len(second) or len(first) < 2:
        raise OptionError(
            "not two lists of feature sets",
            where="rank_agreement",
            found=f"{len(first)} and {len(second)}",
            expected="2 or more",
        )
    a, b = np.stack([np.asarray(x, dtype=np.float64) for x in first]), np.stack([np.asarray(x, np.float64) for x in second])
    rng = np.random.default_rng(seed)
    above = np.triu_indices(len(a), 1)

    def signs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (np.sign(x[:, None] - x) * np.sign(y[:, None] - y))[above]

    taus = [
        signs(*(side[:, rng.integers(0, side.shape[1], side.shape[1])].mean(1) for side in (a, b))).mean()
        for _ in range(n_boot)
    ]
    same = signs(a.mean(1), b.mean(1))
    tail = (1 - level) / 2
    low, high = np.quantile(taus, [tail, 1 - tail])
    return {
        "tau": float(same.mean()),
        "low": float(low),
        "high": float(high),
        "agreeing": int((same > 0).sum()),
        "pairs": len(same),
        "sets": len(a),
    }


# -- below --------------------------------------------------------------------------------------------------------------------
def _judge(judge: str | Callable[[np.ndarray], np.ndarray], data: Dataset, k: int) -> Callable[[np.ndarray], np.ndarray]:
    if callable(judge):
        return judge
    check_choice("judge=", judge, tuple(PROTOCOLS))
    return lambda table: PROTOCOLS[judge](table, data).found(k)
