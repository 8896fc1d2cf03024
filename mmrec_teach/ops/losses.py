"""Loss terms, each a scalar mean over the batch. The forms released code uses instead are separate, named functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bpr(positive: Tensor, negative: Tensor, where: Tensor | None = None) -> Tensor:
    r"""Bayesian personalised ranking, :math:`-\frac1B\sum \ln\sigma(s_{ui}-s_{uj})` (Rendle et al. 2009, arXiv:1205.2618).

    Args:
        positive: (B,) scores of the items taken.
        negative: (B,) scores of the items not taken.
        where: (B,) bool, the pairs that count; None means all. With no pair at all the term is 0.
    """
    return mean_where(F.softplus(negative - positive), where)  # -ln sigmoid(x) = softplus(-x), without overflow


def bpr_released(positive: Tensor, negative: Tensor) -> Tensor:
    r"""BPR as released code writes it, :math:`-\frac1B\sum \ln(10^{-10}+\sigma(s_{ui}-s_{uj}))`.

    Beyond a score difference of about -23 the constant rules: the loss stays at 23 and the gradient vanishes.
    """
    return -torch.log(1e-10 + torch.sigmoid(positive - negative)).mean()


def l2(*rows: Tensor) -> Tensor:
    r"""Squared L2 penalty per example, :math:`\frac1{2B}\sum\lVert\theta\rVert^2`.

    Args:
        rows: tables of B rows each: the parameters this batch used.
    """
    return sum(r.square().sum() for r in rows) / (2 * len(rows[0]))


def emb_norm(*tables: Tensor) -> Tensor:
    r"""The "EmbLoss" of released code: :math:`\sum_t \lVert T_t\rVert_F` (not squared) over the rows of the last table.

    At a batch of 2,048 it regularises almost nothing: a squared norm grows with B, this one with √B, and both are divided by B.
    """
    return sum(t.norm() for t in tables) / len(tables[-1])


def alignment(prediction: Tensor, target: Tensor, where: Tensor | None = None, *, stop_gradient: bool = True) -> Tensor:
    r"""Bootstrapped alignment without negatives, :math:`\frac1B\sum\,[1 - C(a, \mathrm{sg}(b))]`, C the cosine.

    The term of BUIR (Lee et al. 2021, arXiv:2105.06323, there twice this), SimSiam and BM3 (Zhou et al. 2023,
    arXiv:2207.05969). Constant vectors make it 0: only sg, a predictor and views that differ keep training away from there.

    Args:
        prediction: (B, d), a.
        target: (B, d), b.
        where: (B,) bool, the rows that count; None means all. With no row at all the term is 0.
        stop_gradient: whether b is held fixed, sg(b).
    """
    cosine = F.cosine_similarity(prediction, target.detach() if stop_gradient else target, dim=-1)
    return mean_where(1 - cosine, where)


def info_nce(
    query: Tensor, key: Tensor, count: Tensor | None = None, *, temperature: float = 0.2, mask_duplicates: bool = True
) -> Tensor:
    r"""In-batch InfoNCE by cosine (van den Oord et al. 2018, arXiv:1807.03748), from queries to keys:

    .. math:: -\frac1B\sum_b \ln\frac{\exp(C(q_b, k_b)/\tau)}{\sum_{b'} \exp(C(q_b, k_{b'})/\tau)}

    The whole batch's sums are computed from its *distinct* rows and how often each is there, which is exact and cheaper.

    Args:
        query, key: (n, d) the distinct rows; row r of one is the positive of row r of the other.
        count: (n,) how often a row stands in the batch, B in all; None: once each.
        temperature: τ.
        mask_duplicates: a row's own further copies are no negatives of it: b' runs over b and the rows that differ from b. Off
            (released code), every copy of the positive stands in the denominator and is pushed away too.

    Returns:
        The mean over the batch; 0 where there is no row.
    """
    if not len(query):
        return query.sum() + key.sum()  # 0, with a gradient of zeros
    logits = F.normalize(query, dim=1) @ (F.normalize(key, dim=1) / temperature).T  # (n, n)
    own = logits.diagonal()
    if count is None:
        return (logits.logsumexp(1) - own).mean()
    weight = count.to(logits)
    log_times = weight.log().expand(len(weight), -1)  # how often b' stands in the denominator of b
    if mask_duplicates:
        log_times = log_times.clone().fill_diagonal_(0.0)
    return ((logits + log_times).logsumexp(1) - own) @ weight / weight.sum()


def similarity_gap(x: Tensor, y: Tensor, count: Tensor | None = None) -> Tensor:
    r"""Root mean square difference of two square matrices of similarities, :math:`\frac1B\lVert X - Y\rVert_F`.

    Its gradient has the same size near and far from 0, and, for it is a mean over pairs, at every batch size.

    Args:
        x, y: (n, n) similarities of the batch's distinct rows.
        count: (n,) how often a row stands in the batch, B in all; None: once each.
    """
    if not len(x):
        return x.sum()
    difference = x - y
    if count is None:
        return difference.norm() / len(x)
    root = count.to(x).sqrt()
    return (root[:, None] * difference * root).norm() / count.sum()


def mean_where(values: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the mean of the (B,) ``values`` at the rows ``where`` is True; 0 where there is none."""
    if where is None:
        return values.mean()
    kept = where.to(values)
    return (values * kept).sum() / kept.sum().clamp_min(1.0)
