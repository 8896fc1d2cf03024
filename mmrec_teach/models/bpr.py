"""BPR-MF: matrix factorisation learned from pairs.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, arXiv:1205.2618.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from mmrec_teach.data import Dataset
from mmrec_teach.models.base import Batch, Recommender, embedding, rows
from mmrec_teach.ops import losses


class BPR(Recommender):
    r"""Users and items as points; the score is an inner product, learned so that taken items beat untaken ones.

    .. math:: s_{ui} = \gamma_u \cdot \gamma_i + b_i, \qquad
              \mathcal L = -\ln\sigma(s_{ui} - s_{uj}) + \lambda\lVert\Theta\rVert^2

    Args:
        data: only its sizes are used.
        dim: embedding size d.
        item_bias: whether items have a bias b_i (the paper's section 4.3.1 has none; many codes do).
        seed: of the initial values.

    Views: ``user/id`` (U, d), ``item/id`` (I, d); ``user/final`` and ``item/final`` are the same tables.
    Loss terms: ``bpr``, ``l2`` (squared, the batch's rows).
    """

    default_weights = {"bpr": 1.0, "l2": 1e-2}

    def __init__(self, data: Dataset, *, dim: int = 64, item_bias: bool = False, seed: int = 0):
        super().__init__(data, seed=seed)
        self.user_id = embedding(data.n_users, dim, self.generator)  # γ_u
        self.item_id = embedding(data.n_items, dim, self.generator)  # γ_i
        self.item_bias = nn.Parameter(self.user_id.weight.new_zeros(data.n_items)) if item_bias else None  # b_i

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        u = self.user_id(batch.users)  # (B, d)
        i, j = self.item_id(batch.items), self.item_id(batch.negatives)  # (B, d)
        terms = {}
        if active is None or "bpr" in active:
            positive, negative = (u * i).sum(-1), (u * j).sum(-1)  # (B,)
            if self.item_bias is not None:
                positive = positive + rows(self.item_bias, batch.items)
                negative = negative + rows(self.item_bias, batch.negatives)
            terms["bpr"] = losses.bpr(positive, negative)
        if active is None or "l2" in active:
            terms["l2"] = losses.l2(u, i, j)
        return terms

    def views(self) -> dict[str, Tensor]:
        users, items = self.user_id.weight, self.item_id.weight
        return {"user/id": users, "item/id": items, "user/final": users, "item/final": items}

    def item_offsets(self) -> Tensor | None:
        return None if self.item_bias is None else self.item_bias.detach()

    def score(self, users: Tensor) -> Tensor:
        scores = self.user_id(users) @ self.item_id.weight.T
        return scores if self.item_bias is None else scores + self.item_bias
