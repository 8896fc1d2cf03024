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
    count = query.new_ones(len(query)) if count is None else count.to(query)
    return _InfoNCE.apply(F.normalize(query, dim=1), F.normalize(key, dim=1), count, temperature, mask_duplicates)


class _InfoNCE(torch.autograd.Function):
    """InfoNCE of unit rows. Of the (n, n) numbers only exp(C / τ) is ever written, and the backward pass only multiplies with it."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, count: Tensor, tau: float, masked: bool) -> Tensor:
        e = (q @ k.T).div_(tau)  # (n, n)
        own = e.diagonal().clone()
        top = e.amax(1) if tau < 0.05 else e.new_full((len(e),), 1 / tau)  # no exp above 1, and none below e^-40 unless it must
        e.sub_(top[:, None]).exp_()
        # the denominator of b has every other row as often as the batch, and b itself once, or with its copies
        spare = (1 - count) if masked else torch.zeros_like(count)
        spare = spare * e.diagonal()
        total = e @ count + spare
        share = count / count.sum()
        ctx.save_for_backward(q, k, e, count, spare, share / total, share)
        ctx.tau = tau
        return (total.log() + top - own) @ share

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, ...]:
        q, k, e, count, spare, pull, share = ctx.saved_tensors
        own = (pull * spare - share)[:, None]  # the diagonal of the gradient, beyond e itself
        g = g / ctx.tau
        to_q = pull[:, None] * (e @ (count[:, None] * k)) + own * k
        to_k = count[:, None] * (e.T @ (pull[:, None] * q)) + own * q
        return g * to_q, g * to_k, None, None, None


def softmax_in_batch(logits: Tensor, own: Tensor, count: Tensor, *, mask_duplicates: bool = True) -> Tensor:
    r"""InfoNCE from scores, a row at a time: :math:`-\ln\frac{\exp l_{b,o_b}}{\sum_{b'} \exp l_{b,o_{b'}}}`, (B,).

    The batch's targets are given as its *distinct* items and how often each is there, which is exact and cheaper.

    Args:
        logits: (B, n) of every row and every distinct target.
        own: (B,) int64 the column o_b of each row's own target.
        count: (n,) how often a target stands in the (whole) batch.
        mask_duplicates: rows that ask for the same item are no negatives of each other: b' runs over b and the rows with another
            target. Off (released code), every copy of the positive stands in the denominator and is pushed away too.
    """
    positive = logits.gather(1, own[:, None])  # (B, 1)
    weighted = logits + count.to(logits).log()
    if mask_duplicates:
        weighted = weighted.scatter(1, own[:, None], positive)
    return weighted.logsumexp(1) - positive[:, 0]


def softmax_of_rows(logits: Tensor, items: Tensor, log_q: Tensor | None = None) -> Tensor:
    r"""In-batch softmax with sampling correction, :math:`-\frac1B\sum_b\ln\frac{\exp(l_{bb}-\ln Q_b)}{\sum_{b'}\exp(l_{bb'}-\ln Q_{b'})}`.

    Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019. Further copies of a row's
    own item are no negatives of it.

    Args:
        logits: (B, B) of every row's query and every row's item.
        items: (B,) int64.
        log_q: (B,) log of how likely a row's item is drawn into a batch; None: no correction.
    """
    if log_q is not None:
        logits = logits - log_q
    own = torch.arange(len(items), device=items.device)
    copies = (items[:, None] == items).index_put((own, own), torch.tensor(False, device=items.device))
    return F.cross_entropy(logits.masked_fill(copies, -torch.inf), own)


def triplet(one: Tensor, other: Tensor, margin: float) -> Tensor:
    r"""Two views of the same things: each closer to its own other view than to anybody else's, by a margin.

    .. math:: \frac{1}{n(n-1)}\sum_{i \ne j} [m - a_i\cdot b_i + a_i\cdot b_j]_+ + [m - b_i\cdot a_i + b_i\cdot a_j]_+

    Args:
        one, other: (n, d) unit rows a and b; 0 is returned of fewer than two.
        margin: m.
    """
    if len(one) < 2:
        return (one.sum() + other.sum()) * 0
    cosine = one @ other.T
    own = cosine.diagonal()
    gaps = F.relu(margin - own[:, None] + cosine) + F.relu(margin - own + cosine)
    return (gaps.sum() - gaps.diagonal().sum()) / (len(one) * (len(one) - 1))


def similarity_gap(x: Tensor, y: Tensor, count: Tensor | None = None) -> Tensor:
    r"""Root mean square difference of the rows' inner products in two spaces, :math:`\frac1B\lVert XX^T - YY^T\rVert_F`.

    Its gradient has the same size near and far from 0, and, for it is a mean over pairs, at every batch size. Of many rows the
    norm is computed as :math:`\lVert X^TX\rVert^2 - 2\lVert X^TY\rVert^2 + \lVert Y^TY\rVert^2`, without any (n, n) matrix.

    Args:
        x: (n, d) distinct rows of the batch.
        y: (n, d') the same in the other space.
        count: (n,) how often a row stands in the batch, B in all; None: once each.
    """
    if not len(x):
        return x.sum()
    size = len(x) if count is None else count.sum()
    if count is not None:
        root = count.to(x).sqrt()[:, None]
        x, y = root * x, root * y
    if len(x) <= max(x.shape[1], y.shape[1]):
        return (x @ x.T - y @ y.T).norm() / size
    own, other = (x.T @ x).square().sum(), (y.T @ y).square().sum()
    squared = own - 2 * (x.T @ y).square().sum() + other
    rounding = torch.finfo(x.dtype).eps * (own + other).detach()
    return torch.where(squared > rounding, squared, rounding).sqrt() / size


def mean_where(values: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the mean of the (B,) ``values`` at the rows ``where`` is True; 0 where there is none."""
    if where is None:
        return values.mean()
    kept = where.to(values)
    return (values * kept).sum() / kept.sum().clamp_min(1.0)
