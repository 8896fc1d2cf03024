"""AlignRec: content aligned with content, content with IDs, users with items; the encoder first, the recommender after it.

Liu et al., "AlignRec: Aligning and Training in Multimodal Recommendations", CIKM 2024, arXiv:2403.12384.
The symbols are the paper's; its modules and losses are named where they stand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError, check_choice, check_whole
from mmrec_teach.models.base import Batch, Recommender, embedding, once_per_evaluation, rows
from mmrec_teach.models.content import linear, modality_features, new_features
from mmrec_teach.models.encoding import LiveEncoder
from mmrec_teach.ops import graph, losses

MMENC = "mmenc"  # the table of a data set that a masked multimodal encoder made


class Encoding(NamedTuple):
    """What the Aggregator reads of the encoder: h_enc (I, D), and the graph S (I, I) that comes of it, with its transpose."""

    h: Tensor
    similar: Tensor
    similar_t: Tensor


class AlignRec(Recommender):
    r"""One content vector per item steers its ID; content is pulled to the ID of the same item, users to what they took.

    .. math::
        H_{id} = \tfrac1{L+1}\sum_{l \le L} \hat A^{\,l} E_{id}, \qquad
        h_{con}^i = e_{id}^i \odot \mathrm{MLP}(h_{enc}^i), \quad
        h_{mm}^i = \sum_j S_{ij}\, h_{con}^j, \quad h_{mm}^u = \sum_i \hat R_{ui}\, h_{mm}^i

        h^i = h_{mm}^i + h_{id}^i, \quad h^u = h_{mm}^u + h_{id}^u, \quad s(u, i) = h^u \cdot h^i

        L_{CCA} = -\ln\frac{\exp(C(h_{mm}^i, h_{id}^i)/\tau)}{\sum_{i'}\exp(C(h_{mm}^i, h_{id}^{i'})/\tau)}
        \;\text{and the same of users}, \qquad L_{UIA} = 1 - C(h^u, h^i)

        L_{REG} = \lVert C(h_{mm}^i, h_{mm}^j) - \mathrm{sg}(C(h_{enc}^i, h_{enc}^j)) \rVert, \qquad
        L = L_{BPR} + \alpha L_{CCA} + \beta L_{UIA} + \lambda L_{REG}

    C is the cosine, S links every item to its K' nearest by C(h_enc), itself included, weights C, as D^-1/2 S D^-1/2;
    :math:`\hat R` is the user-item block of :math:`\hat A`.

    Every term is a mean, so that weights keep their meaning at any batch size: ``bpr``, ``uia`` over the batch's pairs; ``cca``
    over its users plus over its items; ``reg`` the root mean square over its pairs of items, :math:`\tfrac1B\lVert\cdot\rVert_F`.

    **Strategies.** ``"staged"`` (paper): h_enc is finished before, a table; pre-training, where L_ICA = L_MIM + L_MLM is
    minimised, is :mod:`mmrec_teach.training.pretrain`. ``"joint"``: MMEnc is part of this model, all losses train it, ``mim``
    and ``mlm`` among them. h_enc of all items and S are those of the epoch's beginning, except that items of the batch are
    encoded anew, with gradient. Scores read the encoder as it is.

    A cold item's :math:`h_{mm}` holds its neighbours' trained vectors. An item without any content has h_enc = 0: no
    neighbours, h_mm = 0, and no part in ``cca`` of items and ``reg``.

    Args:
        data: its training interactions are the graph; needs at least one feature table.
        dim: size d.
        n_layers: depth L of H_id.
        k: K', neighbours per item, the item itself among them.
        temperature: τ.
        strategy: ``"staged"`` or ``"joint"``, see above.
        start: of a joint encoder: ``"scratch"``, or ``"pretrained"``, the stored encoder of the bazaar.
        n_fresh: at most so many of a batch's items are encoded anew in joint training, drawn at random; 0: all of them. The
            time of a step is in proportion.
        encoder_lr: step size of a joint encoder, as a share of the others'.
        encoder_dim, encoder_depth: D and layers of a joint encoder from scratch.
        features: the tables that make h_enc in staged training, each row scaled to length 1, side by side (a missing one is
            zeros). None: ``mmenc`` if the data set has it, else all.
        gate: what stands for MLP in h_con: ``"plain"`` W_2 relu(W_1 x + b_1) + b_2 (paper), ``"sigmoid"`` σ(W_2 (W_1 x + b_1) +
            b_2) (released), ``"none"`` 1: content speaks through S alone. ``"content"``: h_con is the MLP, without the ID.
        fusion: ``"sum"`` (paper); ``"attention"`` h = a_mm h_mm + a_id h_id, a = softmax of q·tanh(W h); ``"concat"`` h_mm
            and h_id side by side, the score is the sum of theirs.
        reg_form: ``"published"`` cosines of h_mm; ``"released"`` their inner products.
        mask_duplicates: further copies of an item (user) in the batch are no negatives of it in ``cca``. Released: off.
        regularizer: of ``l2``: ``"squared"`` the batch's rows of E_id, ``"propagated"`` those of h (released).
        trainable_features: h_enc is a parameter that starts from the features (released). S keeps to the features.
        seed: of the initial values.

    The released code is ``gate="sigmoid", reg_form="released", mask_duplicates=False, regularizer="propagated",
    trainable_features=True``.

    Views: ``user/id``, ``item/id`` are h_id, ``user/content``, ``item/content`` are h_mm: the pair that ``cca`` aligns;
    ``item/encoder`` is h_enc; ``user/final``, ``item/final`` are h.
    Loss terms: ``bpr``, ``cca`` (weight α), ``uia`` (β), ``reg`` (λ), ``l2``; in joint training ``mim`` and ``mlm`` of the
    items encoded anew.
    """

    default_weights = {"bpr": 1.0, "cca": 0.01, "uia": 0.1, "reg": 0.1, "mim": 1.0, "mlm": 1.0, "l2": 1e-4}
    choices = {
        "strategy": ("staged", "joint"),
        "start": ("scratch", "pretrained"),
        "gate": ("plain", "sigmoid", "none", "content"),
        "fusion": ("sum", "attention", "concat"),
        "reg_form": ("published", "released"),
        "regularizer": ("squared", "propagated"),
    }
    parts_note = new_note = ""

    def __init__(
        self,
        data: Dataset,
        *,
        dim: int = 64,
        n_layers: int = 2,
        k: int = 10,
        temperature: float = 0.2,
        strategy: str = "staged",
        start: str = "scratch",
        n_fresh: int = 64,
        encoder_lr: float = 0.2,
        encoder_dim: int = 64,
        encoder_depth: int = 2,
        features: Sequence[str] | str | None = None,
        gate: str = "plain",
        fusion: str = "sum",
        reg_form: str = "published",
        mask_duplicates: bool = True,
        regularizer: str = "squared",
        trainable_features: bool = False,
        seed: int = 0,
    ):
        super().__init__(data, seed=seed)
        for name, allowed in self.choices.items():
            check_choice(name, locals()[name], dict.fromkeys(allowed))
        if not 0 <= encoder_lr < float("inf"):
            raise OptionError(
                "step size out of range", where="AlignRec(encoder_lr=)", found=encoder_lr, expected="a number from 0 up"
            )
        if not 0 < temperature < float("inf"):
            raise OptionError(
                "temperature out of range", where="AlignRec(temperature=)", found=temperature, expected="a number above 0"
            )
        self.n_layers = check_whole("AlignRec(n_layers=)", n_layers, 0)
        self.gate, self.fusion, self.reg_form, self.regularizer = gate, fusion, reg_form, regularizer
        self.k, self.tau, self.mask_duplicates = k, temperature, mask_duplicates
        self.user_id = embedding(data.n_users, dim, self.generator)  # E_id
        self.item_id = embedding(data.n_items, dim, self.generator)
        self.joint, self.n_fresh = strategy == "joint", check_whole("AlignRec(n_fresh=)", n_fresh, 0)
        self.encoder_lr = encoder_lr
        self._made: Encoding | None = None  # of the encoder as it was when last asked
        self._epoch: tuple[Encoding, Tensor] | None = None  # of the encoder as it was when the epoch began, and its centre
        if self.joint:
            if trainable_features or features is not None:
                raise OptionError(
                    "joint training reads pictures and captions, no feature tables",
                    where="AlignRec(strategy=)",
                    found="features= or trainable_features=",
                    expected='neither, or strategy="staged"',
                )
            self.encoder = LiveEncoder(data, start, encoder_dim, encoder_depth, self.generator)
            encoded, has = self.encoder.table(), self.encoder.has
        else:
            encoded, has = item_vectors(data, features)
            self.widths = {name: data.features[name].shape[1] for name in chosen_features(data, features)}
            if trainable_features:
                self.encoded = nn.Parameter(encoded.clone())  # h_enc, (I, D)
            else:
                self.register_buffer("encoded", encoded, persistent=False)
            self.register_buffer("similar", graph.knn_graph(encoded, k, missing=~has), persistent=False)  # S, (I, I)
            self.register_buffer("similar_t", graph.transposed(self.similar), persistent=False)
        self.register_buffer("has", has, persistent=False)  # (I,) which items have content
        if gate != "none":
            self.mlp = MLP(encoded.shape[1], dim, gate, self.generator)
        if fusion == "attention":
            self.attention = nn.Sequential(
                linear(dim, dim, self.generator), nn.Tanh(), linear(dim, 1, self.generator, bias=False)
            )
        edges = data.train.users, data.train.items
        adjacency = graph.normalized_adjacency(*edges, data.n_users, data.n_items)
        self.register_buffer("adjacency", adjacency, persistent=False)  # Â, side U + I
        block = graph.user_item_block(adjacency, data.n_users)
        self.register_buffer("block", block, persistent=False)  # R̂, (U, I)
        self.register_buffer("block_t", graph.transposed(block), persistent=False)

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(name for name in self.default_weights if self.joint or name not in ("mim", "mlm"))

    # -- MMEnc --------------------------------------------------------------------------------------------------------
    def encoding(self) -> Encoding:
        """Return h_enc and S as they are: fixed, or of the encoder's present parameters, then without gradient."""
        if not self.joint:
            return Encoding(self.encoded, self.similar, self.similar_t)
        h = self.encoder.table()
        if self._made is None or self._made.h is not h:
            similar = graph.knn_graph(h, self.k, missing=~self.has)
            self._made = Encoding(h, similar, graph.transposed(similar))
        return self._made

    def begin_epoch(self, epoch: int) -> None:
        """Have a joint encoder's h_enc and S made anew by the first batch."""
        self._epoch = None

    def some(self, items: Tensor) -> Tensor:
        """Return the ones of the batch's ``items`` (n,) that are encoded anew."""
        if not self.n_fresh or len(items) <= self.n_fresh:
            return items
        return items[torch.randperm(len(items), generator=self.generator)[: self.n_fresh].to(items.device)]

    def fresh(self, items: Tensor) -> Encoding:
        """Return the epoch's encoding with ``items`` (n,) encoded anew, with gradient."""
        epoch, centre = self._epoch or (self.encoding(), self.encoder.centre)
        if self.training:
            self._epoch = epoch, centre
        return epoch._replace(h=epoch.h.index_copy(0, items, self.encoder.encode(items, centre))) if len(items) else epoch

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        if not self.joint:
            return super().parameter_groups(lr)
        sides: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for name, parameter in self.named_parameters():
            sides[name.startswith("encoder.")].append(parameter)
        return [{"params": sides[False]}, {"params": sides[True], "lr": lr * self.encoder_lr}]

    # -- Aggregator ---------------------------------------------------------------------------------------------------
    def ids(self) -> tuple[Tensor, Tensor]:
        """Return h_id of users (U, d) and items (I, d): LightGCN."""
        h = layer = torch.cat([self.user_id.weight, self.item_id.weight])  # E_id
        for _ in range(self.n_layers):
            layer = graph.propagate(self.adjacency, layer)
            h = h + layer
        return (h / (self.n_layers + 1)).split([self.n_users, self.n_items])

    def contents(self, encoding: Encoding) -> tuple[Tensor, Tensor]:
        """Return h_mm of users (U, d) and items (I, d)."""
        items = graph.propagate(encoding.similar, self.con(self.item_id.weight, encoding.h), encoding.similar_t)
        return graph.propagate(self.block, items, self.block_t), items

    def con(self, e: Tensor, h_enc: Tensor) -> Tensor:
        """Return h_con (n, d) of items with ID vectors ``e`` (n, d) and content ``h_enc`` (n, D)."""
        if self.gate == "none":
            return e
        return self.mlp(h_enc) if self.gate == "content" else e * self.mlp(h_enc)

    @once_per_evaluation
    def aggregated(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return h_id of users and items, h_mm of users and items."""
        return *self.ids(), *self.contents(self.encoding())

    # -- Fuser --------------------------------------------------------------------------------------------------------
    def fuse(self, mm: Tensor, own: Tensor) -> Tensor:
        """Return h (n, d) of h_mm and h_id (n, d), (n, 2d) with ``"concat"``."""
        if self.fusion == "sum":
            return mm + own
        if self.fusion == "concat":
            return torch.cat([mm, own], dim=1)
        return self.attended(mm, own).sum(1)

    def attended(self, mm: Tensor, own: Tensor) -> Tensor:
        """Return a_mm h_mm and a_id h_id, (n, 2, d)."""
        both = torch.stack([mm, own], dim=1)
        return self.attention(both).softmax(1) * both

    @once_per_evaluation
    def final(self) -> tuple[Tensor, Tensor]:
        """Return h of all users and items."""
        id_u, id_i, mm_u, mm_i = self.aggregated()
        return self.fuse(mm_u, id_u), self.fuse(mm_i, id_i)

    # -- losses -------------------------------------------------------------------------------------------------------
    def losses(self, batch: Batch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        active = set(self.terms) & set(self.terms if active is None else active)
        terms: dict[str, Tensor] = {}
        fused = {"bpr", "uia"} | ({"l2"} if self.regularizer == "propagated" else set())
        if active & {"cca", "reg"} or self.joint:
            users, users_count = torch.unique(batch.users, return_counts=True)
            items, items_count = torch.unique(batch.items[self.has[batch.items]], return_counts=True)
        if self.joint:
            some = self.some(items)
            terms |= self.encoder.losses(some, active)
        if active & (fused | {"cca", "reg"}):
            encoding = self.fresh(some) if self.joint else self.encoding()
        if active & (fused | {"cca"}):
            id_u, id_i, mm_u, mm_i = *self.ids(), *self.contents(encoding)
        elif "reg" in active:
            mm_i = self.contents(encoding)[1]
        if active & fused:
            u = self.fuse(rows(mm_u, batch.users), rows(id_u, batch.users))  # (B, d)
            i, j = (self.fuse(rows(mm_i, ids), rows(id_i, ids)) for ids in (batch.items, batch.negatives))
        if "bpr" in active:
            terms["bpr"] = losses.bpr((u * i).sum(-1), (u * j).sum(-1))
        if "cca" in active:
            terms["cca"] = self.info_nce(mm_u, id_u, users, users_count) + self.info_nce(mm_i, id_i, items, items_count)
        if "uia" in active:
            terms["uia"] = losses.alignment(u, i, stop_gradient=False)
        if "reg" in active:
            enc = F.normalize(rows(encoding.h.detach(), items), dim=1)  # sg
            mm = rows(mm_i, items)
            mm = F.normalize(mm, dim=1) if self.reg_form == "published" else mm
            terms["reg"] = losses.similarity_gap(mm, enc, items_count)
        if "l2" in active:
            own = self.user_id(batch.users), self.item_id(batch.items), self.item_id(batch.negatives)
            terms["l2"] = losses.l2(*(own if self.regularizer == "squared" else (u, i, j)))
        return {name: terms[name] for name in self.terms if name in terms}

    def info_nce(self, mm: Tensor, own: Tensor, ids: Tensor, count: Tensor) -> Tensor:
        """Return one half of L_CCA, from h_mm to h_id of the distinct ``ids`` (n,), each ``count`` times in the batch."""
        query, key = rows(mm, ids), rows(own, ids)
        return losses.info_nce(query, key, count, temperature=self.tau, mask_duplicates=self.mask_duplicates)

    def views(self) -> dict[str, Tensor]:
        id_u, id_i, mm_u, mm_i = self.aggregated()
        h_u, h_i = self.final()
        return {
            "user/id": id_u,
            "item/id": id_i,
            "user/content": mm_u,
            "item/content": mm_i,
            "item/encoder": self.encoding().h,
            "user/final": h_u,
            "item/final": h_i,
        }

    @torch.no_grad()
    def parts(self, users: Tensor) -> dict[str, Tensor]:
        _, own, _, mm = self.aggregated()
        h_u, h_i = self.final()
        if self.fusion == "concat":
            mm = F.pad(mm, (0, own.shape[1]))
        elif self.fusion == "attention":
            mm = self.attended(mm, own)[:, 0]
        return {"id": h_u[users] @ (h_i - mm).T, "content": h_u[users] @ mm.T}

    @torch.no_grad()
    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        if self.joint or isinstance(self.encoded, nn.Parameter):
            raise OptionError(
                "cannot place a new item by a feature table",
                where="AlignRec",
                found="an encoder of its own" if self.joint else "trained feature tables",
                expected="strategy='staged' and trainable_features=False",
            )
        tables, _ = new_features(features, self.widths, model="AlignRec", scaling="unit")
        h_enc, e = torch.cat(list(tables.values()), 1).to(self.encoded), self.item_id.weight
        scale = graph.diagonal(self.similar).sqrt()  # an edge to itself weighs 1 before the normalisation
        rows, own = graph.knn_rows(h_enc, self.encoded, self.k, scale)
        nothing = e.new_zeros(len(h_enc), e.shape[1])
        mm = rows @ self.con(e, self.encoded) + own[:, None] * self.con(nothing, h_enc)
        return self.fuse(mm, nothing), None

    def score(self, users: Tensor) -> Tensor:
        h_u, h_i = self.final()
        return h_u[users] @ h_i.T


class MLP(nn.Module):
    """The map of h_enc that gates the ID: (n, D) to (n, d). ``gate`` as in :class:`AlignRec`."""

    def __init__(self, n_in: int, dim: int, gate: str, generator: torch.Generator):
        super().__init__()
        self.first, self.second = linear(n_in, dim, generator), linear(dim, dim, generator)
        self.gate = gate

    def forward(self, h_enc: Tensor) -> Tensor:
        """Return the gate (n, d) of h_enc (n, D)."""
        x = self.first(h_enc)
        return self.second(x).sigmoid() if self.gate == "sigmoid" else self.second(x.relu())


def chosen_features(data: Dataset, features: Sequence[str] | str | None = None) -> tuple[str, ...]:
    """Return the names of the tables that make h_enc, as :class:`AlignRec` says."""
    if features is None:
        return (MMENC,) if MMENC in data.features else data.modalities
    return (features,) if isinstance(features, str) else tuple(features)


def item_vectors(data: Dataset, features: Sequence[str] | str | None = None) -> tuple[Tensor, Tensor]:
    """Return h_enc (I, D) of the chosen tables, and (I,) bool which items have any of them.

    Args:
        data, features: as in :class:`AlignRec`.

    Raises:
        DataError, OptionError: as in :func:`~mmrec_teach.models.content.modality_features`.
    """
    tables = modality_features(data, chosen_features(data, features) or features, model="AlignRec", scaling="unit")
    has = ~np.logical_and.reduce([data.missing[name] for name in tables])
    return torch.cat(list(tables.values()), dim=1), torch.from_numpy(has)
