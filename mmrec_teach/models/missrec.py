"""MISSRec: a user's interests, found among all items' pictures and words, help to read her history.

Wang et al., "MISSRec: Pre-training and Transferring Multi-modal Interest-aware Sequence Representation for Recommendation",
ACM MM 2023, arXiv:2308.11175. The model, with IDs (transductive) or without (inductive); its terms for pre-training over several shops;
and tuning only a part of it afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.data.sequences import LENGTH
from mmrec_teach.errors import DataError, OptionError, check_choice, check_whole
from mmrec_teach.models.base import SequenceBatch, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import Projections
from mmrec_teach.models.pretrained import start
from mmrec_teach.models.sequential import ITEM_DROPS, SequenceRecommender, inside, last, pulled_together
from mmrec_teach.models.transformer import DecoderLayer, EncoderLayer, start_small
from mmrec_teach.ops.clustering import dpc_knn, minibatch_kmeans
from mmrec_teach.ops.gather import cross_entropy_of_all, mean_of_all, rows_of_all, span
from mmrec_teach.ops.losses import softmax_in_batch

GROUPS = 8
"""Parts of a large batch that are read one after the other, by length."""
PRETRAINING = {"ce": 0.0, "seq_item": 1.0, "seq_seq": 1e-3, "diversity": 1e-4}
"""The paper's weights for pre-training."""


