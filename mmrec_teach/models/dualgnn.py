"""DualGNN: one graph to learn what users like in each modality, another to learn which modality they look at.

Wang et al., "DualGNN: Dual Graph Neural Network for Multimedia Recommendation", IEEE Transactions on Multimedia 25, 2023 (early
access 2021), doi:10.1109/TMM.2021.3138298.
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
from mmrec_teach.models.layers import linear, modalities_met, view_name
from mmrec_teach.ops import graph, losses
from mmrec_teach.ops.sparse import co_occurrence_graph


class DualGNN(Recommender):
    r"""Per modality a light convolution over the user-item graph; users weigh the modalities and then listen to similar users.

    **Single-modal representations**, for every modality m over the normalised user-item graph, layers added up; the user's
    u_m^(0) is a learned table, the item's its projected feature vector, both scaled to length 1:

    .. math::
        u_m^{(l+1)} = \sum_{i\in N_u}\frac{i_m^{(l)}}{\sqrt{|N_u|}\sqrt{|N_i|}}, \quad
        i_m^{(l+1)} = \sum_{u\in N_i}\frac{u_m^{(l)}}{\sqrt{|N_u|}\sqrt{|N_i|}}, \qquad u_m = \sum_{l=0}^{L} u_m^{(l)}

    **Multi-modal representation**: attention over modalities, α_u = softmax_m(w_u) learned for every user, and attentive
    concatenation; then the co-occurrence graph, in which a user's neighbours C_u are the k users who share most items with them,
    weighted by a softmax over the counts c:

    .. math::
        u_{mul} = \Vert_m\, \alpha_{u,m} u_m, \qquad
        u^* = u_{mul} + \sum_{v\in C_u} \frac{\exp c_{uv}}{\sum_{w\in C_u}\exp c_{uw}}\, v_{mul}, \qquad
        i^* = \Vert_m\, i_m, \qquad s_{ui} = u^*\cdot i^*

    so that a user without α's words (α small) is not asked about words, and a user of few items inherits a pattern of attention.

    **Choices.** Authors' code has several fusions; here ``fusion="concat"`` compares modality with modality, and ``"sum"`` is
    u_mul = Σ_m α_{u,m} u_m against i* = Σ_m i_m. There, w_u is soft-maxed once, at the start, and free afterwards; here α stays
    a distribution, as the formula says. Features pass one linear layer (code: two, with an activation between). In code a user with fewer
    than k neighbours repeats some at random, anew every epoch; here they have as many as they have, and a user who shares
    nothing with anybody keeps u_mul. There are no ID embeddings.

    **Missing modalities.** An item without modality m is no node of graph m: no feature, no edge, no degree. Its
    share in i* goes to the modalities it has, which are scaled by |M| / (their number). α_u is a softmax over the modalities the
    user met in training. An item without any modality has i* = 0: this model knows nothing of it and scores it 0 for everybody.

    Args:
        data: needs at least one feature table; its training interactions are both graphs.
        dim: size of each modality's representation.
        n_layers: depth L on the user-item graph, 0 or more.
        n_neighbours: k.
        modalities: which feature tables; None means all.
        fusion: ``"concat"`` or ``"sum"``.
        normalize: whether layer-0 vectors are scaled to length 1.
        scaling: of the features, ``"raw"`` or ``"unit"``.
        seed: of the initial values.

    Views: for every modality m ``user/m``, ``item/m`` (zero rows where the item lacks m); ``user/final``,
    ``item/final``.
    Loss terms: ``bpr``; ``l2`` on the batch's rows of the preference tables.
    """

    default_weights = {"bpr": 1.0, "l2": 1e-3}
    parts_note, new_note = "items have no ID vector: the score is content, smoothed over clicks", ""

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        n_layers: int = 2,
        n_neighbours: int = 40,
        modalities: Sequence[str] | None = None,
        fusion: str = "concat",
        normalize: bool = True,
        scaling: str = "raw",
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        self.n_layers = check_whole("DualGNN(n_layers=)", n_layers, 0)
        check_whole("DualGNN(n_neighbours=)", n_neighbours, 1)
        check_choice("fusion", fusion, {"concat": None, "sum": None})
        self.fusion, self.normalize = fusion, normalize
        features = modality_features(data, modalities, model="DualGNN", scaling=scaling)
        self.modalities = tuple(features)
        users, items = torch.from_numpy(data.train.users.copy()), torch.from_numpy(data.train.items.copy())
        present = torch.stack(list(modality_presence(data, self.modalities).values()), 1)  # (I, M)
        self.channels = nn.ModuleList(  # a list: a modality may have any name
            _Channel(f, present[:, m], users, items, data.n_users, dim, self.generator) for m, f in enumerate(features.values())
        )
        # w_u: with one modality there is nothing to weigh and nothing to learn
        self.attention = nn.Parameter(torch.zeros(data.n_users, len(features))) if len(features) > 1 else None
        self.register_buffer("met", modalities_met(present, users, items, data.n_users), persistent=False)  # (U, M)
        share = present / present.sum(1, keepdim=True).clamp_min(1) * len(features)
        self.register_buffer("share", share, persistent=False)  # (I, M): |M| / how many the item has, 0 where missing

        who, neighbour, count = co_occurrence_graph(
            data.train.users, data.train.items, data.n_users, data.n_items, n_neighbours
        )
        place = torch.arange(len(who)) - torch.searchsorted(who, who)  # rank within the row
        neighbours = torch.zeros(data.n_users, n_neighbours, dtype=torch.int64)
        counts = torch.full((data.n_users, n_neighbours), -torch.inf)
        neighbours[who, place], counts[who, place] = neighbour, count
        self.register_buffer("neighbours", neighbours, persistent=False)  # C_u (U, k), padded by user 0 at weight 0
        self.register_buffer("counts", counts, persistent=False)  # c (U, k), padded by -inf

    def alpha(self) -> Tensor:
        """Return the users' attention over modalities, (U, M), rows summing to 1."""
        if self.attention is None:
            return self.met.to(self.share.dtype)
        return torch.softmax(self.attention.masked_fill(~self.met, -torch.inf), 1)

    def _users(self, per_modality: list[Tensor], users: Tensor | None = None) -> Tensor:
        """Return u* of ``users`` (all if None) from the users' u_m."""
        alpha = self.alpha()
        weighed = [alpha[:, m, None] * u for m, u in enumerate(per_modality)]
        u_mul = torch.cat(weighed, 1) if self.fusion == "concat" else sum(weighed)  # (U, M d) or (U, d)
        neighbours, counts, own = self.neighbours, self.counts, u_mul
        if users is not None:
            neighbours, counts, own = rows(neighbours, users), rows(counts, users), rows(u_mul, users)
        listening = torch.softmax(counts, 1).nan_to_num(0.0)  # a row of padding only: nobody is listened to
        return own + F.embedding_bag(neighbours, u_mul, per_sample_weights=listening, mode="sum")

    def _items(self, per_modality: list[Tensor], items: Tensor | None = None) -> Tensor:
        """Return i* of ``items`` (all if None) from the items' i_m."""
        share = self.share
        if items is not None:
            share, per_modality = rows(share, items), [rows(i, items) for i in per_modality]
        scaled = [share[:, m, None] * i for m, i in enumerate(per_modality)]
        return torch.cat(scaled, 1) if self.fusion == "concat" else sum(scaled)

    def _single_modal(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return u_m (U, d) and i_m (I, d) of every modality."""
        both = [channel(self.n_layers, self.normalize).split([self.n_users, self.n_items]) for channel in self.channels]
        return [u for u, _ in both], [i for _, i in both]

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        terms = {}
        if active is None or "bpr" in active:
            users, items = self._single_modal()
            u = self._users(users, batch.users)  # (B, M d)
            i, j = self._items(items, torch.cat([batch.items, batch.negatives])).chunk(2)
            terms["bpr"] = losses.bpr((u * i).sum(-1), (u * j).sum(-1))
        if active is None or "l2" in active:
            terms["l2"] = losses.l2(*(channel.preference(batch.users) for channel in self.channels))
        return terms

    @once_per_evaluation
    def tables(self) -> tuple[Tensor, Tensor]:
        """Return u* (U, M d) and i* (I, M d)."""
        users, items = self._single_modal()
        return self._users(users), self._items(items)

    def views(self) -> dict[str, Tensor]:
        users, items = self._single_modal()
        views = {}
        for m, name in enumerate(self.modalities):
            name = view_name(name)
            views[f"user/{name}"], views[f"item/{name}"] = users[m], items[m] * (self.share[:, m, None] > 0)
        return {**views, "user/final": self._users(users), "item/final": self._items(items)}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        widths = {name: channel.features.shape[1] for name, channel in zip(self.modalities, self.channels, strict=True)}
        tables, present = new_features(features, widths, model="DualGNN", scaling=self.options["scaling"])
        has = torch.stack(list(present.values()), 1).to(self.share)
        share = has / has.sum(1, keepdim=True).clamp_min(1) * len(widths)
        parts = []  # without an edge, the layers behind the first are zero
        for m, (f, channel) in enumerate(zip(tables.values(), self.channels, strict=True)):
            x = channel.projection(f.to(self.share))
            parts.append(share[:, m, None] * (F.normalize(x) if self.normalize else x))
        return torch.cat(parts, 1) if self.fusion == "concat" else sum(parts), None

    def score(self, users: Tensor) -> Tensor:
        u, i = self.tables()
        return u[users] @ i.T


class _Channel(nn.Module):
    """One modality: its graph, its preferences, its projection."""

    def __init__(
        self,
        features: Tensor,
        present: Tensor,
        users: Tensor,
        items: Tensor,
        n_users: int,
        dim: int,
        generator: torch.Generator,
    ):
        super().__init__()
        self.register_buffer("features", features, persistent=False)  # (I, D_m), frozen
        kept = present[items]  # an item without this modality has no edge here
        adjacency = graph.normalized_adjacency(users[kept].numpy(), items[kept].numpy(), n_users, len(features))
        self.register_buffer("adjacency", adjacency, persistent=False)
        self.preference = embedding(n_users, dim, generator)  # u_m^(0)
        self.projection = linear(features.shape[1], dim, generator, bias=False)

    def forward(self, n_layers: int, normalize: bool) -> Tensor:
        """Return u_m and i_m, (U + I, d)."""
        x = torch.cat([self.preference.weight, self.projection(self.features)])  # no offset: a missing item's row is zero
        h = layer = F.normalize(x) if normalize else x
        for _ in range(n_layers):
            layer = graph.propagate(self.adjacency, layer)
            h = h + layer
        return h
