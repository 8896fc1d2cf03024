"""MMGCN: one user-item graph per modality, because a user's taste in pictures is not their taste in words.

Wei et al., "MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video", ACM MM 2019,
doi:10.1145/3343031.3351034. The paper's symbols: u_m, i_m are a node's vectors in modality m, u_id its ID embedding.
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


class MMGCN(Recommender):
    r"""In every modality, nodes aggregate their neighbours and combine the outcome with who they are; then modalities are averaged.

    For every modality m and layer l (the layer index is left out on the right), with σ = LeakyReLU and N_u the items user u took;
    items do the same over the users who took them:

    .. math::
        h_m &= \sigma\Big(\tfrac1{|N_u|}\sum_{i\in N_u} W_{1,m}\, i_m\Big) && \text{aggregation} \\
        \hat u_m &= \sigma(W_{2,m} u_m) + u_{id} && \text{the ID ties the modalities together} \\
        u_m^{(l)} &= \sigma(W_{3,m}\,[h_m \,\Vert\, \hat u_m]) \quad\text{or}\quad \sigma(W_{3,m} h_m + \hat u_m) && \text{combination} \\
        u^* &= \tfrac1{|M|}\sum_m u_m^{(L)}, \qquad s_{ui} = u^*\cdot i^* && \text{prediction}

    The user's u_m^(0), their preference in modality m, is a learned table; the item's is its feature vector.

    **Choices.** The paper writes the prediction as a sum over modalities; authors' code and later tables average, as here
    (``fusion="sum"`` is the printed form: every score times |M|²). Features are first projected to ``latent_dim``, as the
    authors' code does for pictures, because a preference table of the features' own width would hold most of the model's
    parameters; ``latent_dim=0`` keeps the features as they are, the paper's letter. Layer-0 vectors are scaled to length 1, as in
    the authors' code, so that raw features of any size start level with the preferences (``normalize``). Of the paper's two
    aggregations the mean is here, the maximum is not.

    **Departure of released code.** A widely used re-implementation creates the preference tables as plain tensors. They never
    reach the optimiser, and users keep their random initial taste for ever. Here they are parameters and learn.

    **Missing modalities.** An item without modality m is no node of graph m: it sends nothing, receives nothing and does not
    count in the mean over N_u. Its i* is the average over the modalities it has; a user's over those met in training. An item
    without any modality is represented by its ID embedding alone.

    Args:
        data: needs at least one feature table; its training interactions are the graphs.
        dim: embedding size d of IDs and of every layer's output.
        n_layers: depth L, 1 or more.
        modalities: which feature tables; None means all.
        latent_dim: width of layer 0, the projected features and the preferences; 0 means the features' own.
        combination: ``"concat"`` or ``"sum"``: the two forms of u_m^(l) above.
        fusion: ``"mean"`` or ``"sum"`` over modalities.
        normalize: whether layer-0 vectors are scaled to length 1.
        scaling: of the features, ``"raw"`` or ``"unit"``.
        seed: of the initial values.

    Views: ``user/id``, ``item/id``; for every modality m ``user/m``, ``item/m``, the last layer's (zero rows where the item lacks
    m); ``user/final``, ``item/final``.
    Loss terms: ``bpr``; ``l2`` on the batch's rows of the ID and preference tables.
    """

    default_weights = {"bpr": 1.0, "l2": 1e-3}
    parts_note, new_note = "every layer mixes IDs and content", ""

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        n_layers: int = 2,
        modalities: Sequence[str] | None = None,
        latent_dim: int = 64,
        combination: str = "concat",
        fusion: str = "mean",
        normalize: bool = True,
        scaling: str = "raw",
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        self.n_layers = check_whole("MMGCN(n_layers=)", n_layers, 1)
        latent_dim = check_whole("MMGCN(latent_dim=)", latent_dim, 0)
        check_choice("combination", combination, {"concat": None, "sum": None})
        self.normalize = normalize
        features = modality_features(data, modalities, model="MMGCN", scaling=scaling)
        self.modalities = tuple(features)
        self.user_id = embedding(data.n_users, dim, self.generator)
        self.item_id = embedding(data.n_items, dim, self.generator)
        users, items = torch.from_numpy(data.train.users.copy()), torch.from_numpy(data.train.items.copy())
        present = torch.stack(list(modality_presence(data, self.modalities).values()), 1)  # (I, M)
        self.channels = nn.ModuleList(  # a list: a modality may have any name
            _Channel(
                f,
                present[:, m],
                users,
                items,
                data.n_users,
                latent_dim,
                dim,
                self.n_layers,
                combination == "concat",
                self.generator,
            )
            for m, f in enumerate(features.values())
        )
        self.fusion = check_choice("fusion", fusion, {"mean": 1.0, "sum": float(len(features))})
        # who takes part in the average over modalities, users first; an item without content in none
        takes_part = torch.cat([modalities_met(present, users, items, data.n_users), present]).float()
        self.register_buffer("takes_part", takes_part, persistent=False)  # (U + I, M) of 0 and 1

    def represent(self, nodes: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return u*, i* of the given nodes and their u_m^(L), i_m^(L) for every modality.

        Args:
            nodes: (n,) users first, item i as U + i; None means all. The last layer is computed for these only.
        """
        ids = torch.cat([self.user_id.weight, self.item_id.weight])  # (U + I, d)
        per_modality = [channel(ids, nodes, self.normalize) for channel in self.channels]  # each (n, d)
        takes_part = self.takes_part
        if nodes is not None:
            ids, takes_part = rows(ids, nodes), rows(takes_part, nodes)
        n = takes_part.sum(1, keepdim=True)  # (n, 1)
        fused = torch.where(n > 0, 0.0, ids)
        for m, x in enumerate(per_modality):
            fused = fused + self.fusion * takes_part[:, m, None] / n.clamp_min(1.0) * x
        return fused, per_modality

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        terms = {}
        if active is None or "bpr" in active:
            nodes = torch.cat([batch.users, self.n_users + batch.items, self.n_users + batch.negatives])
            u, i, j = self.represent(nodes)[0].chunk(3)  # (B, d)
            terms["bpr"] = losses.bpr((u * i).sum(-1), (u * j).sum(-1))
        if active is None or "l2" in active:
            tables = [self.user_id(batch.users), self.item_id(batch.items), self.item_id(batch.negatives)]
            terms["l2"] = losses.l2(*tables, *(channel.preference(batch.users) for channel in self.channels))
        return terms

    @once_per_evaluation
    def tables(self) -> tuple[Tensor, Tensor]:
        """Return u* (U, d) and i* (I, d)."""
        users, items = self.represent()[0].split([self.n_users, self.n_items])
        return users, items

    def views(self) -> dict[str, Tensor]:
        fused, per_modality = self.represent()
        views = {"user/id": self.user_id.weight, "item/id": self.item_id.weight}
        for m, (name, x) in enumerate(zip(self.modalities, per_modality, strict=True)):
            x = x * self.takes_part[:, m, None]
            name = view_name(name)
            views[f"user/{name}"], views[f"item/{name}"] = x.split([self.n_users, self.n_items])
        views["user/final"], views["item/final"] = fused.split([self.n_users, self.n_items])
        return views

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        widths = {name: channel.features.shape[1] for name, channel in zip(self.modalities, self.channels, strict=True)}
        tables, present = new_features(features, widths, model="MMGCN", scaling=self.options["scaling"])
        has = torch.stack(list(present.values()), 1).to(self.takes_part)
        share = self.fusion * has / has.sum(1, keepdim=True).clamp_min(1.0)
        parts = zip(tables.values(), self.channels, strict=True)
        return sum(share[:, m, None] * c.alone(f.to(has), self.normalize) for m, (f, c) in enumerate(parts)), None

    def score(self, users: Tensor) -> Tensor:
        u, i = self.tables()
        return u[users] @ i.T


