"""A sequence model that reads content only: an item is what its text says, so a new item or another shop needs no new table.

Hou et al., "Towards Universal Sequence Representation Learning for Recommender Systems" (UniSRec), KDD 2022, arXiv:2206.05941. Its
item and sequence encoder; the symbols are the paper's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.data.sequences import LENGTH
from mmrec_teach.errors import OptionError, check_choice, check_whole
from mmrec_teach.models.base import SequenceBatch, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import linear, modality_features, modality_presence, new_features
from mmrec_teach.models.pretrained import start
from mmrec_teach.models.sequential import ITEM_DROPS, SequenceRecommender, last, pulled_together
from mmrec_teach.models.transformer import EncoderLayer, causal, start_small
from mmrec_teach.ops.gather import cross_entropy_of_all, mean_of_all, rows_of_all, span
from mmrec_teach.ops.losses import softmax_in_batch


class Adaptor(nn.Module):
    r"""A mixture of G whitenings of a feature vector, :math:`v = \sum_k g_k\,(x - b_k) W_k` (equations 1 to 4).

    The gate is noisy while training, :math:`g = \mathrm{softmax}(x W_2 + \epsilon\,\mathrm{softplus}(x W_3))`, so that no expert falls
    asleep.
    """

    def __init__(self, n_in: int, dim: int, experts: int, generator: torch.Generator):
        super().__init__()
        self.whiten = nn.ModuleList(linear(n_in, dim, generator, bias=False) for _ in range(experts))  # W_k
        self.centre = nn.Parameter(torch.zeros(experts, n_in))  # b_k
        self.gate = linear(n_in, experts, generator, bias=False)  # W_2
        self.noise = linear(n_in, experts, generator, bias=False)  # W_3

    def forward(self, x: Tensor, epsilon: Tensor | None) -> Tensor:
        """Return v, (n, d), for features x (n, D). ``epsilon``: (n, G) standard normal noise; None: no noise."""
        logits = self.gate(x)
        if epsilon is not None:
            logits = logits + epsilon * F.softplus(self.noise(x))
        g = logits.softmax(1)  # (n, G)
        return sum(g[:, k, None] * whiten(x - self.centre[k]) for k, whiten in enumerate(self.whiten))


class UniSRec(SequenceRecommender):
    r"""Item vectors v are adapted text features; a causal Transformer reads them in order; the next item is the closest one.

    .. math::
        f_t^0 = v_{i_t} + p_t, \quad s = f_n^L, \quad
        L_{ce} = -\ln\frac{\exp(C(s, v_{i_{n+1}})/\tau)}{\sum_i \exp(C(s, v_i)/\tau)}

    with C the cosine; a mean over the batch's targets. For pre-training over several shops, and off otherwise: ``seq_item`` is the same
    with the batch's targets in place of all items, ``seq_seq`` pulls s after a whole history towards s after the same history with
    some items, or some feature entries, dropped, and away from the batch's others. Rows that ask for the same
    item are no negatives of each other. No item has a parameter of its own: a cold item is ranked as well as its text
    allows. An item without text has a zero vector, and the score 0.

    Args:
        data: its interactions need an order, its items features.
        modalities: feature tables, put side by side as one; None means text, or all where there is no table of that name.
        dim: d.
        experts: G, whitenings mixed by the adaptor.
        n_layers, heads: of the Transformer.
        inner: width of its feed-forward networks.
        dropout: share set to zero in features, input, attention and layers.
        temperature: τ.
        length: items of a history that are read.
        rows: ``"users"`` a user's whole history is one row with a target at every place; ``"prefixes"`` (released) every prefix is a
            row with one target, for much more work. Dropout aside the same sum, as long as no history is cut.
        drop: share of the items, or of the feature entries, that the second reading in ``seq_seq`` does without.
        pretrained: begin with the parameters in this file, written by `mmrec-teach pretrain-sequences`.
        tune: which parameters train: ``"full"`` all, ``"adapters"`` (the paper's parameter-efficient form) the adaptor.
        scaling: ``"raw"`` features as they are; ``"unit"`` rows scaled to length 1.
        seed: of the initial values, dropout and the gate's noise.

    Views: ``item/content`` is v, ``item/final`` v at length 1, ``user/final`` s at length 1 after each training history.
    """

    default_weights = {"ce": 1.0, "seq_item": 0.0, "seq_seq": 0.0}
    pretraining = {"ce": 0.0, "seq_item": 1.0, "seq_seq": 1e-3}
    needs_negatives = False
    parts_note = new_note = ""
    items_own = ()
    must_agree = (*SequenceRecommender.must_agree, "experts")
    tuned = {"adapters": ("adaptor",)}
    choices = {"rows": ("users", "prefixes"), "tune": ("full", "adapters"), "scaling": ("raw", "unit")}

    def __init__(
        self,
        data: Dataset,
        *,
        modalities: Sequence[str] | str | None = None,
        dim: int = 64,
        experts: int = 8,
        n_layers: int = 2,
        heads: int = 2,
        inner: int = 256,
        dropout: float = 0.2,
        temperature: float = 0.07,
        length: int = LENGTH,
        rows: str = "users",
        drop: float = 0.2,
        pretrained: str | None = None,
        tune: str = "full",
        scaling: str = "raw",
        seed: int = 0,
    ):
        super().__init__(data, length=length, seed=seed)
        for name, value, least in (("experts", experts, 1), ("n_layers", n_layers, 0), ("inner", inner, 1)):
            check_whole(f"UniSRec({name}=)", value, least)
        for name, share in (("dropout", dropout), ("drop", drop)):
            if not 0 <= share < 1:
                raise OptionError("dropout out of range", where=f"UniSRec({name}=)", found=share, expected="from 0 to below 1")
        if not temperature > 0:
            raise OptionError(
                "temperature out of range", where="UniSRec(temperature=)", found=temperature, expected="a number above 0"
            )
        check_choice("rows", rows, dict.fromkeys(self.choices["rows"]))
        if modalities is None and "text" in data.modalities:
            modalities = "text"
        tables = modality_features(data, modalities, model="UniSRec", scaling=scaling)
        present = modality_presence(data, tuple(tables))
        self.names, self.widths = tuple(tables), {name: table.shape[1] for name, table in tables.items()}
        self.batches, self.p, self.drop_p, self.temperature, self.experts = rows, dropout, drop, temperature, experts
        self.register_buffer("x", torch.cat(list(tables.values()), 1), persistent=False)  # (I, D)
        self.register_buffer("has", torch.stack(list(present.values())).any(0), persistent=False)  # (I,)
        self.adaptor = Adaptor(self.x.shape[1], dim, experts, self.generator)
        self.place = embedding(self.length, dim, self.generator)  # p
        self.norm = nn.LayerNorm(dim, 1e-12)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, inner, self.generator) for _ in range(n_layers))
        start_small(self, self.generator)
        nn.init.zeros_(self.adaptor.noise.weight)
        start(self, pretrained, tune)

    def common_name(self, name: str) -> str:
        part, _, rest = name.partition(".")
        return f"{part}({'+'.join(self.names)}).{rest}" if part == "adaptor" else name

    def adapted(self, drop: float = 0.0) -> Tensor:
        """Return v of all items, (I, d), a share ``drop`` of the feature entries dropped beside the model's dropout."""
        epsilon = None
        if self.training:
            epsilon = torch.randn(len(self.x), self.experts, generator=self.generator).to(self.x)
        return self.adaptor(self.dropout(self.drop(self.x), drop), epsilon) * self.has[:, None]

    @once_per_evaluation
    def items(self) -> Tensor:
        """Return v of all items, (I, d); zero where the item has no content."""
        return self.adapted()

    def drop(self, x: Tensor) -> Tensor:
        """Return ``x`` with the model's dropout."""
        return self.dropout(x, self.p)

    def forward(self, v: Tensor, items: Tensor) -> Tensor:
        """Return f^L at every place, (B, L, d), of histories ``items`` (B, L); padding stands behind, where no place looks."""
        x = rows(v, items.flatten()).view(*items.shape, -1) + self.place.weight[: items.shape[1]]
        x = self.drop(self.norm(x))
        allowed = causal(items.shape[1], items.device)
        for layer in self.layers:
            x = layer(x, allowed, self.drop)
        return x

    def losses(self, batch: SequenceBatch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = self.default_weights if active is None else active
        terms: dict[str, Tensor] = {}
        if not set(self.default_weights) & set(active):
            return terms
        v, asked = self.items(), batch.targets >= 0
        f, target = self(v, batch.items), batch.targets[asked]
        s = f[asked]  # (T, d)
        if "ce" in active:
            terms["ce"] = cross_entropy_of_all(self.cosines(s, v) / self.temperature, target)
        if "seq_item" in active:
            items, own, count = rows_of_all(target).unique(return_inverse=True, return_counts=True)
            begin, _ = span(len(target), target.device)
            logits = self.cosines(s, rows(v, items)) / self.temperature
            terms["seq_item"] = mean_of_all(softmax_in_batch(logits, own[begin : begin + len(target)], count))
        if "seq_seq" in active:
            h, again = (F.normalize(x, dim=1) for x in (last(f, batch.lengths), self.read_again(v, batch)))
            latest = last(batch.targets[..., None], batch.lengths)[:, 0]
            terms["seq_seq"] = pulled_together(h, again, latest, self.temperature, True)
        return terms

    def read_again(self, v: Tensor, batch: SequenceBatch) -> Tensor:
        """Return s (B, d) of the same histories less some of their items, or of feature entries; in eval mode of the whole."""
        items, lengths = batch.items, batch.lengths
        if self.training and self.drop_p > 0:
            among = span(len(items), items.device)  # asked by every rank, whatever its dropout has left of the draws below
            if torch.rand((), generator=self.generator) < ITEM_DROPS:
                items, lengths = self.without_some(items, lengths, self.drop_p, among)
            else:
                v = self.adapted(self.drop_p)
        return last(self(v, items), lengths)

    @staticmethod
    def cosines(s: Tensor, v: Tensor) -> Tensor:
        """Return C of every s (T, d) with every v (I, d): (T, I)."""
        return F.normalize(s, dim=1) @ F.normalize(v, dim=1).T

    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        s = last(self(self.items(), items), lengths)
        return F.normalize(s, dim=1) * (lengths > 0)[:, None]  # nothing read: all items score alike

    def match(self, h: Tensor) -> Tensor:
        return self.cosines(h, self.items())

    def item_vectors(self) -> Tensor:
        with self.evaluating():
            return F.normalize(self.items(), dim=1)

    def parts_of(self, h: Tensor) -> dict[str, Tensor]:
        score = self.match(h)
        return {"id": torch.zeros_like(score), "content": score}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        tables, present = new_features(features, self.widths, model="UniSRec", scaling=self.options["scaling"])
        v = self.adaptor(torch.cat(list(tables.values()), 1).to(self.x), None)
        return F.normalize(v, dim=1) * torch.stack(list(present.values())).any(0).to(v)[:, None], None

    def views(self) -> dict[str, Tensor]:
        v = self.items()
        return {"item/content": v, "user/final": self.user_vectors(), "item/final": F.normalize(v, dim=1)}
