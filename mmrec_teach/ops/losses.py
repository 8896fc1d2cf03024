"""Loss terms, each a scalar mean over the batch. The forms released code uses instead are separate, named functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Bayesian personalised ranking, :math:`-\frac1B\sum \ln\sigma(s_{ui}-s_{uj})` (Rendle et al. 2009, arXiv:1205.2618).

    Args:
        positive: (B,) scores of the items taken.
        negative: (B,) scores of the items not taken.
    """
    return F.softplus(negative - positive).mean()  # -ln sigmoid(x) = softplus(-x), without overflow


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