class MISSRec(SequenceRecommender):
    r"""Interests are clusters of all items' tokens; a decoder reads the history in the light of the interests that occur in it.

    .. math::
        x_{i,m} = e_{i,m} W_m + b_m \ \text{(a token)}, \quad
        \{z_1, \dots, z_K\} = \text{DPC-KNN}\{x_{i,m}\} \ \text{before every epoch, without gradient}

        Z_u = \mathrm{Encoder}\{z_k : k \text{ occurs in the history, each once}\}, \quad
        h_u = \mathrm{Decoder}\Big(\sum_m x_{i_t,m} + p_t + e_{i_t},\ Z_u\Big)_{t = n}

        s_m = C(h_u, x_{i,m}), \quad s = \sum_m s_m\,\mathrm{softmax}_m(\lambda s_m), \quad
        L_{ce} = -\ln\frac{\exp(s_{u,i}/\tau)}{\sum_j\exp(s_{u,j}/\tau)}

        L_{seq-item} = -\ln\frac{\exp(s_{u,i_u}/\tau)}{\sum_{u'}\exp(s_{u,i_{u'}}/\tau)}, \quad
        L_{seq-seq} = -\ln\frac{\exp(h_u\cdot h'_u/\tau)}{\sum_{u'}\exp(h_u\cdot h'_{u'}/\tau)}

    with C the cosine, u' the rows of the batch and h' read from the same history with some items, or some feature entries,
    dropped: the two last terms are for pre-training and off otherwise. Each interest counts once, so that a frequent one does
    not drown a rare one. :math:`\lambda` starts at 0, where s is the mean over modalities, and is learned; toward infinity s is
    their maximum. With IDs, e is a table of item vectors, and the score is :math:`(C(h_u, e_i) + 2s)/3`. The decoder is not
    causal: one row, one target.

    A modality that an item lacks is no token, belongs to no interest and has no say in s. An item without any is scored by its ID
    alone; without IDs its score is 0.

    Args:
        data: its interactions need an order, its items features.
        modalities: which feature tables; None means all.
        ids: whether e exists (transductive). Off, nothing belongs to one item alone, and cold items are ranked like all others.
        dim: d. The paper has 300.
        n_layers: depth of the encoder and of the decoder.
        heads, inner: heads of every attention, width of every feed-forward network.
        dropout: share set to zero in the decoder's input, the attention and the layers.
        feature_dropout: share of a history's feature entries set to zero before the adapters W_m. The paper names no rate; released
            code has none, 0.
        modality_dropout: probability that an item of a history loses a modality for one step, token and interest; never its last one.
            Not in the paper.
        interests: ``"dpc"`` (paper), ``"kmeans"`` mini-batch k-means (released: there every call of DPC-KNN is commented out), or
            ``"none"``: every token is an interest of its own.
        interest_ratio: K as a share of the tokens.
        neighbours: k of DPC-KNN.
        deduplicate: whether an interest counts once however often it occurs.
        fusion: ``"adaptive"`` as above, ``"mean"`` or ``"max"`` over modalities.
        missing: ``"mask"`` as above, or ``"bias"`` (released): a missing modality is a vector of zeros like any other, its token b_m.
        regularizer: what ``diversity`` is: ``"cosine"``, the mean squared cosine of two different interests of one user in Z_u, or
            ``"released"``, a squared norm of all that comes out of the encoder, padding included, summed over the batch.
        temperature: τ.
        augment: how h' is read: ``"items"`` the history lacks items, ``"features"`` feature entries, ``"either"`` one of the two, a
            batch at a time; ``"released"`` as ``"either"``, but dropped items take only their words with them: the pictures stay, and
            from the first gap on no item has its own picture.
        drop: share of the items, or of the feature entries, that h' does without. A history keeps at least its latest item.
        false_negatives: in ``seq_item`` and ``seq_seq``, ``"mask"``: rows that ask for the same item are no negatives of each
            other; ``"keep"`` (released): they are.
        pretrained: begin with the parameters in this file, written by `mmrec-teach pretrain-sequences`, or "bazaar": the stored ones.
            IDs are never in it.
        tune: which parameters train: ``"full"`` all; ``"adapters"`` (paper) W_m, b_m, λ, the input's LayerNorm and the IDs;
            ``"frozen"`` λ and the IDs.
        length: items of a history that are read.
        scaling: ``"raw"`` features as they are; ``"unit"`` rows scaled to length 1.
        seed: of the initial values and of dropout.

    The released code is ``interests="kmeans", missing="bias", regularizer="released", feature_dropout=0, augment="released",
    false_negatives="keep"``; there ``diversity`` counts the second reading too.

    Attributes:
        interest: (K, d) the vectors z, of the last refresh.
        interest_of: (I, M) int64 the interest each token belongs to, K where there is no token.

    Views: ``item/id`` is e; ``item/NAME`` the tokens x of each modality (zero rows where missing); ``item/content`` the mean of an
    item's tokens at length 1; ``item/final`` what ``user/final`` (h at length 1, after each training history) is multiplied with at
    λ = 0. The loss is ce + γ diversity, γ = 1e-4; for pre-training, ``MISSRec.pretraining``, seq_item + 1e-3 seq_seq + γ diversity.
    """

    default_weights = {"ce": 1.0, "diversity": 1e-4, "seq_item": 0.0, "seq_seq": 0.0}
    pretraining = PRETRAINING
    needs_negatives = False
    batches = "prefixes"
    parts_note = new_note = ""
    items_own = ("item_id",)
    tuned = {"adapters": ("modality", "sharpness", "norm", "item_id"), "frozen": ("sharpness", "item_id")}
    choices = {
        "interests": ("dpc", "kmeans", "none"),
        "fusion": ("adaptive", "mean", "max"),
        "missing": ("mask", "bias"),
        "regularizer": ("cosine", "released"),
        "augment": ("either", "items", "features", "released"),
        "false_negatives": ("mask", "keep"),
        "tune": ("full", "adapters", "frozen"),
        "scaling": ("raw", "unit"),
    }
    interest: Tensor
    interest_of: Tensor

    def __init__(
        self,
        data: Dataset,
        *,
        modalities: Sequence[str] | str | None = None,
        ids: bool = True,
        dim: int = 64,
        n_layers: int = 1,
        heads: int = 4,
        inner: int = 256,
        dropout: float = 0.5,
        feature_dropout: float = 0.1,
        modality_dropout: float = 0.0,
        interests: str = "dpc",
        interest_ratio: float = 0.5,
        neighbours: int = 5,
        deduplicate: bool = True,
        fusion: str = "adaptive",
        missing: str = "mask",
        regularizer: str = "cosine",
        temperature: float = 0.07,
        augment: str = "either",
        drop: float = 0.2,
        false_negatives: str = "mask",
        pretrained: str | None = None,
        tune: str = "full",
        length: int = LENGTH,
        scaling: str = "raw",
        seed: int = 0,
    ):
        super().__init__(data, length=length, seed=seed)
        for name, number, least in (("n_layers", n_layers, 0), ("inner", inner, 1), ("neighbours", neighbours, 1)):
            check_whole(f"MISSRec({name}=)", number, least)
        shares = {"dropout": dropout, "feature_dropout": feature_dropout, "modality_dropout": modality_dropout, "drop": drop}
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise OptionError("dropout out of range", where=f"MISSRec({name}=)", found=share, expected="from 0 to below 1")
        if not temperature > 0:
            raise OptionError(
                "temperature out of range", where="MISSRec(temperature=)", found=temperature, expected="a number above 0"
            )
        if not 0 < interest_ratio <= 1:
            raise OptionError(
                "not a share of the tokens", where="MISSRec(interest_ratio=)", found=interest_ratio, expected="above 0, up to 1"
            )
        given = {"interests": interests, "fusion": fusion, "missing": missing, "regularizer": regularizer}
        given |= {"augment": augment, "false_negatives": false_negatives}
        for name, value in given.items():
            check_choice(name, value, dict.fromkeys(self.choices[name]))
        self.p, self.feature_p, self.modality_p = dropout, feature_dropout, modality_dropout
        self.interests, self.neighbours, self.deduplicate = interests, neighbours, deduplicate
        self.fusion, self.regularizer, self.temperature = fusion, regularizer, temperature
        self.augment, self.drop_p, self.masked, self.tune = augment, drop, false_negatives == "mask", tune

        self.modality = Projections(data, modalities, dim, self.generator, model="MISSRec", scaling=scaling)  # e_m, W_m, b_m
        self.words = "text" if "text" in self.modality.names else self.modality.names[0]
        has = torch.ones_like(self.modality.has) if missing == "bias" else self.modality.has
        self.register_buffer("has", has, persistent=False)  # (I, M) which tokens there are
        self.item_id = embedding(data.n_items, dim, self.generator) if ids else None  # e
        if fusion == "adaptive" and has.shape[1] > 1:
            self.sharpness = nn.Parameter(torch.zeros(()))  # λ
        self.place = embedding(self.length, dim, self.generator)  # p
        self.norm = nn.LayerNorm(dim, 1e-12)
        self.encoder = nn.ModuleList(EncoderLayer(dim, heads, inner, self.generator) for _ in range(n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(dim, heads, inner, self.generator) for _ in range(n_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(dim, 1e-12), nn.LayerNorm(dim, 1e-12)

        start_small(self, self.generator)

        n_tokens = int(has.sum())
        if not n_tokens:
            raise DataError("not one item has content", where=f"data set {data.name!r}", expected="at least one feature row")
        n_interests = n_tokens if interests == "none" else math.ceil(interest_ratio * n_tokens)
        self.register_buffer("interest", torch.zeros(n_interests, dim))
        self.register_buffer("interest_of", torch.full_like(has, n_interests, dtype=torch.int64))
        start(self, pretrained, tune)
        if pretrained is None:
            self.find_interests()

    # -- interests ----------------------------------------------------------------------------------------------------------
    def begin_epoch(self, epoch: int) -> None:
        if self.tune != "frozen":  # tokens that do not move have the interests they had
            self.find_interests()

    @torch.no_grad()
    def find_interests(self) -> None:
        """Cluster all items' tokens as they are now: write :attr:`interest` and :attr:`interest_of`."""
        x = torch.stack([self.token(name) for name in self.modality.names], 1)[self.has]  # (N, d), by item, then modality
        k = len(self.interest)
        if self.interests == "none":
            vectors, assignment = x, torch.arange(len(x), device=x.device)
        else:
            found = minibatch_kmeans(x, k) if self.interests == "kmeans" else dpc_knn(x, k, min(self.neighbours, len(x)))
            vectors, assignment = found.vectors, found.assignment
        self.interest.copy_(vectors)
        self.interest_of[self.has] = assignment

    def common_name(self, name: str) -> str:
        for m, modality in enumerate(self.modality.names):
            name = name.replace(f"modality.layers.{m}.", f"modality.{modality}.")
        return name

    def adopt(self, other: SequenceRecommender | Mapping[str, Tensor]) -> Self:
        super().adopt(other)
        self.find_interests()  # of these items, as the adapters see them now
        return self

    def interests_in(self, items: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the interests (B, N) that occur in histories ``items`` (B, L), ascending, then K for none.

        Args:
            items, lengths: as in a SequenceBatch.
            kept: (B, L, M) bool, tokens that were not dropped; None: all.
        """
        return self.distinct(self.interests_at(items, lengths, kept).flatten(1), lengths)

    def interests_at(self, items: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the interests of the tokens at every place, (B, L, M); K where there is none."""
        there = inside(items, lengths)[..., None] if kept is None else inside(items, lengths)[..., None] & kept
        return self.interest_of[items].masked_fill(~there, len(self.interest))

    def distinct(self, found: Tensor, lengths: Tensor) -> Tensor:
        """Return every row of interests ``found`` (B, n) as :meth:`interests_in` does, (B, N)."""
        none, found = len(self.interest), found.sort(1).values
        if self.deduplicate:
            again = F.pad(found[:, 1:] == found[:, :-1], (1, 0))
            found = found.masked_fill(again, none).sort(1).values
        count = (found < none).sum(1)
        if self.regularizer == "released":  # there, a row that is not full has one more: the padding's
            count = count + (lengths < self.length)
        return F.pad(found, (0, 1), value=none)[:, : max(1, int(count.max()) if len(count) else 1)]

    # -- the user's side ------------------------------------------------------------------------------------------------------
    def token(self, name: str, items: Tensor | None = None, p: float = 0.0) -> Tensor:
        """Return x of one modality, (n, d), for ``items`` (n,) or all; features dropped out at rate ``p``; zero without a token."""
        m = self.modality.names.index(name)
        e = self.modality.table(name) if items is None else rows(self.modality.table(name), items)
        has = self.has[:, m] if items is None else self.has[items, m]
        return self.modality.layer(name)(self.dropout(e, p)) * has[:, None]

    def read(
        self, items: Tensor, lengths: Tensor, drop: float = 0.0, pictures: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read histories ``items`` (B, L).

        Args:
            items, lengths: as in a SequenceBatch.
            drop: share of the feature entries dropped beside ``feature_dropout``.
            pictures: items and lengths of other histories, at least as long, from which all modalities but the words come.

        Returns:
            h (B, d) at length 1; Z (B, N, d), the encoder's output; and (B, N) bool, which places of Z are interests.
        """
        p = 1 - (1 - self.feature_p) * (1 - drop) if drop else self.feature_p
        x, kept, where = self.tokens_of(items, p)
        if pictures is None:
            x, found = x.sum(1)[where], self.interests_in(items, lengths, kept[where])  # (B, L, d), (B, N)
        else:
            words = torch.tensor([name == self.words for name in self.modality.names], device=x.device)  # (M,)
            beside, kept_beside, where_beside = self.tokens_of(pictures[0], self.feature_p)
            beside = (beside * ~words[:, None]).sum(1)[where_beside]
            x = (x * words[:, None]).sum(1)[where] + beside[:, : items.shape[1]]
            none = len(self.interest)
            of_words = self.interests_at(items, lengths, kept[where]).masked_fill(~words, none)
            of_others = self.interests_at(*pictures, kept_beside[where_beside]).masked_fill(words, none)
            found = self.distinct(torch.cat([of_words, of_others], 1).flatten(1), lengths)
        if self.regularizer == "released" or len(items) < 32 * GROUPS:
            return self.attend(x, found, items, lengths)
        # most histories are short: rows of like length together, so that attention spends little on padding
        parts, known = [], found < len(self.interest)
        order = lengths.argsort(stable=True)
        for group in order.chunk(GROUPS):
            longest, most = max(1, int(lengths[group].max())), max(1, int(known[group].sum(1).max()))
            parts.append(self.attend(x[group, :longest], found[group, :most], items[group, :longest], lengths[group]))
        back = order.argsort()
        h = torch.cat([h for h, _, _ in parts])[back]
        z = torch.cat([F.pad(z, (0, 0, 0, found.shape[1] - z.shape[1])) for _, z, _ in parts])[back]
        return h, z, known

    def tokens_of(self, items: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens of the distinct ones among ``items`` (B, L), features dropped out at rate ``p``.

        Returns:
            x (n, M, d), zero where a token is missing or dropped; (n, M) bool, which tokens are there; and (B, L) int64, the row of
            each place.
        """
        distinct, where = torch.unique(items, return_inverse=True)  # each item is projected once
        kept = self._kept(distinct)
        x = torch.stack([self.token(name, distinct, p) for name in self.modality.names], 1)
        return x * kept[..., None], kept, where

    def attend(self, x: Tensor, found: Tensor, items: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode the interests ``found`` (B, N), decode the tokens ``x`` (B, L, d); return what :meth:`read` does."""
        known = found < len(self.interest)
        z = F.pad(self.interest, (0, 0, 0, 1))[found]  # (B, N, d), zero where there is none
        remembered = _or_first(known)[:, None]
        for layer in self.encoder:
            z = layer(z, remembered, self.drop)
        z = self.encoder_norm(z)

        y = x + self.place.weight[: items.shape[1]]
        if self.item_id is not None:
            y = y + rows(self.item_id.weight, items.flatten()).view_as(x)
        y = self.drop(self.norm(y))
        allowed = _or_first(inside(items, lengths))[:, None]
        for layer in self.decoder:
            y = layer(y, z, allowed, remembered, self.drop)
        return F.normalize(last(self.decoder_norm(y), lengths), dim=1), z, known

    def drop(self, x: Tensor) -> Tensor:
        """Return ``x`` with the model's dropout."""
        return self.dropout(x, self.p)

    def _kept(self, items: Tensor) -> Tensor:
        """Return (n, M) bool: the tokens of ``items`` (n,) that modality dropout leaves, at least one of each item that has any."""
        has = self.has[items]
        if not self.training or self.modality_p == 0:
            return has
        lost = torch.rand(has.shape, generator=self.generator).to(has.device) < self.modality_p
        kept = has & ~lost
        return torch.where(kept.any(1, keepdim=True), kept, has)

    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        h = self.read(items, lengths)[0]
        return h * (lengths > 0)[:, None]  # nothing read: all items score alike

    def read_again(self, batch: SequenceBatch) -> Tensor:
        """Return h' (B, d): the same histories read once more, less some of their items or feature entries. In eval mode: h."""
        items, lengths = batch.items, batch.lengths
        if not self.training or self.drop_p == 0:
            return self.read(items, lengths)[0]
        among = span(len(items), items.device)  # asked by every rank, whatever its dropout has left of the draws below
        of_items = self.augment == "items"
        if self.augment in ("either", "released"):
            of_items = bool(torch.rand((), generator=self.generator) < ITEM_DROPS)
        if not of_items:
            return self.read(items, lengths, self.drop_p)[0]
        fewer = self.without_some(items, lengths, self.drop_p, among)
        return self.read(*fewer, pictures=(items, lengths) if self.augment == "released" else None)[0]

    # -- the items' side --------------------------------------------------------------------------------------------------------
    def units(self, items: Tensor | None = None) -> Tensor:
        """Return the tokens of ``items`` (n,), or of all, at length 1, (M, n, d)."""
        return torch.stack([F.normalize(self.token(name, items), dim=1) for name in self.modality.names])

    @once_per_evaluation
    def candidates(self) -> Tensor:
        """Return all items' tokens at length 1, (M, I, d)."""
        return self.units()

    def fused(self, cosines: Tensor, has: Tensor | None = None) -> Tensor:
        """Return s (B, n) from the modalities' ``cosines`` (B, n, M); 0 for an item without a token.

        Args:
            cosines: of every row and item.
            has: (n, M) bool, which item has which; None: the items are all there are.
        """
        has = self.has if has is None else has
        if self.fusion == "max":
            s = cosines.masked_fill(~has, -torch.inf).amax(2)
            return s.masked_fill(~has.any(1), 0.0)
        return (cosines * self.shares(cosines, has)).sum(2)

    def shares(self, cosines: Tensor, has: Tensor | None = None) -> Tensor:
        """Return softmax_m(λ s_m) over the modalities that an item has, (B, n, M) as ``cosines``; zeros where it has none."""
        has = self.has if has is None else has
        sharpened = self.sharpness * cosines if hasattr(self, "sharpness") else torch.zeros_like(cosines)
        some = has.any(1, keepdim=True)  # (n, 1)
        return sharpened.masked_fill(~has & some, -torch.inf).softmax(2) * some

    def match(self, h: Tensor, items: Tensor | None = None) -> Tensor:
        """Return the scores of ``items`` (n,), or of all, for user vectors ``h`` (B, d): (B, n)."""
        if items is None:
            units, has, own = self.candidates(), self.has, None if self.item_id is None else self.item_id.weight
        else:
            units, has = self.units(items), self.has[items]
            own = None if self.item_id is None else rows(self.item_id.weight, items)
        s = self.fused(torch.einsum("bd,mid->bim", h, units), has)
        if own is None:
            return s
        weight = 2.0 * has.any(1)  # (n,)
        return (h @ F.normalize(own, dim=1).T + weight * s) / (1 + weight)

    # -- recall -------------------------------------------------------------------------------------------------------------------
    def unsearchable(self) -> str:
        if self.has.shape[1] == 1 or self.fusion == "mean" or (self.fusion == "adaptive" and not self.sharpness):
            return ""
        how = "by their maximum" if self.fusion == "max" else f"by a softmax with λ = {float(self.sharpness.detach()):.3g}"
        return f"its score joins an item's modalities for every user anew, {how} (fusion='mean' does not)"

    def item_vectors(self) -> Tensor:
        self.check_searchable()
        with self.evaluating():
            content = self.content()
            return content if self.item_id is None else self.with_ids(content)

    def content(self) -> Tensor:
        """Return the mean of every item's tokens at length 1, (I, d)."""
        has = self.has.to(self.place.weight)
        return (self.candidates() * has.T[..., None]).sum(0) / has.sum(1, keepdim=True).clamp_min(1)

    def with_ids(self, content: Tensor) -> Tensor:
        """Return what h is multiplied with at λ = 0, (I, d), of the items' :meth:`content`."""
        weight = 2.0 * self.has.any(1)[:, None]
        return (F.normalize(self.item_id.weight, dim=1) + weight * content) / (1 + weight)

    def parts_of(self, h: Tensor) -> dict[str, Tensor]:
        score = self.match(h)
        if self.item_id is None:
            return {"id": torch.zeros_like(score), "content": score}
        own = h @ F.normalize(self.item_id.weight, dim=1).T / (1 + 2.0 * self.has.any(1))
        return {"id": own, "content": score - own}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        self.check_searchable()
        tables, present = self.modality.new(features, "MISSRec")
        has = torch.stack(list(present.values()), 1).to(self.place.weight)
        has = torch.ones_like(has) if self.options["missing"] == "bias" else has
        tokens = [self.modality.layer(name)(table.to(has)) for name, table in tables.items()]
        content = sum(has[:, m, None] * F.normalize(x, dim=1) for m, x in enumerate(tokens))
        content = content / has.sum(1, keepdim=True).clamp_min(1)
        weight = 2.0 * has.any(1, keepdim=True)
        return content if self.item_id is None else weight * content / (1 + weight), None

    # -- learning -----------------------------------------------------------------------------------------------------------------
    def losses(self, batch: SequenceBatch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = self.default_weights if active is None else active
        terms: dict[str, Tensor] = {}
        if not set(self.default_weights) & set(active):
            return terms
        h, z, known = self.read(batch.items, batch.lengths)
        target = last(batch.targets[..., None], batch.lengths)[:, 0]
        if "ce" in active:
            terms["ce"] = cross_entropy_of_all(self.match(h) / self.temperature, target)
        if "diversity" in active:
            terms["diversity"] = alikeness(z, known) if self.regularizer == "cosine" else released_norm(z, known)
        if "seq_item" in active:
            # every rank projects the items that any rank asks for: their numbers are gathered, not their vectors
            items, own, count = rows_of_all(target).unique(return_inverse=True, return_counts=True)
            begin, _ = span(len(target), target.device)
            logits = self.match(h, items) / self.temperature
            own = own[begin : begin + len(target)]
            terms["seq_item"] = mean_of_all(softmax_in_batch(logits, own, count, mask_duplicates=self.masked))
        if "seq_seq" in active:
            terms["seq_seq"] = pulled_together(h, self.read_again(batch), target, self.temperature, self.masked)
        return terms

    def views(self) -> dict[str, Tensor]:
        tokens, content = self.modality.views(), self.content()
        views = {**tokens, "item/content": content, "user/final": self.user_vectors(), "item/final": content}
        if self.item_id is not None:
            views["item/id"], views["item/final"] = self.item_id.weight, self.with_ids(content)
        return views


def alikeness(z: Tensor, known: Tensor) -> Tensor:
    """Return the mean squared cosine of two different interests of one user, over users who have two.

    Args:
        z: (B, N, d).
        known: (B, N) bool, which are interests.
    """
    unit = F.normalize(z, dim=2) * known[..., None]
    square = (unit @ unit.transpose(1, 2)).square().sum((1, 2))
    n = known.sum(1)
    return mean_of_all((square - n) / (n * (n - 1)).clamp_min(1), n > 1)  # less n: each with itself


def released_norm(z: Tensor, known: Tensor) -> Tensor:
    """Return what released code calls diversity: all places summed, times the share of interests, squared, summed over the batch."""
    pooled = z.sum(1) * known.to(z).mean(1, keepdim=True)
    return pooled.square().sum() / z.shape[2]


def _or_first(there: Tensor) -> Tensor:
    """Return ``there`` (B, N) with the first place allowed in rows that have none: attention needs something to look at."""
    first = torch.arange(there.shape[1], device=there.device) == 0
    return there | (first & ~there.any(1, keepdim=True))
