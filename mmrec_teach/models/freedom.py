"""FREEDOM: freeze the graph of similar items, thin out the graph of clicks.

Zhou and Shen, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation", MM 2023,
arXiv:2211.06924. The symbols are the paper's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import Projections, shares
from mmrec_teach.ops import graph, losses


class FREEDOM(Recommender):
    r"""LightGCN on a thinned user-item graph, plus an item's neighbours in a frozen graph of content.

    .. math::
        S = \sum_m \alpha_m D_m^{-1/2} S_m D_m^{-1/2}, \qquad \tilde h_i = (S^{L_i} E_I)_i, \qquad
        H = \mathrm{mean}_{l \le L}\, \hat A_\rho^{\,l} E, \qquad h_u = H_u, \quad h_i = H_i + \tilde h_i

        L = -\tfrac1B\sum \ln\sigma(h_u\cdot h_i - h_u\cdot h_j) + \lambda \sum_m -\tfrac1B\sum
        \ln\sigma(h_u\cdot h_{m,i} - h_u\cdot h_{m,j}), \qquad h_m = e_m W_m, \qquad s_{ui} = h_u\cdot h_i

    :math:`S_m` links every item to its k nearest by cosine of the features, all with weight 1, and never changes.
    :math:`\hat A_\rho` keeps (1 - ρ) of the training edges, drawn anew each epoch; edge (u, i) is drawn in proportion to
    :math:`1/\sqrt{d_u d_i}`, so edges between busy nodes go first. Scores use all edges.

    A cold item gets an opinion: :math:`\tilde h_i` is made of its neighbours' trained vectors. An item that lacks a modality has no
    neighbours there (and is nobody's), its α are renormalised over the modalities it has, and it takes no part in that
    modality's term; one that has none is left with its ID.

    Args:
        data: its training interactions are the graph; needs at least one feature table.
        dim: size d.
        n_layers: depth L on the user-item graph.
        n_item_layers: depth L_i on the item graph; 0 switches it off.
        k: neighbours per item and modality, the item itself among them.
        image_weight: α of a modality named ``image``; the others share the rest equally. Without one (or with it alone) all are
            equal.
        modality_weights: α by name instead; they are scaled to sum to 1.
        edge_dropout: ρ; 0 keeps every edge.
        modalities: which feature tables; None means all.
        scaling: ``"raw"`` or ``"unit"`` features in h_m (cosines do not mind).
        projection_bias: h_m has an offset b_m (released code). It cancels within every pair and is never trained.
        trainable_features: the tables e_m of h_m are parameters (released code). S keeps to the original features either way.
        seed: of the initial values and of the edges drawn.

    The released code is ``projection_bias=True, trainable_features=True``.

    Views: ``user/id``, ``item/id`` are E; ``item/NAME`` is h_m of each modality (zero rows where missing); ``item/content`` is
    :math:`\tilde h`; ``user/final``, ``item/final`` are h.
    Loss terms: ``bpr``, and ``bpr_content`` with weight λ.
    """

    default_weights = {"bpr": 1.0, "bpr_content": 1e-3}
    parts_note = new_note = ""

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        n_layers: int = 2,
        n_item_layers: int = 1,
        k: int = 10,
        image_weight: float = 0.1,
        modality_weights: Mapping[str, float] | None = None,
        edge_dropout: float = 0.8,
        modalities: Sequence[str] | None = None,
        scaling: str = "raw",
        projection_bias: bool = False,
        trainable_features: bool = False,
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        for name, depth in (("n_layers", n_layers), ("n_item_layers", n_item_layers)):
            check_whole(f"FREEDOM({name}=)", depth, 0, "depth out of range")
        if not 0 <= edge_dropout < 1:
            raise OptionError(
                "edge dropout out of range", where="FREEDOM(edge_dropout=)", found=edge_dropout, expected="from 0 to below 1"
            )
        self.n_layers, self.n_item_layers, self.edge_dropout = n_layers, n_item_layers, edge_dropout
        self.user_id = embedding(data.n_users, dim, self.generator)  # E
        self.item_id = embedding(data.n_items, dim, self.generator)
        self.modality = Projections(  # e_m, W_m
            data,
            modalities,
            dim,
            self.generator,
            model="FREEDOM",
            scaling=scaling,
            bias=projection_bias,
            trainable=trainable_features,
        )
        self.k, self.alpha = k, _alpha(self.modality.names, image_weight, modality_weights)
        graphs = [
            graph.knn_graph(self.modality.table(m), k, weights="binary", missing=data.missing[m])  # D^-1/2 S_m D^-1/2
            for m in self.modality.names
        ]
        similar = graph.mixed(graphs, self.modality.shares(self.alpha))
        self.register_buffer("similar", similar, persistent=False)  # S, (I, I), frozen
        self.register_buffer("similar_t", graph.transposed(similar), persistent=False)
        self._edges = data.train.users, data.train.items
        self.register_buffer("adjacency", self._adjacency(*self._edges), persistent=False)  # Â, side U + I
        self.thinned: Tensor | None = None  # Â_ρ of this epoch; None: all edges

    def _adjacency(self, users: np.ndarray, items: np.ndarray) -> Tensor:
        return graph.normalized_adjacency(users, items, self.n_users, self.n_items)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the edges of this epoch and normalise what is left by its own degrees."""
        if self.edge_dropout == 0:
            self.thinned = None
            return
        drawn = self.draw()
        thinned = self._adjacency(*(side[drawn] for side in self._edges))
        self.thinned = thinned.to(device=self.adjacency.device, dtype=self.adjacency.dtype)

    def draw(self) -> np.ndarray:
        r"""Return which (1 - ρ) of the training edges stay, drawn without replacement with chances :math:`1/\sqrt{d_u d_i}`."""
        users, items = self._edges
        degrees = np.bincount(users, minlength=self.n_users)[users] * np.bincount(items, minlength=self.n_items)[items]
        kept = max(1, int(len(users) * (1 - self.edge_dropout)))
        # the largest of log(chance) + Gumbel noise is such a draw; torch.multinomial ends at 2^24 edges
        noise = torch.empty(len(users), dtype=torch.float64).exponential_(generator=self.generator).log_().neg_()
        score = noise - 0.5 * torch.from_numpy(degrees).double().log()
        return torch.topk(score, kept, sorted=False).indices.numpy()

    def propagate(self, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        """Return h of users (U, d) and items (I, d), the clicks' part over ``adjacency``."""
        h = layer = torch.cat([self.user_id.weight, self.item_id.weight])
        for _ in range(self.n_layers):
            layer = graph.propagate(adjacency, layer)
            h = h + layer
        users, items = (h / (self.n_layers + 1)).split([self.n_users, self.n_items])
        return users, items + self.neighbours() if self.n_item_layers else items

    def neighbours(self) -> Tensor:
        r"""Return :math:`\tilde h` (I, d): what similar items look like."""
        h = self.item_id.weight
        for _ in range(self.n_item_layers):
            h = graph.propagate(self.similar, h, self.similar_t)
        return h

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = self.default_weights if active is None else active
        terms: dict[str, Tensor] = {}
        if not active:
            return terms
        users, items = self.propagate(self.thinned if self.training and self.thinned is not None else self.adjacency)
        u = rows(users, batch.users)  # (B, d)
        if "bpr" in active:
            i, j = rows(items, batch.items), rows(items, batch.negatives)
            terms["bpr"] = losses.bpr((u * i).sum(-1), (u * j).sum(-1))
        if "bpr_content" in active:
            terms["bpr_content"] = sum(self._content_bpr(name, u, batch) for name in self.modality.names)
        return terms

    def _content_bpr(self, name: str, u: Tensor, batch: Batch) -> Tensor:
        """Return the second sum of L for one modality, over the pairs of which both items have it."""
        both = torch.cat([batch.items, batch.negatives])
        scores = (u.repeat(2, 1) * self.modality(name, both)).sum(-1)  # (2B,)
        there = self.modality.present(name, both)
        where = None if there is None else torch.logical_and(*there.chunk(2))
        return losses.bpr(*scores.chunk(2), where)

    @once_per_evaluation
    def final(self) -> tuple[Tensor, Tensor]:
        """Return h of all users and items on the whole graph."""
        return self.propagate(self.adjacency)

    def views(self) -> dict[str, Tensor]:
        users, items = self.final()
        return {
            "user/id": self.user_id.weight,
            "item/id": self.item_id.weight,
            **self.modality.views(),
            "item/content": self.neighbours(),
            "user/final": users,
            "item/final": items,
        }

    @torch.no_grad()
    def parts(self, users: Tensor) -> dict[str, Tensor]:
        h_users, h_items = self.final()
        content = self.neighbours() if self.n_item_layers else torch.zeros_like(h_items)
        return {"id": h_users[users] @ (h_items - content).T, "content": h_users[users] @ content.T}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        h, (tables, present) = self.item_id.weight, self.modality.new(features, "FREEDOM")
        share = shares(self.alpha, present).to(h)
        graphs = [
            graph.knn_rows(
                table.to(h), self.modality.table(name), self.k, self.modality.has[:, m].to(h) * self.k**-0.5, "binary"
            )
            for m, (name, table) in enumerate(tables.items())
        ]
        new = h.new_zeros(len(share), h.shape[1])
        for _ in range(self.n_item_layers):
            new = sum(share[:, m, None] * (rows @ h + own[:, None] * new) for m, (rows, own) in enumerate(graphs))
            h = graph.propagate(self.similar, h, self.similar_t)
        return new, None

    def score(self, users: Tensor) -> Tensor:
        h_users, h_items = self.final()
        return h_users[users] @ h_items.T


def _alpha(names: Sequence[str], image_weight: float, weights: Mapping[str, float] | None) -> Tensor:
    """Return the modalities' weights (M,), summing to 1."""
    if weights is None:
        if not 0 <= image_weight <= 1:
            raise OptionError("weight out of range", where="FREEDOM(image_weight=)", found=image_weight, expected="from 0 to 1")
        others = len(names) - 1
        if "image" not in names or not others:
            return torch.full((len(names),), 1 / len(names))
        return torch.tensor([image_weight if name == "image" else (1 - image_weight) / others for name in names])
    if set(weights) != set(names) or min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise OptionError(
            "not one weight per modality",
            where="FREEDOM(modality_weights=)",
            found=repr(dict(weights)),
            expected=f"a number from 0 up for each of {', '.join(names)}, not all 0",
        )
    alpha = torch.tensor([float(weights[name]) for name in names])
    return alpha / alpha.sum()