class _Channel(nn.Module):
    """One modality: its graph, its preferences, its W_1, W_2, W_3 of every layer."""

    def __init__(
        self,
        features: Tensor,
        present: Tensor,
        users: Tensor,
        items: Tensor,
        n_users: int,
        latent_dim: int,
        dim: int,
        n_layers: int,
        concat: bool,
        generator: torch.Generator,
    ):
        super().__init__()
        self.concat = concat
        self.register_buffer("features", features, persistent=False)  # (I, D_m), frozen
        kept = present[items]  # an item without this modality has no edge here
        users, items, n = users[kept], n_users + items[kept], n_users + len(features)
        ends = torch.cat([users, items]), torch.cat([items, users])
        self.register_buffer("adjacency", graph.csr(*ends, torch.ones(2 * len(users)), (n, n)), persistent=False)
        degree = torch.bincount(ends[0], minlength=n)[:, None].clamp_min(1).float()
        self.register_buffer("degree", degree, persistent=False)  # |N|, (U + I, 1)

        self.projection = linear(features.shape[1], latent_dim, generator, bias=False) if latent_dim else None
        width = latent_dim or features.shape[1]
        self.preference = embedding(n_users, width, generator)  # u_m^(0): a parameter
        widths = [width] + [dim] * (n_layers - 1)
        self.w1 = nn.ModuleList(linear(w, dim, generator, bias=False) for w in widths)
        self.w2 = nn.ModuleList(linear(w, dim, generator, bias=False) for w in widths)
        self.w3 = nn.ModuleList(linear(2 * dim if concat else dim, dim, generator, bias=False) for _ in widths)

    def forward(self, ids: Tensor, nodes: Tensor | None, normalize: bool) -> Tensor:
        """Return the last layer (n, d) of ``nodes``; ``ids`` is (U + I, d)."""
        f = self.features if self.projection is None else self.projection(self.features)  # no offset: nothing stays nothing
        x = torch.cat([self.preference.weight, f])  # (U + I, d_0); a missing item's row is zero and has no edge
        if normalize:
            x = F.normalize(x)
        last = len(self.w1) - 1
        for layer, (w1, w2, w3) in enumerate(zip(self.w1, self.w2, self.w3, strict=True)):
            # W_1 of the mean is the mean of W_1: aggregate first. The sum is a product with a symmetric matrix of 0 and 1.
            mean = graph.propagate(self.adjacency, x) / self.degree
            if layer == last and nodes is not None:
                mean, x, ids = rows(mean, nodes), rows(x, nodes), rows(ids, nodes)
            h = F.leaky_relu(w1(mean))
            own = F.leaky_relu(w2(x)) + ids  # û_m
            x = F.leaky_relu(w3(torch.cat([h, own], 1)) if self.concat else w3(h) + own)
        return x

    def alone(self, features: Tensor, normalize: bool) -> Tensor:
        """Return the last layer (n, d) of items with ``features`` (n, D_m), no ID and no neighbours."""
        x = features if self.projection is None else self.projection(features)
        x = F.normalize(x) if normalize else x
        for w2, w3 in zip(self.w2, self.w3, strict=True):
            own = F.leaky_relu(w2(x))
            x = F.leaky_relu(w3(torch.cat([torch.zeros_like(own), own], 1)) if self.concat else own)
        return x
