"""LATTICE: mining latent structures for multimedia recommendation, a graph of items learned from their content.

Zhang et al., "Mining Latent Structures for Multimedia Recommendation", MM 2021, arXiv:2104.09036. The symbols are the paper's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError, check_choice, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import Projections, shares
from mmrec_teach.ops import graph, losses


class LATTICE(Recommender):
    r"""Collaborative filtering, plus the vectors of similar items, where what is similar is partly learned.

    .. math::
        S^m = D^{-1/2}\,\mathrm{knn}_k(\cos(e_m, e_m))\,D^{-1/2}, \qquad \tilde S^m = \mathrm{knn}_k(\cos(h_m, h_m)), \quad
        h_m = e_m W_m + b_m

        A = \lambda \sum_m \alpha_m S^m + (1-\lambda)\, D^{-1/2} \Big(\sum_m \alpha_m \tilde S^m\Big) D^{-1/2}, \qquad
        \alpha = \mathrm{softmax}(w)

        \tilde h = A^{L_i} E_I, \qquad h_u = H_u, \quad h_i = H_i + \tilde h_i/\lVert\tilde h_i\rVert, \qquad s_{ui} = h_u\cdot h_i

    H is LightGCN's. An edge weighs the cosine, negative ones 0.

    **When A is learned.** The neighbours of the learned graph are searched once an epoch (in blocks: the I x I matrix never
    exists). With ``graph_gradient="first"``, as in the released code, its weights carry a gradient to W_m, b_m and w in the
    epoch's first batch and are constants after it: one step an epoch trains them. With ``"every"`` the weights along the
    epoch's edges are computed anew, with gradient, in every batch; that projects all items every time, and costs accordingly.
    Scores use the graph of the parameters as they are.

    A cold item gets an opinion: :math:`\tilde h_i` is made of its neighbours' trained vectors. An item that lacks a modality has no
    neighbours there (and is nobody's), and its α are renormalised over the modalities it has; one that has none is left with its
    ID.

    Args:
        data: its training interactions are the graph; needs at least one feature table.
        dim: size d of embeddings.
        content_dim: size of h_m.
        n_layers: depth of H.
        n_item_layers: depth L_i on the item graph; 0 switches it off.
        k: neighbours per item and modality, the item itself among them.
        raw_share: λ, from 0 (learned graph only) to 1 (raw features' graph only: nothing is learned from content).
        graph_gradient: ``"first"`` or ``"every"``, see above.
        user_item_graph: ``"symmetric"`` Â (paper: LightGCN) or ``"row"`` D^-1 (A + I), every node the mean of its neighbours and
            itself (released).
        trainable_features: the tables e_m of h_m are parameters (released code). S^m keeps to the original features.
        modalities: which feature tables; None means all.
        scaling: ``"raw"`` or ``"unit"`` features in h_m.
        regularizer: ``"squared"`` on the batch's rows of E (paper), ``"propagated"`` on the batch's rows of h (released).
        seed: of the initial values.

    The released code is ``user_item_graph="row", trainable_features=True, regularizer="propagated"``.

    Views: ``user/id``, ``item/id`` are E; ``item/NAME`` is h_m of each modality (zero rows where missing); ``item/content`` is
    :math:`\tilde h`; ``user/final``, ``item/final`` are h.
    Loss terms: ``bpr``, ``l2``.
    """

    default_weights = {"bpr": 1.0, "l2": 1e-3}
    parts_note = new_note = ""

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        content_dim: int = 64,
        n_layers: int = 2,
        n_item_layers: int = 1,
        k: int = 10,
        raw_share: float = 0.9,
        graph_gradient: str = "first",
        user_item_graph: str = "symmetric",
        trainable_features: bool = False,
        modalities: Sequence[str] | None = None,
        scaling: str = "raw",
        regularizer: str = "squared",
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        for name, depth in (("n_layers", n_layers), ("n_item_layers", n_item_layers)):
            check_whole(f"LATTICE({name}=)", depth, 0, "depth out of range")
        if not 0 <= raw_share <= 1:
            raise OptionError("share out of range", where="LATTICE(raw_share=)", found=raw_share, expected="from 0 to 1")
        check_choice("regularizer", regularizer, {"squared": None, "propagated": None})
        self.every = check_choice("graph_gradient", graph_gradient, {"first": False, "every": True})
        build = check_choice(
            "user_item_graph",
            user_item_graph,
            {"symmetric": graph.normalized_adjacency, "row": graph.row_normalized_adjacency},
        )
        self.n_layers, self.n_item_layers, self.k = n_layers, n_item_layers, k
        self.raw_share, self.regularizer = raw_share, regularizer
        self.user_id = embedding(data.n_users, dim, self.generator)  # E
        self.item_id = embedding(data.n_items, dim, self.generator)
        self.modality = Projections(  # e_m, W_m, b_m
            data, modalities, content_dim, self.generator, model="LATTICE", scaling=scaling, trainable=trainable_features
        )
        self.modality_weight = nn.Parameter(torch.zeros(len(self.modality.names)))  # w: equal α to start with
        for m, name in enumerate(self.modality.names):
            similar = graph.knn_graph(self.modality.table(name), k, missing=data.missing[name])
            self.register_buffer(f"similar_{m}", similar, persistent=False)  # S^m, (I, I)
            self.register_buffer(f"similar_t_{m}", graph.transposed(similar), persistent=False)
        adjacency = build(data.train.users, data.train.items, data.n_users, data.n_items)
        self.register_buffer("adjacency", adjacency, persistent=False)  # side U + I
        transpose = adjacency if user_item_graph == "symmetric" else graph.transposed(adjacency)
        self.register_buffer("adjacency_t", transpose, persistent=False)
        self._search: tuple[list[Tensor], list[Tensor]] | None = None  # what was searched with, and the neighbours found
        self._epoch_neighbours: list[Tensor] | None = None
        self._epoch_graph: tuple[Tensor, Tensor] | None = None

    # -- the item graph ---------------------------------------------------------------------------------------------
    def alpha(self) -> Tensor:
        """Return every item's modality weights (I, M), renormalised over what it has."""
        return self.modality.shares(self.modality_weight.softmax(0))

    def neighbours(self) -> list[Tensor]:
        """Return, per modality, the (I, k) most similar items by cosine of h_m; an item that lacks it is told itself."""
        now = list(self.modality.parameters())  # these move once an epoch: search no more often than that
        if self._search is None or not all(map(_same, self._search[0], now)):
            found = []
            with torch.no_grad():
                for m, name in enumerate(self.modality.names):
                    ids, near, _ = graph.nearest(
                        self.modality(name), self.k, missing=~self.modality.has[:, m], where="LATTICE(k=)"
                    )
                    table = torch.arange(self.n_items, device=near.device)[:, None].repeat(1, self.k)
                    table[ids] = near
                    found.append(table)
            self._search = [p.detach().clone() for p in now], found
        return self._search[1]

    def edge_weights(self, neighbours: list[Tensor], alpha: Tensor) -> list[Tensor]:
        """Return, per modality, the (I, k) values of the learned graph after its symmetric normalisation, with gradient."""
        weights, scale = self.edges(neighbours, alpha)
        return [scale[:, None] * w * rows(scale, n.reshape(-1)).view_as(w) for w, n in zip(weights, neighbours, strict=True)]

    def edges(self, neighbours: list[Tensor], alpha: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return, per modality, the (I, k) values of the learned graph before its normalisation, and D^-1/2 (I,), with gradient."""
        weights = []
        for m, (name, near) in enumerate(zip(self.modality.names, neighbours, strict=True)):
            unit = nn.functional.normalize(self.modality(name), dim=1)  # (I, content_dim)
            cosine = (unit[:, None] * rows(unit, near.reshape(-1)).view(*near.shape, -1)).sum(-1)
            weights.append(alpha[:, m, None] * cosine.clamp_min(0))  # a row that lacks m has alpha 0
        degree = sum(w.sum(1) for w in weights)  # (I,)
        return weights, torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))

    def learning_product(self, h: Tensor, neighbours: list[Tensor], alpha: Tensor, learned: list[Tensor]) -> Tensor:
        """Return A h with gradients to h, α and the learned graph's weights."""
        total = 0.0
        for m, (near, w) in enumerate(zip(neighbours, learned, strict=True)):
            raw = graph.propagate(getattr(self, f"similar_{m}"), h, getattr(self, f"similar_t_{m}"))  # S^m h
            mined = torch.bmm(w[:, None], rows(h, near.reshape(-1)).view(*near.shape, -1))[:, 0]  # (I, 1, k) (I, k, d)
            total = total + self.raw_share * alpha[:, m, None] * raw + (1 - self.raw_share) * mined
        return total

    def constant_graph(self, neighbours: list[Tensor], alpha: Tensor, learned: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return A and its transpose as CSR, (I, I), constants."""
        everyone = torch.arange(self.n_items, device=alpha.device)
        mined = [
            graph.csr(everyone.repeat_interleave(self.k), near.reshape(-1), w.detach().reshape(-1), (self.n_items,) * 2)
            for near, w in zip(neighbours, learned, strict=True)  # a row of its own id k times has weight 0: mixed adds it up
        ]
        raw = [getattr(self, f"similar_{m}") for m in range(len(neighbours))]
        of_mined = torch.full_like(alpha, 1 - self.raw_share)
        matrix = graph.mixed([*raw, *mined], torch.cat([self.raw_share * alpha.detach(), of_mined], 1))
        return matrix, graph.transposed(matrix)

    def begin_epoch(self, epoch: int) -> None:
        """Have the item graph searched and learned anew by the first batch."""
        self._epoch_neighbours = self._epoch_graph = None

    def train_product(self) -> Tensor:
        r"""Return :math:`\tilde h` (I, d) for a training step, with gradients as ``graph_gradient`` says."""
        h = self.item_id.weight
        if self._epoch_graph is None or self.every:
            if self._epoch_neighbours is None:
                self._epoch_neighbours = self.neighbours()
            alpha = self.alpha()
            parts = self._epoch_neighbours, alpha, self.edge_weights(self._epoch_neighbours, alpha)
            if not self.every:
                self._epoch_graph = self.constant_graph(*parts)
            for _ in range(self.n_item_layers):
                h = self.learning_product(h, *parts)
            return h
        matrix, transpose = self._epoch_graph
        for _ in range(self.n_item_layers):
            h = graph.propagate(matrix, h, transpose)
        return h

    @once_per_evaluation
    @torch.no_grad()
    def item_graph(self) -> tuple[Tensor, Tensor]:
        """Return A of the parameters as they are, and its transpose."""
        neighbours, alpha = self.neighbours(), self.alpha()
        return self.constant_graph(neighbours, alpha, self.edge_weights(neighbours, alpha))

    def mined(self) -> Tensor:
        r"""Return :math:`\tilde h` (I, d) of the parameters as they are."""
        h, (matrix, transpose) = self.item_id.weight, self.item_graph()
        for _ in range(self.n_item_layers):
            h = graph.propagate(matrix, h, transpose)
        return h

    # -- the model --------------------------------------------------------------------------------------------------
    def propagate(self, mined: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return h of users (U, d) and items (I, d)."""
        h = layer = torch.cat([self.user_id.weight, self.item_id.weight])
        for _ in range(self.n_layers):
            layer = graph.propagate(self.adjacency, layer, self.adjacency_t)
            h = h + layer
        users, items = (h / (self.n_layers + 1)).split([self.n_users, self.n_items])
        return users, items if mined is None else items + nn.functional.normalize(mined, dim=1)

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = self.default_weights if active is None else active
        terms = {}
        if "bpr" in active or ("l2" in active and self.regularizer == "propagated"):
            mined = None if not self.n_item_layers else self.train_product() if self.training else self.mined()
            users, items = self.propagate(mined)
            u, i, j = rows(users, batch.users), rows(items, batch.items), rows(items, batch.negatives)  # (B, d)
        if "bpr" in active:
            terms["bpr"] = losses.bpr((u * i).sum(-1), (u * j).sum(-1))
        if "l2" in active:
            own = self.user_id(batch.users), self.item_id(batch.items), self.item_id(batch.negatives)
            terms["l2"] = losses.l2(*(own if self.regularizer == "squared" else (u, i, j)))
        return terms

    @once_per_evaluation
    def final(self) -> tuple[Tensor, Tensor]:
        """Return h of all users and items."""
        return self.propagate(self.mined() if self.n_item_layers else None)

    def views(self) -> dict[str, Tensor]:
        users, items = self.final()
        return {
            "user/id": self.user_id.weight,
            "item/id": self.item_id.weight,
            **self.modality.views(),
            "item/content": self.mined(),
            "user/final": users,
            "item/final": items,
        }

    @torch.no_grad()
    def parts(self, users: Tensor) -> dict[str, Tensor]:
        h_users, h_items = self.final()
        content = nn.functional.normalize(self.mined(), dim=1) if self.n_item_layers else torch.zeros_like(h_items)
        return {"id": h_users[users] @ (h_items - content).T, "content": h_users[users] @ content.T}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        h, (tables, present) = self.item_id.weight, self.modality.new(features, "LATTICE")
        share = shares(self.modality_weight.softmax(0), present).to(h)  # α of the new ones
        _, scale = self.edges(self.neighbours(), self.alpha())
        raw, learned, degree = [], [], h.new_zeros(len(share))
        for m, (name, table) in enumerate(tables.items()):
            table, has = table.to(h), self.modality.has[:, m].to(h)
            old = graph.diagonal(getattr(self, f"similar_{m}")).sqrt()  # an edge to itself weighs 1 before the normalisation
            raw.append(graph.knn_rows(table, self.modality.table(name), self.k, old))
            new = self.modality.layer(name)(table) * present[name].to(h)[:, None]
            plain, own = graph.knn_rows(new, self.modality(name), self.k, has, new_scale=new.any(1).to(h))
            learned.append((plain, own))
            degree = degree + share[:, m] * ((plain @ h.new_ones(self.n_items, 1))[:, 0] + own)
        new_scale = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
        new = h.new_zeros(len(share), h.shape[1])
        matrix, transpose = self.item_graph()
        for _ in range(self.n_item_layers):
            of_raw = sum(share[:, m, None] * (rows @ h + own[:, None] * new) for m, (rows, own) in enumerate(raw))
            scaled, new_scaled = scale[:, None] * h, new_scale[:, None] * new
            of_learned = sum(share[:, m, None] * (r @ scaled + own[:, None] * new_scaled) for m, (r, own) in enumerate(learned))
            new = self.raw_share * of_raw + (1 - self.raw_share) * new_scale[:, None] * of_learned
            h = graph.propagate(matrix, h, transpose)
        return nn.functional.normalize(new, dim=1), None

    def score(self, users: Tensor) -> Tensor:
        h_users, h_items = self.final()
        return h_users[users] @ h_items.T


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape are equal, kind and place included."""
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
