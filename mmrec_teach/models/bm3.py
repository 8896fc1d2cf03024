"""BM3: bootstrapped multimodal recommendation, without a single negative.

Zhou et al., "Bootstrap Latent Representations for Multi-modal Recommendation", WWW 2023, arXiv:2207.05969.
The symbols are the paper's; its sections are named where its equations are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError, check_choice, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import Projections, linear, shares
from mmrec_teach.ops import graph, losses


class BM3(Recommender):
    r"""Two views of every vector, one predicted and one dropped out, are to agree; nothing is pushed away.

    .. math::
        H_u = \mathrm{mean}_l H_u^l, \quad H_i = \mathrm{mean}_l H_i^l + H_i^0, \quad h_m = e_m W_m + b_m, \quad
        \tilde h = h W_p + b_p, \quad \hat h = \mathrm{dropout}(h)

        L_{rec} = D(\tilde h_u, \hat h_i) + D(\tilde h_i, \hat h_u), \quad L_{align} = \sum_m D(\tilde h_m, \hat h_i), \quad
        L_{mask} = \sum_m D(\tilde h_m, \hat h_m)

    with :math:`D(a, b) = 1 - \cos(a, \mathrm{sg}(b))`, a mean over the batch, and :math:`s_{ui} = \tilde h_u\cdot\tilde h_i`. Written
    out, the paper has -cos; the constant 1 makes 0 the best value and changes no gradient.

    Content shapes training only: the score reads IDs alone. A cold item's row of H^0 has met no user (L_align moves W_m, not the
    target), so content does nothing for it. An item that lacks a modality takes no part in that modality's terms.

    ``serve`` is ours. L_align makes :math:`\tilde h_m` the guess of an item's :math:`h_i` from its content; so where no click has
    placed an item, that guess can stand in: its vector is the direction of the mean of its :math:`\tilde h_m`, predicted, with the mean
    length of the vectors that clicks have placed (all terms are cosines: a length says nothing of content).

    Args:
        data: its training interactions are the graph; needs at least one feature table.
        dim: size d of every h.
        n_layers: depth of the graph encoder.
        dropout: share of entries set to zero in the target view.
        modalities: which feature tables; None means all.
        scaling: ``"raw"`` features as they are; ``"unit"`` rows scaled to length 1.
        stop_gradient: sg. Off, gradients flow into the targets too, and everything may agree by becoming one vector.
        predictor: whether f_p (W_p, b_p, one for users, items and modalities) exists. Off, :math:`\tilde h = h`.
        trainable_features: e_m are parameters (released code). Off, they are frozen. On Amazon Baby 31.6 against 1.7 million numbers
            to train. Either way only the batch's items are projected.
        regularizer: ``"squared"`` the squared norms of the batch's h_u and h_i (paper), ``"emb_norm"`` the norms of the
            whole propagated tables, not squared (released).
        serve: who has which vector when scoring; training does not read it. ``"id"`` every item its own. ``"content_for_new"``
            items without training interactions the stand-in made of their content. ``"content"`` all items.
        new_scale: length of a stand-in, in mean lengths; longer ones stand higher in lists.
        seed: of the initial values and of dropout.

    The released code is ``trainable_features=True, regularizer="emb_norm"`` with the weight of ``reg`` at .1 (Baby).

    Views: ``user/id``, ``item/id`` are H^0; ``item/NAME`` is h_m of each modality (zero rows where missing), ``item/content`` their
    mean over the modalities an item has; ``user/online``, ``item/online`` are H; ``user/final``, ``item/final`` the predicted H, as
    served.
    Loss terms: ``rec``, ``align``, ``mask`` (sums over directions and modalities, as above) and ``reg``. The paper's total is
    rec + align + mask + λ reg; as in the released code and its settings, align and mask weigh 2.
    """

    default_weights = {"rec": 1.0, "align": 2.0, "mask": 2.0, "reg": 1e-3}
    needs_negatives = False
    choices = {"serve": ("id", "content_for_new", "content")}

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        n_layers: int = 1,
        dropout: float = 0.5,
        modalities: Sequence[str] | None = None,
        scaling: str = "raw",
        stop_gradient: bool = True,
        predictor: bool = True,
        trainable_features: bool = False,
        regularizer: str = "squared",
        serve: str = "id",
        new_scale: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        check_whole("BM3(n_layers=)", n_layers, 0, "depth out of range")
        if not 0 <= dropout < 1:
            raise OptionError("dropout out of range", where="BM3(dropout=)", found=dropout, expected="from 0 to below 1")
        check_choice("regularizer", regularizer, {"squared": None, "emb_norm": None})
        check_choice("serve", serve, dict.fromkeys(self.choices["serve"]))
        if not 0 <= new_scale < float("inf"):
            raise OptionError(
                "length out of range",
                where="BM3(new_scale=)",
                found=new_scale,
                expected="a number from 0 up, 1 for the mean length",
            )
        self.n_layers, self.p, self.stop_gradient, self.regularizer = n_layers, dropout, stop_gradient, regularizer
        self.serve, self.new_scale = serve, new_scale
        if serve != "id":
            self.parts_note = self.new_note = ""
        self.user_id = embedding(data.n_users, dim, self.generator)
        self.item_id = embedding(data.n_items, dim, self.generator)
        self.modality = Projections(  # e_m, W_m, b_m
            data, modalities, dim, self.generator, model="BM3", scaling=scaling, trainable=trainable_features
        )
        self.predict = linear(dim, dim, self.generator) if predictor else nn.Identity()  # f_p
        adjacency = graph.normalized_adjacency(data.train.users, data.train.items, data.n_users, data.n_items)
        self.register_buffer("adjacency", adjacency, persistent=False)  # Â, side U + I
        self.register_buffer("clicked", torch.from_numpy(~data.cold_items), persistent=False)  # (I,) whom clicks have placed

    @once_per_evaluation
    def propagate(self) -> tuple[Tensor, Tensor]:
        """Return H_u (U, d) and H_i (I, d): LightGCN, and for items their own H^0 once more (section 3.1, ID embeddings)."""
        h = layer = torch.cat([self.user_id.weight, self.item_id.weight])  # H^0
        for _ in range(self.n_layers):
            layer = graph.propagate(self.adjacency, layer)
            h = h + layer
        users, items = (h / (self.n_layers + 1)).split([self.n_users, self.n_items])
        return users, items + self.item_id.weight

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = self.default_weights if active is None else active
        terms: dict[str, Tensor] = {}
        if "rec" in active or "align" in active or "reg" in active:
            users, items = self.propagate()
            h_u, h_i = rows(users, batch.users), rows(items, batch.items)  # (B, d)
            target_u, target_i = self.target(h_u), self.target(h_i)  # (B, d)
        if "rec" in active:
            terms["rec"] = self.distance(self.predict(h_u), target_i) + self.distance(self.predict(h_i), target_u)
        if "align" in active or "mask" in active:
            align = mask = 0.0
            for name in self.modality.names:
                h_m = self.modality(name, batch.items)  # (B, d)
                predicted, there = self.predict(h_m), self.modality.present(name, batch.items)
                if "align" in active:
                    align = align + self.distance(predicted, target_i, there)
                if "mask" in active:
                    mask = mask + self.distance(predicted, self.target(h_m), there)
            terms |= {k: v for k, v in (("align", align), ("mask", mask)) if k in active}
        if "reg" in active:
            terms["reg"] = losses.l2(h_u, h_i) if self.regularizer == "squared" else losses.emb_norm(users, items)
        return terms

    def target(self, h: Tensor) -> Tensor:
        """Return the view to be predicted, ĥ = dropout(h): it does not pass the predictor."""
        return self.dropout(h, self.p)

    def distance(self, predicted: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        """Return D over the batch's rows (those that have the modality)."""
        return losses.alignment(predicted, target, where, stop_gradient=self.stop_gradient)

    @once_per_evaluation
    def predicted(self) -> tuple[Tensor, Tensor]:
        """Return the predicted tables of all users (U, d) and items (I, d)."""
        users, items = self.propagate()
        return self.predict(users), self.predict(items)

    @once_per_evaluation
    def stand_ins(self) -> Tensor:
        """Return what stands in for all items' predicted vectors (I, d), made of their content; zero for an item without any."""
        return self.stand_in({name: self.modality(name) for name in self.modality.names}, self.modality.shares())

    def stand_in(self, h: Mapping[str, Tensor], share: Tensor) -> Tensor:
        """Return stand-ins (n, d) of items with projected content ``h`` (modality -> (n, d)) and modality weights ``share`` (n, M)."""
        guess = sum(share[:, m, None] * self.predict(h_m) for m, h_m in enumerate(h.values()))  # of h_i
        length = self.new_scale * self.predicted()[1][self.clicked].norm(dim=1).mean()
        return length * F.normalize(self.predict(guess), dim=1) * share.any(1, keepdim=True)

    @once_per_evaluation
    def served(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of all users (U, d) and items (I, d) whose inner product is the score."""
        users, items = self.predicted()
        if self.serve == "id":
            return users, items
        return users, self.stand_ins() if self.serve == "content" else torch.where(
            self.clicked[:, None], items, self.stand_ins()
        )

    def views(self) -> dict[str, Tensor]:
        online, final = self.propagate(), self.served()
        content, share = self.modality.views(), self.modality.shares()
        return {
            "user/id": self.user_id.weight,
            "item/id": self.item_id.weight,
            **content,
            "item/content": sum(share[:, m, None] * h for m, h in enumerate(content.values())),
            "user/online": online[0],
            "item/online": online[1],
            "user/final": final[0],
            "item/final": final[1],
        }

    @torch.no_grad()
    def parts(self, users: Tensor) -> dict[str, Tensor] | None:
        if self.serve == "id":
            return None
        score = self.score(users)
        content = score if self.serve == "content" else score.masked_fill(self.clicked, 0.0)
        return {"id": score - content, "content": content}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        if self.serve == "id":
            return super().new_items(features)
        tables, present = self.modality.new(features, "BM3")
        like = self.item_id.weight
        h = {m: self.modality.layer(m)(table.to(like)) * present[m].to(like)[:, None] for m, table in tables.items()}
        equal = torch.ones(len(present), dtype=like.dtype, device=like.device)
        return self.stand_in(h, shares(equal, {m: there.to(like.device) for m, there in present.items()})), None

    def score(self, users: Tensor) -> Tensor:
        h_users, h_items = self.served()
        return h_users[users] @ h_items.T
