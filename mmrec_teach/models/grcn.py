"""GRCN: before smoothing over the graph, ask the content which of its edges to believe.

Wei et al., "Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback", ACM MM 2020,
arXiv:2111.02036. People also click by accident; an edge whose item does not look like the rest of its user's items counts less.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.errors import check_choice, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import modality_features, modality_presence, new_features
from mmrec_teach.models.layers import linear, view_name
from mmrec_teach.ops import losses
from mmrec_teach.ops.sparse import EdgePattern, segment_softmax


class GRCN(Recommender):
    r"""A graph whose edge weights are computed from content, anew at every step, and a light convolution over it.

    **Refining**, for every modality m. Features are projected, and the user's prototype gathers the items that resemble it, by
    neighbour routing (T = ``n_routing`` steps; every vector is scaled to length 1 after each line):

    .. math::
        \bar i_m &= \mathrm{LeakyReLU}(W_m i_m + b_m) \\
        p^m_{ui} &= \frac{\exp(u_m\cdot\bar i_m)}{\sum_{j\in N_u}\exp(u_m\cdot\bar j_m)}, \qquad
        u_m \leftarrow u_m + \sum_{i\in N_u} p^m_{ui}\,\bar i_m \qquad (T\ \text{times}, \bar u_m\ \text{at the end})

    **Confidence**, one number for each direction of an edge, as softmax over the receiver's neighbours, times the sender's learned
    base value in that modality; the most convinced modality speaks, and what falls below zero is pruned:

    .. math::
        s^m_{i\to u} = \frac{\exp(\bar u_m\cdot\bar i_m)}{\sum_{j\in N_u}\exp(\bar u_m\cdot\bar j_m)}, \quad
        s^m_{u\to i} = \frac{\exp(\bar u_m\cdot\bar i_m)}{\sum_{v\in N_i}\exp(\bar v_m\cdot\bar i_m)}, \quad
        s_{i\to u} = \mathrm{ReLU}\big(\max_m \beta_{i,m}\, s^m_{i\to u}\big)

    **Convolution** of the ID embeddings over the refined graph, which is directed, and layers added up; **prediction** by the
    inner product of ID and content parts side by side:

    .. math::
        u^{(l+1)} = \sum_{i\in N_u} s_{i\to u}\, i^{(l)}, \quad i^{(l+1)} = \sum_{u\in N_i} s_{u\to i}\, u^{(l)}, \qquad
        u^* = \textstyle\sum_l u^{(l)} \,\Vert_m\, \bar u_m, \quad i^* = \sum_l i^{(l)} \,\Vert_m\, \bar i_m

    **Choices.** Softmax values are positive, so that without the base values β nothing could ever be pruned; β belongs to the
    sender as in the authors' code. It starts at 1 (every edge believed until training says otherwise); the authors' code draws it
    around 0, where ReLU cuts a part of the graph at random before the first step and a node cut off in every modality
    can never come back: ``base="xavier"``. The authors' code also smooths the content parts once more with s^m before joining
    them: ``attend_content=True``. Their edge dropout is not here.

    **Missing modalities.** An edge to an item without modality m takes no part in that modality's softmaxes nor in the maximum.
    An item without any modality keeps its edges at the neutral weight 1/|N| of their receiver: content has no say in them. In i*
    the content parts of the modalities an item has are scaled by |M| / (their number); an item with none is scored by ID alone.

    Args:
        data: needs at least one feature table; its training interactions are the graph.
        dim: size of the ID embeddings.
        content_dim: size of prototypes and projected features.
        n_layers: depth L of the convolution, 0 or more.
        n_routing: T.
        modalities: which feature tables; None means all.
        pruning: whether ReLU is applied to the confidence.
        base: ``"ones"`` or ``"xavier"``, the initial β.
        attend_content: see above.
        scaling: of the features, ``"raw"`` or ``"unit"``.
        seed: of the initial values.

    Views: ``user/id``, ``item/id`` are layer 0; for every modality m ``user/m`` and ``item/m`` are the content parts (zero rows
    where the item lacks m); ``user/final``, ``item/final`` are u*, i*.
    Loss terms: ``bpr``; ``l2`` on the batch's rows of the ID and preference tables.
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
        n_routing: int = 3,
        modalities: Sequence[str] | None = None,
        pruning: bool = True,
        base: str = "ones",
        attend_content: bool = False,
        scaling: str = "raw",
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        self.n_layers, self.n_routing = (
            check_whole("GRCN(n_layers=)", n_layers, 0),
            check_whole("GRCN(n_routing=)", n_routing, 0),
        )
        check_whole("GRCN(content_dim=)", content_dim, 1)
        check_choice("base", base, {"ones": None, "xavier": None})
        self.pruning, self.attend_content = pruning, attend_content
        features = modality_features(data, modalities, model="GRCN", scaling=scaling)
        self.modalities = tuple(features)
        self.features = _Buffers(features.values())  # i_m: (I, D_m) each, frozen
        self.user_id = embedding(data.n_users, dim, self.generator)
        self.item_id = embedding(data.n_items, dim, self.generator)
        self.preference = nn.ModuleList(embedding(data.n_users, content_dim, self.generator) for _ in features)  # u_m
        self.projection = nn.ModuleList(linear(f.shape[1], content_dim, self.generator) for f in features.values())  # W_m, b_m
        for layer in self.projection:  # not 0: a feature vector of zeros would have no direction to be scaled along
            nn.init.uniform_(layer.bias, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=self.generator)
        base_values = torch.ones(data.n_users + data.n_items, len(features))
        if base == "xavier":
            nn.init.xavier_normal_(base_values, generator=self.generator)
        self.base = nn.Parameter(base_values)  # β, (U + I, M)

        users, items = torch.from_numpy(data.train.users.copy()), torch.from_numpy(data.train.items.copy())
        self.edges = EdgePattern(users, items, (data.n_users, data.n_items))
        present = torch.stack(list(modality_presence(data, self.modalities).values()), 1)  # (I, M)
        self.register_buffer("present", present, persistent=False)
        self.register_buffer("edge_present", present[self.edges.columns], persistent=False)  # (E, M)
        self.register_buffer("with_content", self.edge_present.any(1), persistent=False)  # (E,)
        for side, ends, n in (("user", users, self.n_users), ("item", items, self.n_items)):
            self.register_buffer(f"{side}_degree", torch.bincount(ends, minlength=n), persistent=False)  # |N|

    # -- refining ---------------------------------------------------------------------------------------------------
    def _routed(self, m: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ū_m (U, d_c), ī_m (I, d_c) and the softmaxes s^m toward users and toward items, each (E,)."""
        edges, allowed = self.edges, self.edge_present[:, m]
        items = F.normalize(F.leaky_relu(self.projection[m](self.features[m]))) * self.present[:, m, None]
        users = F.normalize(self.preference[m].weight)
        for _ in range(self.n_routing):
            p = segment_softmax(edges.dot(users, items), edges.rows, self.n_users, allowed)
            users = F.normalize(users + edges.matmul(p, items))
        likeness = edges.dot(users, items)  # ū·ī, the same number for both directions
        to_user = segment_softmax(likeness, edges.rows, self.n_users, allowed)
        to_item = segment_softmax(likeness, edges.columns, self.n_items, allowed)
        return users, items, to_user, to_item

    def _confidence(self, per_modality: list[Tensor], base: Tensor, degree: Tensor) -> Tensor:
        """Return s (E,) of one direction from its s^m, the senders' β (E, M) and the receivers' |N| (E,)."""
        s = (base * torch.stack(per_modality, 1)).masked_fill(~self.edge_present, -torch.inf).max(1).values
        s = torch.where(self.with_content, s, 1.0 / degree.to(s.dtype))
        return F.relu(s) if self.pruning else s

    def refine(self) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """Return the content parts of users and items, one per modality, and s_{i→u}, s_{u→i} in the order of ``edges``."""
        users, items, to_user, to_item = zip(*(self._routed(m) for m in range(len(self.modalities))), strict=True)
        base_users, base_items = self.base.split([self.n_users, self.n_items])
        from_item = self._confidence(list(to_user), rows(base_items, self.edges.columns), self.user_degree[self.edges.rows])
        from_user = self._confidence(list(to_item), rows(base_users, self.edges.rows), self.item_degree[self.edges.columns])
        if self.attend_content:
            attended = [
                (u + self.edges.matmul(p, i), i + self.edges.rmatmul(q, u))
                for u, i, p, q in zip(users, items, to_user, to_item, strict=True)
            ]
            users, items = zip(*attended, strict=True)
        return list(users), list(items), from_item, from_user

    def propagate(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parts of u* and of i*: the convolved IDs first, then one content part per modality, not yet scaled."""
        content_users, content_items, from_item, from_user = self.refine()
        users = layer_users = self.user_id.weight
        items = layer_items = self.item_id.weight
        for _ in range(self.n_layers):
            layer_users, layer_items = (
                self.edges.matmul(from_item, layer_items),
                self.edges.rmatmul(from_user, layer_users),
            )
            users, items = users + layer_users, items + layer_items
        return [users, *content_users], [items, *content_items]

    def _join(self, items: list[Tensor], present: Tensor) -> Tensor:
        """Return i* from its parts: content parts share |M| among the modalities the item has; ``present`` is (n, M)."""
        n = present.sum(1, keepdim=True).clamp_min(1)
        share = len(self.modalities) * present.to(items[0].dtype) / n  # (n, M)
        return torch.cat([items[0], *(share[:, m, None] * part for m, part in enumerate(items[1:]))], 1)

    # -- the contract -----------------------------------------------------------------------------------------------
    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        terms = {}
        if active is None or "bpr" in active:
            users, items = self.propagate()
            u = torch.cat([rows(part, batch.users) for part in users], 1)  # (B, d + M d_c)
            i, j = (
                self._join([rows(part, ids) for part in items], rows(self.present, ids))
                for ids in (batch.items, batch.negatives)
            )
            terms["bpr"] = losses.bpr((u * i).sum(-1), (u * j).sum(-1))
        if active is None or "l2" in active:
            tables = [self.user_id(batch.users), self.item_id(batch.items), self.item_id(batch.negatives)]
            terms["l2"] = losses.l2(*tables, *(table(batch.users) for table in self.preference))
        return terms

    @once_per_evaluation
    def tables(self) -> tuple[Tensor, Tensor]:
        """Return u* (U, d + M d_c) and i* (I, d + M d_c)."""
        users, items = self.propagate()
        return torch.cat(users, 1), self._join(items, self.present)

    def views(self) -> dict[str, Tensor]:
        users, items = self.propagate()
        views = {"user/id": self.user_id.weight, "item/id": self.item_id.weight}
        for name, u, i in zip(self.modalities, users[1:], items[1:], strict=True):
            views[f"user/{view_name(name)}"], views[f"item/{view_name(name)}"] = u, i
        return {**views, "user/final": torch.cat(users, 1), "item/final": self._join(items, self.present)}

    @torch.no_grad()
    def parts(self, users: Tensor) -> dict[str, Tensor]:
        (u, i), d = self.tables(), self.item_id.weight.shape[1]
        return {"id": u[users, :d] @ i[:, :d].T, "content": u[users, d:] @ i[:, d:].T}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        widths = {name: self.features[m].shape[1] for m, name in enumerate(self.modalities)}
        tables, present = new_features(features, widths, model="GRCN", scaling=self.options["scaling"])
        own = self.item_id.weight
        parts = [own.new_zeros(len(next(iter(tables.values()))), own.shape[1])]
        for f, has, projection in zip(tables.values(), present.values(), self.projection, strict=True):
            parts.append(F.normalize(F.leaky_relu(projection(f.to(own)))) * has.to(own)[:, None])
        return self._join(parts, torch.stack(list(present.values()), 1).to(own.device)), None

    def score(self, users: Tensor) -> Tensor:
        u, i = self.tables()
        return u[users] @ i.T


class _Buffers(nn.Module):
    """A list of constant tensors that moves with its model and is not saved."""

    def __init__(self, tensors: Collection[Tensor]):
        super().__init__()
        for n, tensor in enumerate(tensors):
            self.register_buffer(str(n), tensor, persistent=False)

    def __getitem__(self, n: int) -> Tensor:
        return self._buffers[str(n)]
