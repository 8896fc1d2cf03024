"""Exact top-k with a stated rule for ties."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrec_teach.errors import InputError, OptionError

TIES = ("index", "random")


def top_k(scores: Tensor, k: int, ties: str = "index", generator: torch.Generator | None = None) -> Tensor:
    """Return the k best items of each row, best first, with a stated rule for equal scores.

    ``torch.topk`` returns *some* of the items that share the last place's score, and a metric then depends on the library's
    inner order. Here equal scores are ordered by item index (lowest first), or at random, each row anew.

    Args:
        scores: (n, I) floating-point scores; -inf marks an item that must not be recommended.
        k: how many to return; may exceed I.
        ties: "index" or "random".
        generator: a CPU generator for ties = "random" (one number a row is drawn, so that blocks of any size agree).

    Returns:
        (n, k) int64 item indices. Places for which a row has no item left hold -1.

    Raises:
        InputError: a score is NaN.
        OptionError: k < 1, an unknown tie rule, random ties without a generator, or scores that are no (n, I) table.
    """
    if scores.ndim != 2 or not scores.is_floating_point():
        raise OptionError(
            "not a table of scores",
            where="top_k",
            found=f"shape {tuple(scores.shape)}, {scores.dtype}",
            expected="shape (n, I), a floating-point dtype",
        )
    if k < 1:
        raise OptionError("cut-off too small", where="top_k k", found=k, expected="at least 1")
    if ties not in TIES:
        raise OptionError("unknown rule for ties", where="ties", found=repr(ties), expected=" or ".join(TIES))
    if ties == "random" and generator is None:
        raise OptionError("random ties need a generator", where="top_k", fix="pass generator=torch.Generator().manual_seed(0)")
    n, n_items = scores.shape
    row_seeds = None
    if ties == "random":
        row_seeds = torch.randint(2**62, (n,), generator=generator, dtype=torch.int64).to(scores.device)
    kept = min(k, n_items)
    # one more than wanted shows whether the last place is contested
    values, best = torch.topk(scores, min(kept + 1, n_items))
    if n and n_items and values[:, 0].isnan().any():  # topk sorts NaN first
        row = int(values[:, 0].isnan().nonzero()[0])
        raise InputError(
            "a score is not a number",
            where="top_k",
            found=f"NaN in row {row}, {int(scores[row].isnan().sum())} of {n_items} items",
            expected="numbers, -inf for items that must not appear",
            fix="look for a diverged loss or a division by zero",
        )
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] != -torch.inf)  # among masked items order means nothing
    tied = equal.any(1).nonzero()[:, 0]
    contested = equal[:, kept - 1].nonzero()[:, 0] if values.shape[1] > kept else tied[:0]
    values, best = values[:, :kept].contiguous(), best[:, :kept].contiguous()

    def order(rows: Tensor, items: Tensor) -> Tensor:
        """Who goes first among equals: smaller comes first."""
        return items if row_seeds is None else _mixed(row_seeds[rows][:, None] ^ items)

    everything = torch.arange(n_items, device=scores.device)[None]
    for rows in contested.split(1024):
        # values are sorted, so a contested row is [surely in | equal to the last]: refill the second part by our order
        last = values[rows, -1:]
        among = order(rows, everything).expand(len(rows), -1).masked_fill(scores[rows] != last, torch.iinfo(torch.int64).max)
        first = among.topk(kept, largest=False).indices
        sure = (values[rows] > last).sum(1, keepdim=True)
        place = torch.arange(kept, device=scores.device)[None] - sure
        best[rows] = torch.where(place < 0, best[rows], first.gather(1, place.clamp_min(0)))
    if len(tied):
        items, of = best[tied], values[tied]
        by_rule = order(tied, items).argsort(1)
        items, of = items.gather(1, by_rule), of.gather(1, by_rule)
        best[tied] = items.gather(1, of.argsort(dim=1, descending=True, stable=True))
    best.masked_fill_(values == -torch.inf, -1)
    return best if kept == k else torch.nn.functional.pad(best, (0, k - kept), value=-1)


def _mixed(x: Tensor) -> Tensor:
    """Scatter int64 numbers (the finaliser of splitmix64), the same on every device. Non-negative, below the maximum."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return (x ^ ((x >> 31) & 0x1FFFFFFFF)) & 0x3FFFFFFFFFFFFFFF
