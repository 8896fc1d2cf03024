"""LightGCN: a graph convolution with everything taken away that recommendation does not need.

He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020, arXiv:2002.02126.
Equation numbers are the paper's.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.errors import check_choice, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.ops import graph, losses


class LightGCN(Recommender):
    r"""Embeddings smoothed over the user-item graph: no weight matrix, no activation.

    .. math:: H^{(l+1)} = \hat A H^{(l)} \;(7), \qquad H = \tfrac1{L+1}\sum_{l=0}^{L} H^{(l)} \;(8), \qquad s_{ui} = h_u\cdot h_i \;(5)

    Args:
        data: its training interactions are the graph; features are not used.
        dim: embedding size d.
        n_layers: depth L; 0 is matrix factorisation.
        regularizer: ``"squared"`` (paper, eq. 15) or ``"emb_norm"`` (released re-implementations).
        seed: of the initial values.

    Views: ``user/id``, ``item/id`` are H^(0); ``user/final``, ``item/final`` are H.
    Loss terms: ``bpr`` and ``l2`` (eq. 15, first and second part; the penalty is on the batch's rows of H^(0)).
    """

    default_weights = {"bpr": 1.0, "l2": 1e-3}

    def __init__(self, data: Dataset, *, dim: int = 64, n_layers: int = 2, regularizer: str = "squared", seed: int = 0):
        super().__init__(data, seed=seed)
        self.penalty = check_choice("regularizer", regularizer, {"squared": losses.l2, "emb_norm": losses.emb_norm})
        self.n_layers = check_whole("LightGCN(n_layers=)", n_layers, 0, "depth out of range")
        self.user_id = embedding(data.n_users, dim, self.generator)
        self.item_id = embedding(data.n_items, dim, self.generator)
        adjacency = graph.normalized_adjacency(data.train.users, data.train.items, data.n_users, data.n_items)
        self.register_buffer("adjacency", adjacency, persistent=False)  # Â, side U + I

    @once_per_evaluation
    def propagate(self) -> tuple[Tensor, Tensor]:
        """Return H as users (U, d) and items (I, d)."""
        h = layer = torch.cat([self.user_id.weight, self.item_id.weight])  # H^(0)
        for _ in range(self.n_layers):
            layer = graph.propagate(self.adjacency, layer)  # (7)
            h = h + layer
        users, items = (h / (self.n_layers + 1)).split([self.n_users, self.n_items])  # (8)
        return users, items

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        terms = {}
        if active is None or "bpr" in active:
            users, items = self.propagate()
            u, i, j = rows(users, batch.users), rows(items, batch.items), rows(items, batch.negatives)  # (B, d)
            terms["bpr"] = losses.bpr((u * i).sum(-1), (u * j).sum(-1))
        if active is None or "l2" in active:
            terms["l2"] = self.penalty(self.user_id(batch.users), self.item_id(batch.items), self.item_id(batch.negatives))
        return terms

    def views(self) -> dict[str, Tensor]:
        users, items = self.propagate()
        return {"user/id": self.user_id.weight, "item/id": self.item_id.weight, "user/final": users, "item/final": items}

    def score(self, users: Tensor) -> Tensor:
        h_users, h_items = self.propagate()
        return h_users[users] @ h_items.T
