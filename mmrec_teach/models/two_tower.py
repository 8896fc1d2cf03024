"""Two towers in production: an item by its ID beside the same item by its content, and a gate that weighs them.

After the recall models of a content feed described by Taobao's Guangguang team (a technical article, without code): deep i2i and deep
u2i with a behaviour tower and a content tower, a triplet loss between the two views of an item, a gate fed by exposures and clicks.
The in-batch softmax is corrected as in Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
RecSys 2019.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.data.counts import check_counts, log_counts, mean_rate
from mmrec_teach.errors import DataError, OptionError, check_choice, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import linear, modality_features, new_features
from mmrec_teach.ops import graph, losses
from mmrec_teach.ops.clustering import cluster_tree, tree_sizes


class TwoTower(Recommender):
    r"""A query meets items that have two views, :math:`z_{id}` of the behaviour tower and :math:`z_c` of the content tower.

    .. math::
        z_{id} = \frac{f(e_i)}{\lVert f(e_i)\rVert}, \qquad z_c = \frac{f_c(x_i)}{\lVert f_c(x_i)\rVert}, \qquad
        g_i = \sigma(\mathrm{MLP}(s_i))

        \text{sum: } (1 - g_i)\, q\cdot z_{id} + g_i\, q\cdot z_c, \qquad
        \text{concat: } q_{id}\cdot z_{id} + g_i\, q_c\cdot z_c, \qquad
        \text{none: } q\cdot z_{id} + q\cdot z_c

    f and f_c are MLPs, :math:`e_i` is the ID vector and x_i the item's features, each modality's at length 1. s_i are the
    statistics of the item: logs of how often it was shown and clicked, and of its smoothed click rate. An item without training
    interactions has no ID to speak of: its z_id is zero. One without content has z_c = 0.

    The query of ``"user"`` (deep u2i) is an MLP of her ID vector, of the mean over the items she took of their *trigger* vectors,
    and of their mean content; while training, the item asked for is left out of both means. That of ``"trigger"`` (deep i2i) is
    an MLP of one single item she took, drawn at random while training; to score, her queries are averaged.

    Every in-batch term is the mean of :math:`-\ln\frac{\exp l_{bb}}{\sum_{b'} \exp l_{bb'}}`, where
    :math:`l_{bb'} = s(q_b, i_{b'})/\tau - \ln Q(i_{b'})`. Q is the item's share of the training interactions: popular items are in
    many batches as negatives, and without the correction they are pushed down for that alone.

    The triplet term pulls an item's two views together, away from the other items of the batch, in both directions:

    .. math::
        \frac{1}{n(n-1)}\sum_{i \ne j} [m - z_c^i\cdot z_{id}^i + z_c^i\cdot z_{id}^j]_+
        + [m - z_{id}^i\cdot z_c^i + z_{id}^i\cdot z_c^j]_+

    Args:
        data: needs at least one feature table.
        dim: size of all vectors.
        hidden: width of the MLPs' hidden layer.
        query: ``"user"`` or ``"trigger"``.
        gate: how the views are put together: ``"none"``, ``"concat"`` or ``"sum"``.
        serve: which views score with ``gate="none"``: ``"both"``, ``"id"`` or ``"content"``.
        statistics: what the gate reads: ``"window"`` the data's exposures and clicks; ``"others"`` how many took the item in
            training, the interaction at hand left out; ``"before"`` how many took it earlier; ``"constant"`` nothing, g is one
            number; ``"auto"`` the window where there is one, else others.
        new_share: share of the training interactions at which ``match`` sees the item as if it were new: z_id and statistics
            zero.
        loss: ``"softmax"`` in the batch, or ``"bpr"`` with sampled negatives.
        logq: whether the softmax is corrected by Q.
        temperature: τ.
        margin: m.
        clusters: 0, or how many leaves a tree of clusters of x has: then the content tower reads a learned vector of the item's
            leaf in place of x. As many leaves as items: an ID by another name.
        modalities: which feature tables make x; None means all.
        allow_leak: take the data's exposures and clicks even if they seem to know the future, see
            :func:`~mmrec_teach.data.counts.leak`.
        seed: of the initial values, triggers and items taken for new.

    Views: ``item/id`` z_id, ``item/content`` z_c, ``user/final`` and ``item/final`` what the score multiplies.
    Loss terms: ``match`` of the gated score, ``id`` and ``content`` of each tower alone, ``triplet``; ``l2`` on the batch's ID
    vectors.
    """

    default_weights = {"match": 1.0, "id": 1.0, "content": 1.0, "triplet": 0.1, "l2": 1e-4}
    choices = {
        "query": ("user", "trigger"),
        "gate": ("none", "concat", "sum"),
        "serve": ("both", "id", "content"),
        "statistics": ("auto", "window", "others", "before", "constant"),
        "loss": ("softmax", "bpr"),
    }
    parts_note = new_note = ""

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        hidden: int = 64,
        query: str = "user",
        gate: str = "sum",
        serve: str = "both",
        statistics: str = "auto",
        new_share: float = 0.0,
        loss: str = "softmax",
        logq: bool = True,
        temperature: float = 0.1,
        margin: float = 0.2,
        clusters: int = 0,
        modalities: Sequence[str] | str | None = None,
        allow_leak: bool = False,
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        for name, allowed in self.choices.items():
            check_choice(name, locals()[name], dict.fromkeys(allowed))
        check_whole("TwoTower(hidden=)", hidden)
        if not 0 < temperature < float("inf"):
            raise OptionError(
                "temperature out of range", where="TwoTower(temperature=)", found=temperature, expected="a number above 0"
            )
        if not 0 <= new_share < 1:
            raise OptionError("share out of range", where="TwoTower(new_share=)", found=new_share, expected="from 0 to below 1")
        if not 0 <= margin < float("inf"):
            raise OptionError("margin out of range", where="TwoTower(margin=)", found=margin, expected="a number from 0 up")
        self.query, self.gate, self.serve, self.logq = query, gate, serve, logq
        self.loss, self.tau, self.margin, self.new_share = loss, temperature, margin, new_share
        self.needs_negatives = loss == "bpr"
        self.same_space = gate != "concat"  # else z_id meets q_id only, z_c meets q_c only
        self._interactions(data)
        # the item's two towers
        tables = modality_features(data, modalities, model="TwoTower", scaling="unit")
        self.widths = {name: table.shape[1] for name, table in tables.items()}
        x = torch.cat(list(tables.values()), 1)
        self.register_buffer("x", x, persistent=False)  # (I, D)
        self.register_buffer("taken_x", self.taken @ x, persistent=False)  # (U, D), sums over her items
        self.register_buffer("has", x.any(1), persistent=False)  # (I,) which items have content
        self.item_id = embedding(data.n_items, dim, self.generator)  # e_i
        self.behaviour = MLP(dim, hidden, dim, self.generator)  # f
        self.clusters = check_whole("TwoTower(clusters=)", clusters, 0)
        if clusters:
            leaf = cluster_tree(x, tree_sizes(clusters), seed=seed)[:, -1]
            self.register_buffer("leaf", leaf.clamp_min(0), persistent=False)  # (I,)
            self.cluster_id = embedding(clusters, dim, self.generator)
        self.content = MLP(dim if clusters else x.shape[1], hidden, dim, self.generator)  # f_c
        # the query's
        self.user_id = embedding(data.n_users, dim, self.generator) if query == "user" else None
        self.trigger_id = embedding(data.n_items, dim, self.generator)  # t_j
        n_in = dim + x.shape[1] + (dim if query == "user" else 0)
        self.heads = 2 if gate == "concat" else 1  # q, or q_id and q_c
        self.asker = MLP(n_in, hidden, self.heads * dim, self.generator)
        # the gate's
        if gate != "none":
            self._statistics(data, statistics, allow_leak)
            self.weigh = Gate(self.at_rest.shape[1], self.generator)

    def _interactions(self, data: Dataset) -> None:
        """Keep who took what: as a matrix, and as sorted keys u I + i with what was known of the item then."""
        keys = data.train.users * data.n_items + data.train.items
        order = np.argsort(keys, kind="stable")
        u, i = (torch.from_numpy(np.array(side[order])) for side in (data.train.users, data.train.items))
        taken = graph.csr(u, i, torch.ones(len(u)), (data.n_users, data.n_items))  # A
        self.register_buffer("taken", taken, persistent=False)
        self.register_buffer("taken_t", graph.transposed(taken), persistent=False)
        self.register_buffer("keys", torch.from_numpy(keys[order]), persistent=False)  # (n,) sorted
        self.register_buffer("taken_items", i, persistent=False)  # (n,)
        n_u = torch.bincount(u, minlength=data.n_users)
        self.register_buffer("n_u", n_u, persistent=False)  # (U,) items of each user
        self.register_buffer("first", n_u.cumsum(0) - n_u, persistent=False)  # (U,) where hers begin
        n_i = torch.bincount(i, minlength=data.n_items)
        self.register_buffer("warm", n_i > 0, persistent=False)  # (I,)
        log_q = (n_i.clamp_min(1) / max(1, len(i))).log()
        self.register_buffer("log_q", log_q, persistent=False)  # ln Q, (I,)

    def _statistics(self, data: Dataset, kind: str, allow_leak: bool) -> None:
        """Set what the gate reads: of every item to score, of every training interaction, of an item nobody has seen."""
        if kind == "auto":
            kind = "others" if data.exposures is None or data.clicks is None else "window"
        counts = data.item_counts
        if kind == "window":
            if not allow_leak or data.clicks is None or data.exposures is None:
                check_counts(data)
            rate = mean_rate(data.exposures, data.clicks)
            every, unseen = log_counts(data.exposures, data.clicks), log_counts(np.zeros(1), np.zeros(1), rate)
            then = every[self.taken_items.numpy()]
        elif kind == "constant":
            every, unseen, then = np.zeros((data.n_items, 0)), np.zeros((1, 0)), np.zeros((len(data.train), 0))
        else:
            every, unseen = np.log1p(counts)[:, None], np.zeros((1, 1))
            then = np.log1p(counts[self.taken_items.numpy()] - 1 if kind == "others" else _before(data))[:, None]
        warm = self.warm.numpy()
        centre, spread = every[warm].mean(0), every[warm].std(0)
        spread = np.where(spread > 0, spread, 1)
        for name, table in (("at_rest", every), ("then", then), ("unseen", unseen)):
            self.register_buffer(name, torch.from_numpy((table - centre) / spread).float(), persistent=False)

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(name for name in self.default_weights if name != "match" or self.gate != "none")

    # -- towers -----------------------------------------------------------------------------------------------------
    def z_id(self, items: Tensor | None = None) -> Tensor:
        """Return z_id (n, d) of ``items``, or of all."""
        e = self.item_id.weight if items is None else self.item_id(items)
        return F.normalize(self.behaviour(e), dim=1) * _of(self.warm, items)[:, None]

    def z_c(self, items: Tensor | None = None) -> Tensor:
        """Return z_c (n, d) of ``items``, or of all."""
        x = self.cluster_id(_of(self.leaf, items)) if self.clusters else _of(self.x, items)
        return F.normalize(self.content(x), dim=1) * _of(self.has, items)[:, None]

    def asked(self, t: Tensor, x: Tensor, users: Tensor | None) -> tuple[Tensor, ...]:
        """Return q (n, d), or q_id and q_c, of trigger vectors ``t`` (n, d), contents ``x`` (n, D) and ``users`` (n,)."""
        parts = [t, x] if self.user_id is None else [self.user_id(users), t, x]
        q = self.asker(torch.cat(parts, 1)).unflatten(1, (self.heads, -1))
        return F.normalize(q, dim=2).unbind(1)

    def queries(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the queries (B, d) of a training batch, which know nothing of the items asked for."""
        users, items = batch.users, batch.items
        others = self.n_u[users] - 1  # (B,) her other items
        some = (others > 0)[:, None]
        if self.query == "trigger":
            draw = (torch.rand(len(users), generator=self.generator).to(self.device) * others).long()
            draw = draw + (draw >= self.row(users, items) - self.first[users])  # step over the item asked for
            place = torch.where(others > 0, self.first[users] + draw, self.first[users])
            trigger = self.taken_items[place]
            return self.asked(self.trigger_id(trigger) * some, self.x[trigger] * some, None)
        n = others.clamp_min(1)[:, None]
        t = graph.propagate(self.taken, self.trigger_id.weight, self.taken_t)  # (U, d), sums over her items
        t = (rows(t, users) - self.trigger_id(items)) / n
        x = (rows(self.taken_x, users) - self.x[items]) / n
        return self.asked(t * some, x * some, users)

    @once_per_evaluation
    def users(self) -> Tensor:
        """Return all users' queries, (U, d), or q_id and q_c side by side."""
        n = self.n_u.clamp_min(1)[:, None]
        if self.query == "trigger":
            q = torch.cat(self.asked(self.trigger_id.weight, self.x, None), 1)  # of every item
            return graph.propagate(self.taken, q, self.taken_t) / n
        t = graph.propagate(self.taken, self.trigger_id.weight, self.taken_t) / n
        return torch.cat(self.asked(t, self.taken_x / n, torch.arange(self.n_users, device=self.device)), 1)

    # -- gate -------------------------------------------------------------------------------------------------------
    def row(self, users: Tensor, items: Tensor) -> Tensor:
        """Return where training interactions (n,) stand in the sorted ones."""
        return torch.searchsorted(self.keys, users * self.n_items + items).clamp_max(len(self.keys) - 1)

    def gates(self) -> Tensor:
        """Return g of all items as they are scored, (I,): the weight of content.

        Raises:
            OptionError: the model has no gate.
        """
        if self.gate == "none":
            raise OptionError("no gate here", where='TwoTower(gate="none")', expected='gate="sum" or gate="concat"')
        return self.weigh(self.at_rest)

    def mixed(self, z_id: Tensor, z_c: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shares of the two views in the score, each (n, d)."""
        g = g[:, None]
        return (z_id if self.gate == "concat" else (1 - g) * z_id), g * z_c

    @once_per_evaluation
    def items(self) -> tuple[Tensor, Tensor]:
        """Return what the ID and the content of every item bring to the score, each (I, d)."""
        z_id, z_c = self.z_id(), self.z_c()
        if self.gate != "none":
            return self.mixed(z_id, z_c, self.gates())
        return z_id * (self.serve != "content"), z_c * (self.serve != "id")

    # -- losses -----------------------------------------------------------------------------------------------------
    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = set(self.terms) & set(self.terms if active is None else active)
        terms: dict[str, Tensor] = {}
        if not active:
            return terms
        if active & {"match", "id", "content"}:
            q = self.queries(batch)
            both = torch.cat([batch.items, batch.negatives]) if self.loss == "bpr" else batch.items
            z_id, z_c = self.z_id(both), self.z_c(both)
            if "match" in active:
                g, known = self.gates_of(batch, both)
                terms["match"] = self.asked_for(batch, q[0], q[-1], *self.mixed(z_id * known, z_c, g))
            if "id" in active:
                terms["id"] = self.asked_for(batch, q[0], None, z_id, None)
            if "content" in active:
                terms["content"] = self.asked_for(batch, None, q[-1], None, z_c)
        if "triplet" in active:
            distinct = torch.unique(batch.items)
            distinct = distinct[self.has[distinct]]
            terms["triplet"] = losses.triplet(self.z_c(distinct), self.z_id(distinct), self.margin)
        if "l2" in active:
            used = [self.item_id(batch.items)] + ([self.user_id(batch.users)] if self.user_id is not None else [])
            terms["l2"] = losses.l2(*used)
        return terms

    def gates_of(self, batch: Batch, both: Tensor) -> tuple[Tensor, Tensor]:
        """Return g of the batch's items (n,), and (n, 1) whether their IDs are known: some are taken for new ones."""
        s = self.then[self.row(batch.users, batch.items)]
        if len(both) > len(batch.items):
            s = torch.cat([s, self.at_rest[batch.negatives]])
        known = torch.ones(len(both), 1, dtype=torch.bool, device=s.device)
        if self.training and self.new_share:
            known = torch.rand(len(both), 1, generator=self.generator).to(s.device) >= self.new_share
            s = torch.where(known, s, self.unseen)
        return self.weigh(s), known

    def asked_for(
        self, batch: Batch, q_id: Tensor | None, q_c: Tensor | None, z_id: Tensor | None, z_c: Tensor | None
    ) -> Tensor:
        """Return the loss of q_id·z_id + q_c·z_c, either of which may be left out."""
        pairs = [(q, z) for q, z in ((q_id, z_id), (q_c, z_c)) if q is not None]
        if self.loss == "bpr":
            q, z = (torch.cat(side, 1) for side in zip(*pairs, strict=True))
            scores = (q.repeat(2, 1) * z).sum(1) / self.tau
            return losses.bpr(*scores.split(len(batch.users)))
        logits = sum(q @ z.T for q, z in pairs) / self.tau
        return losses.softmax_of_rows(logits, batch.items, self.log_q[batch.items] if self.logq else None)

    # -- score ------------------------------------------------------------------------------------------------------
    def views(self) -> dict[str, Tensor]:
        return {"item/id": self.z_id(), "item/content": self.z_c(), "user/final": self.users(), "item/final": self.final()}

    def final(self) -> Tensor:
        """Return what the items bring to the score: the sum of the views' shares, (I, d), or both side by side."""
        return torch.cat(self.items(), 1) if self.gate == "concat" else sum(self.items())

    @torch.no_grad()
    def parts(self, users: Tensor) -> dict[str, Tensor]:
        q = self.users()[users].chunk(self.heads, 1)
        own, seen = self.items()
        return {"id": q[0] @ own.T, "content": q[-1] @ seen.T}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        if self.clusters:
            raise OptionError(
                "a new item belongs to no cluster yet",
                where="TwoTower(clusters=)",
                found=self.clusters,
                expected="clusters=0: a content tower that reads features",
            )
        tables, present = new_features(features, self.widths, model="TwoTower", scaling="unit")
        x = torch.cat(list(tables.values()), 1).to(self.x)
        has = torch.stack(list(present.values())).any(0).to(x)[:, None]
        z_c = F.normalize(self.content(x), dim=1) * has
        if self.gate == "none":
            return z_c * (self.serve != "id"), None
        own, seen = self.mixed(torch.zeros_like(z_c), z_c, self.weigh(self.unseen).expand(len(z_c)))
        return (torch.cat([own, seen], 1) if self.gate == "concat" else seen), None

    def score(self, users: Tensor) -> Tensor:
        return self.users()[users] @ self.final().T


class MLP(nn.Sequential):
    """One hidden layer: (n, n_in) to (n, n_out)."""

    def __init__(self, n_in: int, hidden: int, n_out: int, generator: torch.Generator):
        super().__init__(linear(n_in, hidden, generator), nn.ReLU(), linear(hidden, n_out, generator))


class Gate(nn.Module):
    r"""g = σ(κ MLP(s) + λ): statistics s (n, m) to (n,), 1/2 at first. Without statistics, m = 0, MLP(s) is one number for all.

    Attributes:
        strength, lean: κ and λ, 1 and 0 in training. To turn afterwards: κ = 0 is a gate that knows nothing, λ leans all items to
            content, or away from it.
    """

    hidden = 16

    def __init__(self, n_in: int, generator: torch.Generator):
        super().__init__()
        self.strength, self.lean = 1.0, 0.0
        self.layers = MLP(n_in, self.hidden, 1, generator) if n_in else None
        self.constant = None if n_in else nn.Parameter(torch.zeros(()))
        if n_in:
            nn.init.zeros_(self.layers[-1].weight)

    def forward(self, s: Tensor) -> Tensor:
        """Return g (n,)."""
        logits = self.constant.expand(len(s)) if self.layers is None else self.layers(s)[:, 0]
        return (self.strength * logits + self.lean).sigmoid()


def _of(table: Tensor, items: Tensor | None) -> Tensor:
    return table if items is None else table[items]


def _before(data: Dataset) -> np.ndarray:
    """Return, of every training interaction in the order of u I + i, how often its item had been taken earlier, (n,)."""
    if data.train.timestamps is None or data.time_is_order:
        raise DataError(
            "no common clock",
            where=f"data set {data.name!r}, train",
            found="no timestamps" if data.train.timestamps is None else "positions in each history",
            expected="the time of every interaction",
            fix='Use statistics="others"',
        )
    users, items, times = data.train.users, data.train.items, data.train.timestamps
    by_item = np.lexsort((times, items))
    i, t = items[by_item], times[by_item]
    begins = np.r_[True, (i[1:] != i[:-1])]
    changes = begins | np.r_[True, t[1:] != t[:-1]]  # interactions of one moment do not know of each other
    place = np.arange(len(i))
    first = np.maximum.accumulate(np.where(begins, place, 0))
    then = np.maximum.accumulate(np.where(changes, place, 0))
    before = np.empty(len(i), dtype=np.int64)
    before[by_item] = then - first
    return before[np.argsort(users * data.n_items + items, kind="stable")]
