"""VBPR: BPR that also looks at the product.

He and McAuley, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback", AAAI 2016, arXiv:1510.01784.
Equation numbers are the paper's. The paper has one modality, pictures; here f_i joins whichever are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmrec_teach.data import Dataset
from mmrec_teach.errors import check_choice
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import modality_features, new_features
from mmrec_teach.ops import losses


class VBPR(Recommender):
    r"""An inner product of learned vectors plus an inner product with a projection of the item's content.

    .. math:: s_{ui} = b_i + \gamma_u\cdot\gamma_i + w\,(\theta_u \cdot (E f_i) + \beta'\cdot f_i) \qquad (4)

    The paper's α and b_u are the same for both items of a pair, cancel in BPR and change no ranking: they are left out. The
    content weight w is ours, 1 in the paper: at 0 the model is BPR-MF.

    Args:
        data: needs at least one feature table.
        dim: size of γ.
        content_dim: size of θ and of E f.
        modalities: which feature tables make f, concatenated in this order; None means all.
        content_weight: w.
        item_bias, content_bias: whether b_i and β' exist.
        projection_bias: whether E has an offset. Off, a missing item's zero vector projects to zero: no content, no opinion.
        scaling: ``"raw"`` features as they are; ``"unit"`` each modality's rows scaled to length 1.
        regularizer: ``"squared"`` (paper) or ``"emb_norm"`` over the concatenated tables (released re-implementation).
        seed: of the initial values.

    The released re-implementation is ``item_bias=False, content_bias=False, projection_bias=True, regularizer="emb_norm"`` with
    ``modalities=("text", "image")`` and ``content_dim=dim``: its user vector of width 2d is (γ_u, θ_u).

    Views: ``user/id`` γ_u, ``item/id`` γ_i, ``user/content`` θ_u, ``item/content`` E f_i, and their concatenations
    ``user/final``, ``item/final``.
    Loss terms: ``bpr``; ``l2`` on the batch's rows of γ, θ, b; ``l2_content`` on E and β' (the paper's λ_E).
    """

    default_weights = {"bpr": 1.0, "l2": 1e-2, "l2_content": 0.0}
    same_space = False  # γ_i meets γ_u only, E f_i meets θ_u only
    parts_note = new_note = ""

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        content_dim: int = 64,
        modalities: Sequence[str] | None = None,
        content_weight: float = 1.0,
        item_bias: bool = True,
        content_bias: bool = True,
        projection_bias: bool = False,
        scaling: str = "raw",
        regularizer: str = "squared",
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        check_choice("regularizer", regularizer, {"squared": None, "emb_norm": None})
        self.regularizer, self.content_weight = regularizer, float(content_weight)
        tables = modality_features(data, modalities, model="VBPR", scaling=scaling)
        self.widths = {name: table.shape[1] for name, table in tables.items()}
        features = torch.cat(list(tables.values()), dim=1)
        self.register_buffer("features", features, persistent=False)  # f, (I, D), frozen
        self.user_id = embedding(data.n_users, dim, self.generator)  # γ_u
        self.item_id = embedding(data.n_items, dim, self.generator)  # γ_i
        self.user_content = embedding(data.n_users, content_dim, self.generator)  # θ_u
        self.projection = nn.Linear(features.shape[1], content_dim, bias=projection_bias)  # E
        nn.init.xavier_uniform_(self.projection.weight, generator=self.generator)
        if projection_bias:
            nn.init.zeros_(self.projection.bias)
        self.item_bias = nn.Parameter(torch.zeros(data.n_items)) if item_bias else None  # b_i
        self.content_bias = nn.Parameter(torch.zeros(features.shape[1])) if content_bias else None  # β'

    def content(self, items: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return E f_i (n, content_dim) and β'·f_i (n,) or None, for the given items only."""
        f = self.features[items]  # (n, D)
        return self.projection(f), None if self.content_bias is None else f @ self.content_bias

    def _pair_scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the (B,) scores of the taken and of the sampled items, eq. (4)."""
        u, theta = self.user_id(batch.users), self.user_content(batch.users)
        both = torch.cat([batch.items, batch.negatives])  # one product for both: E is read once
        scores = (u.repeat(2, 1) * self.item_id(both)).sum(-1)
        if self.item_bias is not None:
            scores = scores + rows(self.item_bias, both)
        if self.content_weight:
            ef, bias = self.content(both)
            seen = (theta.repeat(2, 1) * ef).sum(-1)
            scores = scores + self.content_weight * (seen if bias is None else seen + bias)
        return scores.split(len(batch.users))

    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        terms = {}
        if active is None or "bpr" in active:
            terms["bpr"] = losses.bpr(*self._pair_scores(batch))
        if active is None or "l2" in active:
            terms["l2"] = self._l2(batch)
        if active is None or "l2_content" in active:
            terms["l2_content"] = (
                sum(p.square().sum() for p in (self.projection.weight, self.content_bias) if p is not None) / 2
            )
        return terms

    def _l2(self, batch: Batch) -> Tensor:
        if self.regularizer == "emb_norm":
            users = torch.cat([self.user_id(batch.users), self.user_content(batch.users)], 1)
            items = [torch.cat([self.item_id(i), self.content(i)[0]], 1) for i in (batch.items, batch.negatives)]
            return losses.emb_norm(users, *items)
        used = [
            self.user_id(batch.users),
            self.user_content(batch.users),
            self.item_id(batch.items),
            self.item_id(batch.negatives),
        ]
        if self.item_bias is not None:
            used += [rows(self.item_bias, batch.items), rows(self.item_bias, batch.negatives)]
        return losses.l2(*used)

    @once_per_evaluation
    def item_tables(self) -> tuple[Tensor, Tensor]:
        """Return the item side of the score: (I, dim + content_dim) and the (I,) offset."""
        everyone = torch.arange(self.n_items, device=self.device)
        ef, bias = self.content(everyone)
        offset = torch.zeros(self.n_items, device=self.device, dtype=ef.dtype)
        if self.item_bias is not None:
            offset = offset + self.item_bias
        if bias is not None:
            offset = offset + self.content_weight * bias
        return torch.cat([self.item_id.weight, self.content_weight * ef], 1), offset

    def views(self) -> dict[str, Tensor]:
        items, _ = self.item_tables()
        everyone = torch.arange(self.n_items, device=self.device)
        return {
            "user/id": self.user_id.weight,
            "item/id": self.item_id.weight,
            "user/content": self.user_content.weight,
            "item/content": self.content(everyone)[0],
            "user/final": torch.cat([self.user_id.weight, self.user_content.weight], 1),
            "item/final": items,
        }

    def item_offsets(self) -> Tensor | None:
        return None if self.item_bias is None and self.content_bias is None else self.item_tables()[1].detach()

    @torch.no_grad()
    def parts(self, users: Tensor) -> dict[str, Tensor]:
        ef, bias = self.content(torch.arange(self.n_items, device=self.device))
        own, seen = self.user_id(users) @ self.item_id.weight.T, self.user_content(users) @ ef.T
        return {
            "id": own if self.item_bias is None else own + self.item_bias,
            "content": self.content_weight * (seen if bias is None else seen + bias),
        }

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        tables, _ = new_features(features, self.widths, model="VBPR", scaling=self.options["scaling"])
        f = torch.cat(list(tables.values()), 1).to(self.features)
        vectors = torch.cat([f.new_zeros(len(f), self.item_id.weight.shape[1]), self.content_weight * self.projection(f)], 1)
        if self.content_bias is not None:
            return vectors, self.content_weight * (f @ self.content_bias)
        return vectors, None if self.item_bias is None else f.new_zeros(len(f))

    def score(self, users: Tensor) -> Tensor:
        items, offset = self.item_tables()
        return torch.cat([self.user_id(users), self.user_content(users)], 1) @ items.T + offset
