"""One batch over several processes: the rows of all of them, with gradient, and means over all of them.

Each process ("rank") holds some rows of a batch and computes its share of every loss term, so that the shares of all ranks add up to
the term of the whole batch. Then their gradients, added up, are the gradient of that term. Alone, or outside
:func:`across_ranks`, everything here is what it says for one process, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from mmrec_teach.ops.losses import mean_where

_across = False


@contextmanager
def across_ranks() -> Iterator[None]:
    """Inside, the functions of this module speak of the rows of all ranks of torch's default process group.

    Every rank must enter it, and call the same of these functions in the same order.
    """
    global _across
    before, _across = _across, dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    try:
        yield
    finally:
        _across = before


def span(n: int, device: torch.device | None = None) -> tuple[int, int]:
    """Return where a rank's ``n`` rows begin among those of all ranks, and how many there are in all; alone (0, n)."""
    if not _across:
        return 0, n
    sizes = _sizes(n, device)
    return sum(sizes[: dist.get_rank()]), sum(sizes)


def rows_of_all(x: Tensor) -> Tensor:
    """Return the rows of all ranks, (N, …), in their order, of which ``x`` (n, …) are this rank's; alone ``x`` itself.

    Gradients flow back to the rank that a row came from, those of all ranks added up.
    """
    return _Gather.apply(x) if _across else x


def mean_of_all(values: Tensor, where: Tensor | None = None) -> Tensor:
    """Return this rank's share of the mean over all ranks' ``values`` (n,) at the rows ``where`` is True; 0 where there is none.

    The shares add up to that mean; alone it is the mean, :func:`~mmrec_teach.ops.losses.mean_where`.
    """
    if not _across:
        return mean_where(values, where)
    kept = values if where is None else values * where.to(values)
    n = _total(torch.tensor(len(values), device=values.device) if where is None else where.sum())
    return kept.sum() / n.clamp_min(1).to(values)


def cross_entropy_of_all(logits: Tensor, target: Tensor) -> Tensor:
    """Return this rank's share of the mean cross-entropy over all ranks' rows; alone it is that mean.

    Args:
        logits: (n, C).
        target: (n,) int64.
    """
    if not _across:
        return F.cross_entropy(logits, target)
    return mean_of_all(F.cross_entropy(logits, target, reduction="none"))


class _Gather(torch.autograd.Function):
    """All ranks' rows. Ranks may hold different numbers of them, collectives may not: each is padded to the longest."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        sizes = _sizes(len(x), x.device)
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        ctx.mine = slice(sum(sizes[: dist.get_rank()]), sum(sizes[: dist.get_rank() + 1]))
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _total(gradient)[ctx.mine]


def _sizes(n: int, device: torch.device | None) -> list[int]:
    mine = torch.tensor([n], device=device)
    sizes = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, mine)
    return [int(size) for size in sizes]


def _total(x: Tensor) -> Tensor:
    x = x.contiguous().clone()
    dist.all_reduce(x)
    return x
