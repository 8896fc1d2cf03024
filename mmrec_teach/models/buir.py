"""BUIR: a student that predicts a slow copy of itself, from positive pairs alone.

Lee et al., "Bootstrapping User and Item Representations for One-Class Collaborative Filtering", SIGIR 2021,
arXiv:2105.06323. The symbols are the paper's.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import linear
from mmrec_teach.ops import graph, losses


class BUIR(Recommender):
    r"""An online encoder f_θ, a target encoder f_ξ that follows it slowly, and a predictor q between the two.

    .. math::
        L = \tfrac1B\sum_{(u,i)} \big[2 - 2\cos(q(f_\theta(u)), f_\xi(i))\big] + \big[2 - 2\cos(q(f_\theta(i)), f_\xi(u))\big], \qquad
        \xi \leftarrow \tau\xi + (1-\tau)\theta

        s_{ui} = q(f_\theta(u))\cdot f_\theta(i) + f_\theta(u)\cdot q(f_\theta(i))

    Content is not used, and a cold item's vector is never trained: its scores mean nothing.

    Args:
        data: its training interactions are the graph; features are not used.
        dim: size d.
        n_layers: 0 looks vectors up (the paper's BUIR_id); from 1 on they are smoothed over the user-item graph as in LightGCN
            (BUIR_nb).
        edge_dropout: BUIR_nb's augmentation. Each step draws a rate from 0 to this and leaves out that share of the edges, one
            draw for the online and one for the target encoder: two views of every neighbourhood.
        momentum: τ. 1 freezes the first target; 0 makes the target the online encoder of the same step, held fixed.
        predictor: whether q exists. Off, q is the identity.
        seed: of the initial values and of the dropped edges.

    Views: ``user/id``, ``item/id`` the online tables; ``user/online``, ``item/online`` f_θ; ``user/target``, ``item/target`` f_ξ;
    ``user/final``, ``item/final`` the two halves [q(f_θ), f_θ] and [f_θ, q(f_θ)] whose product is the score.
    Loss terms: ``rec`` is L; ``l2`` the batch's rows of the online tables (the paper leaves decay to the optimiser: 0 by default).

    The target is moved at the start of a training step, by where the online encoder has got to since: once per call of
    :meth:`losses` in training mode.
    """

    default_weights = {"rec": 1.0, "l2": 0.0}
    needs_negatives = False

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        n_layers: int = 2,
        edge_dropout: float = 0.2,
        momentum: float = 0.995,
        predictor: bool = True,
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        check_whole("BUIR(n_layers=)", n_layers, 0, "depth out of range")
        if not 0 <= momentum <= 1:
            raise OptionError("momentum out of range", where="BUIR(momentum=)", found=momentum, expected="from 0 to 1")
        if not 0 <= edge_dropout < 1:
            raise OptionError(
                "edge dropout out of range", where="BUIR(edge_dropout=)", found=edge_dropout, expected="from 0 to below 1"
            )
        self.n_layers, self.momentum, self.edge_dropout = n_layers, momentum, edge_dropout
        self.user_id = embedding(data.n_users, dim, self.generator)  # θ
        self.item_id = embedding(data.n_items, dim, self.generator)
        self.predict = linear(dim, dim, self.generator) if predictor else nn.Identity()  # q
        self.register_buffer("user_target", self.user_id.weight.detach().clone())  # ξ, kept with the model: it is state
        self.register_buffer("item_target", self.item_id.weight.detach().clone())
        adjacency = graph.normalized_adjacency(data.train.users, data.train.items, data.n_users, data.n_items)
        self.register_buffer("adjacency", adjacency, persistent=False)  # Â, side U + I
        self.register_buffer("edge", graph.undirected_edges(adjacency), persistent=False)  # which edge a stored value is of

    def encode(self, users: Tensor, items: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        """Return f of all users (U, d) and items (I, d) from their tables: the mean of layers 0..L."""
        h = layer = torch.cat([users, items])
        for _ in range(self.n_layers):
            layer = graph.propagate(adjacency, layer)
            h = h + layer
        users, items = (h / (self.n_layers + 1)).split([self.n_users, self.n_items])
        return users, items

    def augmented(self) -> Tensor:
        """Return Â with edges left out at a random rate and the others scaled up accordingly; in eval mode Â."""
        if not self.training or self.edge_dropout == 0 or self.n_layers == 0:
            return self.adjacency
        rate = self.edge_dropout * float(torch.rand((), generator=self.generator))
        keep = self.dropout(torch.ones(self.edge.numel() // 2), rate).to(self.device)  # both directions of an edge go together
        return graph.reweighted(self.adjacency, self.adjacency.values() * keep[self.edge])

    @torch.no_grad()
    def follow(self) -> None:
        """ξ ← τ ξ + (1 - τ) θ."""
        self.user_target.lerp_(self.user_id.weight, 1 - self.momentum)
        self.item_target.lerp_(self.item_id.weight, 1 - self.momentum)

    @once_per_evaluation
    def online(self) -> tuple[Tensor, Tensor]:
        """Return f_θ of all users and items, on the whole graph."""
        return self.encode(self.user_id.weight, self.item_id.weight, self.adjacency)

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = self.default_weights if active is None else active
        terms = {}
        if "rec" in active:
            if self.training:
                self.follow()
            users, items = self.encode(self.user_id.weight, self.item_id.weight, self.augmented())
            u, i = rows(users, batch.users), rows(items, batch.items)  # (B, d)
            with torch.no_grad():
                users, items = self.encode(self.user_target, self.item_target, self.augmented())
                target_u, target_i = rows(users, batch.users), rows(items, batch.items)  # (B, d)
            terms["rec"] = 2 * losses.alignment(self.predict(u), target_i) + 2 * losses.alignment(self.predict(i), target_u)
        if "l2" in active:
            terms["l2"] = losses.l2(self.user_id(batch.users), self.item_id(batch.items))
        return terms

    @once_per_evaluation
    def halves(self) -> tuple[Tensor, Tensor]:
        """Return [q(f_θ(u)), f_θ(u)] (U, 2d) and [f_θ(i), q(f_θ(i))] (I, 2d)."""
        users, items = self.online()
        return torch.cat([self.predict(users), users], 1), torch.cat([items, self.predict(items)], 1)

    def views(self) -> dict[str, Tensor]:
        online, final = self.online(), self.halves()
        target = self.encode(self.user_target, self.item_target, self.adjacency)
        return {
            "user/id": self.user_id.weight,
            "item/id": self.item_id.weight,
            "user/online": online[0],
            "item/online": online[1],
            "user/target": target[0],
            "item/target": target[1],
            "user/final": final[0],
            "item/final": final[1],
        }

    def score(self, users: Tensor) -> Tensor:
        h_users, h_items = self.halves()
        return h_users[users] @ h_items.T
