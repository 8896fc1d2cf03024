"""SASRec: self-attention over what a user took, to tell what she takes next.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, arXiv:1808.09781.
The symbols are the paper's; its sections and equations are named where they stand.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.data.sequences import LENGTH
from mmrec_teach.errors import OptionError, check_choice, check_whole
from mmrec_teach.models.base import SequenceBatch, embedding, rows
from mmrec_teach.models.sequential import SequenceRecommender, inside, last
from mmrec_teach.models.transformer import Attention, FeedForward, causal


class Block(nn.Module):
    r"""Self-attention, then a feed-forward network, each as :math:`g(x) \to x + \mathrm{Dropout}(g(\mathrm{LayerNorm}(x)))`."""

    def __init__(self, dim: int, heads: int, generator: torch.Generator):
        super().__init__()
        self.attention = Attention(dim, heads, generator, bias=False, out=False)  # W^Q, W^K, W^V
        self.feed_forward = FeedForward(dim, dim, generator, torch.relu)  # W^(1), b^(1), W^(2), b^(2)
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, allowed: Tensor, drop) -> Tensor:
        """Return (B, L, d); row t of ``allowed`` (L, L) says which places t may look at."""
        normed = self.norm_1(x)
        x = x + drop(self.attention(normed, normed, allowed, drop))  # S, eq. 2 and 3
        return x + drop(self.feed_forward(self.norm_2(x), drop))  # F, eq. 4


class SASRec(SequenceRecommender):
    r"""Every item looks back at the items before it; what it finds is compared with all items.

    .. math::
        \hat E_t = M_{s_t} + P_t, \quad S = \mathrm{softmax}\!\left(\tfrac{QK^\top}{\sqrt d}\right)V \text{ of places up to } t, \quad
        F = \mathrm{FFN}(S), \quad r_{i,t} = F_t^{(b)}\cdot M_i

        L_{bce} = -\sum_t \left[\ln\sigma(r_{o_t,t}) + \ln(1 - \sigma(r_{j,t}))\right], \quad
        L_{ce} = -\sum_t \ln \frac{\exp r_{o_t,t}}{\sum_i \exp r_{i,t}}

    with o_t the item taken after place t and j one not taken, drawn anew each epoch; sums are means over the batch's targets. One
    table M serves the input and the prediction. There is no user parameter and no content: a cold item's row has met no user.

    Args:
        data: its interactions need an order.
        dim: d.
        n_layers: b, blocks stacked.
        heads: of the attention.
        dropout: share set to zero in the embedded input, the attention and both parts of a block.
        length: n, items of a history that are read.
        loss: ``"bce"`` (paper) one negative a target, or ``"ce"`` the softmax over the whole catalogue, as is common now.
        rows: ``"users"`` (paper) a user's whole history is one row with a target at every place; ``"prefixes"`` every prefix is a row
            with one target, for much more work. Dropout aside the same sum, as long as no history is cut and places are counted from
            the ``"start"``: from the end, an item's place depends on where its row ends.
        positions: ``"end"`` (paper, which pads in front) the last item read has place n; ``"start"`` the first one has place 1.
        seed: of the initial values and of dropout.

    Views: ``item/id`` is M, ``user/final`` F^(b) at the last place of each training history, ``item/final`` M once more. The names
    of the loss terms are ``bce`` and ``ce``; a model has the one it was made with.
    """

    default_weights = {"bce": 1.0, "ce": 1.0}
    choices = {"loss": ("bce", "ce"), "rows": ("users", "prefixes"), "positions": ("end", "start")}

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        n_layers: int = 2,
        heads: int = 1,
        dropout: float = 0.2,
        length: int = LENGTH,
        loss: str = "bce",
        rows: str = "users",
        positions: str = "end",
        seed: int = 0,
    ):
        super().__init__(data, length=length, seed=seed)
        check_whole("SASRec(n_layers=)", n_layers, 0)
        if not 0 <= dropout < 1:
            raise OptionError("dropout out of range", where="SASRec(dropout=)", found=dropout, expected="from 0 to below 1")
        for name, value in (("loss", loss), ("rows", rows), ("positions", positions)):
            check_choice(name, value, dict.fromkeys(self.choices[name]))
        self.loss, self.batches, self.positions, self.p = loss, rows, positions, dropout
        self.needs_negatives = loss == "bce"
        self.item_id = embedding(data.n_items, dim, self.generator)  # M
        self.place = embedding(self.length, dim, self.generator)  # P
        self.blocks = nn.ModuleList(Block(dim, heads, self.generator) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)  # behind the last block, as in the authors' code

    @property
    def terms(self) -> tuple[str, ...]:
        return (self.loss,)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return F^(b), (B, L, d): what the model expects after each place of ``items`` (B, L)."""
        column = torch.arange(items.shape[1], device=items.device).expand_as(items)
        if self.positions == "end":
            column = (column + self.length - lengths.clamp_min(1)[:, None]).clamp_max(self.length - 1)
        there = inside(items, lengths)[..., None]
        # III-A, eq. 1; an empty history is its first position alone
        x = rows(self.item_id.weight, items.flatten()).view(*items.shape, -1) * there
        x = self.drop(x + rows(self.place.weight, column.flatten()).view_as(x))
        allowed = causal(items.shape[1], items.device)  # III-B, Causality; the padding stands behind, so nobody looks at it
        for block in self.blocks:  # III-C, eq. 5
            x = block(x, allowed, self.drop)
        return self.norm(x)

    def drop(self, x: Tensor) -> Tensor:
        """Return ``x`` with the model's dropout."""
        return self.dropout(x, self.p)

    def losses(self, batch: SequenceBatch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        if active is not None and self.loss not in active:
            return {}
        asked = batch.targets >= 0  # (B, L), T of them
        f, o = self(batch.items, batch.lengths)[asked], batch.targets[asked]  # (T, d), (T,)
        if self.loss == "ce":
            return {"ce": F.cross_entropy(self.match(f), o)}
        m = self.item_id.weight
        positive = (f * rows(m, o)).sum(1)  # III-D: r at the target and, below, at an item not taken
        negative = (f * rows(m, batch.negatives[asked])).sum(1)
        return {"bce": (F.softplus(-positive) + F.softplus(negative)).mean()}  # III-E; -ln sigmoid(x) = softplus(-x)

    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        return last(self(items, lengths), lengths)

    def match(self, h: Tensor) -> Tensor:
        return h @ self.item_id.weight.T

    def item_vectors(self) -> Tensor:
        return self.item_id.weight.detach()

    def views(self) -> dict[str, Tensor]:
        return {
            "item/id": self.item_id.weight,
            "user/final": self.user_vectors(),
            "item/final": self.item_id.weight,
        }
