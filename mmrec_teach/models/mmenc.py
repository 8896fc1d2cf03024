r"""MMEnc: one vector per item from its picture and its words, by guessing what was hidden.

AlignRec (arXiv:2403.12384) calls its item encoder MMEnc and takes BEiT-3 for it:
Wang et al., "Image as a Foreign Language: BEiT Pretraining for All Vision and Vision-Language Tasks", arXiv:2208.10442.
The target of a hidden patch is the number of a visual word, as in Bao et al., "BEiT", arXiv:2106.08254. That the item vector has to
serve the guesses too is the "patch aggregation" of Peng et al., "BEiT v2", arXiv:2208.06366.

Read top to bottom: masks, one layer, the encoder with its two losses.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data.tokens import MASK, PAD, UNKNOWN, TokenTables
from mmrec_teach.errors import OptionError, check_choice, check_whole

TERMS = ("mim", "mlm", "itc")
"""Masked image modelling, masked language modelling; and, not part of BEiT-3's pre-training, image-text contrast."""
TASKS: dict[str, float] = {"words": 0.4, "patches": 0.2, "both": 0.3, "words alone": 0.05, "patches alone": 0.05}
"""What an item of a training batch is used for, and how often.

``words``: some words are hidden, the picture is seen. ``patches``: some patches are hidden, the caption is seen. ``both``: some of both.
``... alone``: the other side is treated as missing, so that the encoder also knows items that lack one (BEiT-3 trains on single
pictures and single texts for that)."""


@dataclass(frozen=True)
class EncoderBatch:
    """Some items as tokens.

    Attributes:
        patches: (B, P, 3 s s) float32 in 0..1.
        codes: (B, P) int64 visual words.
        words: (B, W) int64, padded.
        patch_missing, word_missing: (B,) bool, True where the item lacks that side.
    """

    patches: Tensor
    codes: Tensor
    words: Tensor
    patch_missing: Tensor
    word_missing: Tensor

    @staticmethod
    def of(
        tokens: TokenTables, items: Tensor | np.ndarray | None = None, hide: Mapping[str, np.ndarray] | None = None
    ) -> EncoderBatch:
        """Return ``items`` (n,) of ``tokens``, or all of them.

        Args:
            tokens: from a :class:`~mmrec_teach.data.tokens.Tokenizer`.
            items: row numbers.
            hide: ``"image"``, ``"text"`` -> (I,) bool, True where an item is to be treated as if it had none.
        """
        rows = np.arange(len(tokens)) if items is None else np.asarray(items)
        patch_missing, word_missing = tokens.hidden(hide)
        return EncoderBatch(
            torch.from_numpy(tokens.patches[rows]).float().div_(255.0),
            *(torch.from_numpy(t[rows]) for t in (tokens.codes, tokens.words, patch_missing, word_missing)),
        )

    def __len__(self) -> int:
        return len(self.words)

    def to(self, device: torch.device | str) -> EncoderBatch:
        """Return the batch on ``device``."""
        return EncoderBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


# -- masks ----------------------------------------------------------------------------------------------------------------
def block_mask(shares: Tensor, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Hide rectangles of patches until enough are hidden (BEiT's blockwise masking, many pictures at once).

    A single hidden patch is easily copied from its neighbours; a hidden block has to be understood.

    Args:
        shares: (B,) the share of patches to hide at least.
        grid: (rows, columns).
        generator: draws the rectangles.

    Returns:
        (B, rows * columns) bool, True where hidden.
    """
    n, (rows, columns), tries = len(shares), grid, 24
    draws = torch.rand(5, n, tries, generator=generator)
    # Area 10 % to 40 % of the picture, at least one patch; height to width between 1:3 and 3:1; anywhere inside.
    area = (0.1 + 0.3 * draws[0]) * rows * columns
    shape = torch.exp((2 * draws[1] - 1) * math.log(3.0)) * rows / columns
    height = (area * shape).sqrt().round().clamp(1, rows)
    width = (area / height).round().clamp(1, columns)
    top, left = ((rows - height + 1) * draws[2]).floor(), ((columns - width + 1) * draws[3]).floor()
    y, x = torch.arange(rows)[:, None], torch.arange(columns)[None, :]
    top, left, height, width = (t[..., None, None] for t in (top, left, height, width))
    blocks = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)  # (B, tries, rows, columns)
    hidden = blocks.flatten(2).cummax(dim=1).values  # after the first rectangle, the second, ...
    enough = hidden.sum(-1) >= (shares[:, None] * rows * columns)
    first = torch.where(enough.any(1), enough.int().argmax(1), tries - 1)
    mask = hidden[torch.arange(n), first]
    # A share near 1 may need more rectangles than were drawn: the rest is hidden patch by patch.
    order = (torch.rand(n, rows * columns, generator=generator) + mask).argsort(dim=1, descending=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(rows * columns).expand(n, -1))
    return mask | (rank < (shares * rows * columns).ceil()[:, None])


def word_mask(words: Tensor, shares: Tensor, generator: torch.Generator, odds: Tensor | None = None) -> Tensor:
    """Hide a share of each caption's words, at least one.

    Args:
        words: (B, W) int64; padding and unknown words are never hidden.
        shares: (B,) the share of its words to hide.
        generator: draws which.
        odds: (V,) above 0, how readily each word is taken; None: all alike.

    Returns:
        (B, W) bool, True where hidden.
    """
    known = words > UNKNOWN
    draw = torch.rand(words.shape, generator=generator)
    if odds is not None:  # an exponential clock for each word, the readier the faster; the first to ring are hidden
        draw = -torch.log1p(-draw) / odds[words]
    draw = draw.masked_fill(~known, torch.inf)
    rank = draw.argsort(dim=1).argsort(dim=1)
    count = (shares * known.sum(1)).round().clamp(min=1.0)
    return known & (rank < count[:, None])


# -- one layer ------------------------------------------------------------------------------------------------------------
class Layer(nn.Module):
    """Self-attention that all tokens share, then a feed-forward network of each token's own modality (BEiT-3's Multiway).

    Args:
        dim, heads: of the attention.
        experts: two feed-forward networks, one for the picture's tokens and one for the words. Off: one for all, which
            BEiT-3 has in its topmost layers.
        generator: draws the initial values.
    """

    def __init__(self, dim: int, heads: int, experts: bool, generator: torch.Generator):
        super().__init__()
        self.heads, self.experts = heads, experts
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = _linear(dim, 3 * dim, generator), _linear(dim, dim, generator)
        self.networks = nn.ModuleList(
            nn.Sequential(_linear(dim, 4 * dim, generator), nn.GELU(), _linear(4 * dim, dim, generator))
            for _ in range(2 if experts else 1)
        )

    def forward(self, x: Tensor, seen: Tensor, n_visual: int) -> Tensor:
        """Return x after the layer.

        Args:
            x: (B, T, d), the visual tokens first.
            seen: (B, 1, 1, T) bool, the tokens that may be looked at.
            n_visual: how many tokens are visual.
        """
        n, t, d = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        looked = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)  # softmax(q k' / √d_head) v
        x = x + self.out(looked.transpose(1, 2).reshape(n, t, d))
        h = self.forward_norm(x)
        if not self.experts:
            return x + self.networks[0](h)
        vision, language = self.networks
        return x + torch.cat([vision(h[:, :n_visual]), language(h[:, n_visual:])], dim=1)


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.trunc_normal_(layer.weight, std=1.0 / math.sqrt(n_in), generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def waves(grid: tuple[int, int], dim: int, scale: float = 0.5) -> Tensor:
    """Return (rows * columns, dim) initial vectors of places: sines and cosines of row and column, so that neighbours are alike.

    A silhouette is which patch stands *where*; with places that start near zero, few pictures would hardly teach it.
    """
    rows, columns = grid
    quarter = -(-dim // 4)
    pace = torch.pi / max(grid) * 2.0 ** torch.linspace(-1.0, math.log2(max(2, max(grid))), quarter)
    y, x = torch.meshgrid(torch.arange(float(rows)), torch.arange(float(columns)), indexing="ij")
    angles = torch.cat([y.reshape(-1, 1) * pace, x.reshape(-1, 1) * pace], dim=1)  # (P, dim / 2)
    return scale * torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim]


# -- the encoder ----------------------------------------------------------------------------------------------------------
class MMEnc(nn.Module):
    r"""A small BEiT-3: [CLS], patches and words in one transformer; the item vector is what stands at [CLS] in the end.

    .. math:: L = L_{mim} + L_{mlm}, \qquad
              L_{mim} = -\sum_{p\ hidden} \log p(z_p \mid visible), \quad
              L_{mlm} = -\sum_{w\ hidden} \log p(t_w \mid visible)

    z_p is the visual word of patch p, t_w the word at place w; each sum is a mean over the hidden tokens of the batch.

    In BEiT-3 no loss looks at [CLS]. Here, by ``aggregate``, each hidden token is guessed a second time from [CLS] alone (and, for
    a patch, its place), and the two cross-entropies are added: so the one vector has to know what the item is.

    Args:
        n_words, n_codes: sizes of vocabulary and codebook.
        grid: (rows, columns) of patches.
        patch_dim: numbers a patch, 3 s s.
        length: W, words a caption.
        dim, depth, heads: of the transformer.
        fused: how many of the topmost layers share one feed-forward network among all tokens.
        target: of a hidden patch: ``"codes"``, its visual word, or ``"pixels"``, its values (mean squared error).
        aggregate: see above. Off: plain BEiT-3.
        tasks: task -> share, see :data:`TASKS`.
        patch_share, word_share: (least, most) share of patches and of words to hide, drawn for each item.
        word_counts: (V,) how often each word occurs. A word that occurs n times is hidden as readily as n to the power -``rarity``:
            "and" is no riddle, and teaches nothing about the picture. None: all words alike.
        rarity: see there; counts below 10 are taken as 10.
        seed: of initial values and masks.

    Attributes:
        generator: draws the masks.
    """

    def __init__(
        self,
        n_words: int,
        n_codes: int,
        *,
        grid: tuple[int, int] = (4, 4),
        patch_dim: int = 432,
        length: int = 24,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        fused: int = 1,
        target: str = "codes",
        aggregate: bool = True,
        tasks: Mapping[str, float] = TASKS,
        patch_share: tuple[float, float] = (0.3, 1.0),
        word_share: tuple[float, float] = (0.2, 0.7),
        word_counts: Sequence[int] | None = None,
        rarity: float = 0.75,
        seed: int = 0,
    ):
        super().__init__()
        self.options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.options["tasks"] = dict(tasks)
        self.options["word_counts"] = None if word_counts is None else [int(n) for n in word_counts]
        check_choice("target", target, {"codes": None, "pixels": None})
        for name, value in (("dim", dim), ("depth", depth), ("heads", heads), ("n_words", n_words), ("n_codes", n_codes)):
            check_whole(name, value, 1)
        check_whole("fused", fused, 0)
        if dim % heads:
            raise OptionError(
                "not a multiple of the number of heads", where="dim", found=dim, expected=f"{heads} times a number"
            )
        self._check_tasks(tasks)
        for name, (low, high) in (("patch_share", patch_share), ("word_share", word_share)):
            if not 0 < low <= high <= 1:
                raise OptionError("no range of shares", where=name, found=(low, high), expected="0 < least <= most <= 1")
        self.grid, self.n_patches, self.length, self.dim = tuple(grid), grid[0] * grid[1], length, dim
        self.n_words, self.n_codes = n_words, n_codes
        self.target, self.aggregate, self.tasks = target, aggregate, dict(tasks)
        self.patch_share, self.word_share = tuple(patch_share), tuple(word_share)
        counts = None if word_counts is None else torch.tensor(list(word_counts), dtype=torch.float32)
        if counts is not None and counts.shape != (n_words,):
            raise OptionError("not one count a word", where="word_counts", found=len(counts), expected=str(n_words))
        self.odds = None if counts is None else counts.clamp(min=10.0) ** -float(rarity)
        self.generator = g = torch.Generator().manual_seed(seed)

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.02 * torch.randn(*shape, generator=g))

        self.cls, self.hidden_patch = table(dim), table(dim)
        self.patch_place, self.word_place = nn.Parameter(waves(grid, dim)), nn.Parameter(waves((1, length), dim))
        # BEiT-3 has one linear map here, and millions of pictures to learn from; two see colours sooner.
        self.patch_in = nn.Sequential(_linear(patch_dim, 2 * dim, g), nn.GELU(), _linear(2 * dim, dim, g))
        self.word_in = nn.Embedding(n_words, dim, _weight=0.3 * torch.randn(n_words, dim, generator=g))
        self.layers = nn.ModuleList(Layer(dim, heads, k < depth - fused, g) for k in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.patch_out = _linear(dim, n_codes if target == "codes" else patch_dim, g)
        self.word_out = _linear(dim, n_words, g)
        if aggregate:
            self.from_cls = _linear(dim, dim, g)
            self.patch_query, self.word_query = table(self.n_patches, dim), table(dim)
            self.query_norm = nn.LayerNorm(dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))  # of the contrast: 1 / temperature

    # -- reading --------------------------------------------------------------------------------------------------------
    def forward(
        self,
        patches: Tensor | None,
        words: Tensor | None,
        *,
        patch_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        patch_missing: Tensor | None = None,
        word_missing: Tensor | None = None,
    ) -> Tensor:
        """Return what stands at every token in the end.

        Args:
            patches: (B, P, patch_dim) in 0..1; None where nobody's picture is to be read: the same as all missing, at less cost.
            words: (B, W) int64, padded; None likewise.
            patch_mask: (B, P) bool, True where the patch is hidden: its place is known, its content is not.
            word_mask: (B, W) bool, likewise.
            patch_missing, word_missing: (B,) bool, True where a whole side is not there: nobody looks at its tokens.

        Returns:
            (B, 1 + P + W, dim): [CLS], patches, words; without the tokens of a side that is None.
        """
        n = len(words) if patches is None else len(patches)
        parts = [self.cls.expand(n, 1, -1)]
        seen = [torch.ones(n, 1, dtype=torch.bool, device=self.cls.device)]
        if patches is not None:
            x = self.patch_in((patches - 0.5) / 0.25)
            if patch_mask is not None:
                x = torch.where(patch_mask[..., None], self.hidden_patch, x)
            parts.append(x + self.patch_place)
            there = torch.ones_like(seen[0]) if patch_missing is None else ~patch_missing[:, None]
            seen.append(there.expand(n, self.n_patches))
        if words is not None:
            if word_mask is not None:
                words = words.masked_fill(word_mask, MASK)
            parts.append(self.word_in(words) + self.word_place)
            seen.append(words != PAD if word_missing is None else (words != PAD) & ~word_missing[:, None])
        x, allowed = torch.cat(parts, dim=1), torch.cat(seen, dim=1)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, allowed, 1 if patches is None else 1 + self.n_patches)
        return self.norm(x)

    def encode(self, batch: EncoderBatch) -> Tensor:
        """Return the item vectors, (B, dim): [CLS] of everything there is, nothing hidden."""
        missing = {"patch_missing": batch.patch_missing, "word_missing": batch.word_missing}
        return self(batch.patches, batch.words, **missing)[:, 0]

    # -- guessing -------------------------------------------------------------------------------------------------------
    def guesses(self, hidden: Tensor, kind: str, where: Tensor) -> Tensor:
        """Return the outputs for the hidden ``"patch"`` or ``"word"`` tokens at ``where`` (B, P or W) bool: (n, K or V)."""
        start = 1 if kind == "patch" else 1 + self.n_patches
        out = self.patch_out if kind == "patch" else self.word_out
        return out(hidden[:, start : start + where.shape[1]][where])

    def guesses_from_cls(self, cls: Tensor, kind: str, where: Tensor) -> Tensor:
        """Return the same from [CLS] (B, dim) alone."""
        rows = torch.arange(len(where), device=where.device)[:, None].expand_as(where)[where]
        if kind == "patch":
            query = self.patch_query.expand(len(where), -1, -1)[where]
        else:
            query = self.word_query
        h = self.query_norm(F.gelu(self.from_cls(cls).index_select(0, rows) + query))
        return (self.patch_out if kind == "patch" else self.word_out)(h)

    def masks(self, batch: EncoderBatch) -> tuple[Tensor, Tensor, EncoderBatch]:
        """Draw each item's task and masks.

        Returns:
            (B, P) bool hidden patches, (B, W) bool hidden words, and the batch with the other side missing where the task says so.
        """
        n, g = len(batch), self.generator
        names, shares = list(self.tasks), torch.tensor(list(self.tasks.values()))
        task = torch.multinomial(shares, n, replacement=True, generator=g)
        is_ = {name: (task == k).to(batch.words.device) for k, name in enumerate(names)}
        no = torch.zeros(n, dtype=torch.bool, device=batch.words.device)
        is_ = {name: is_.get(name, no) for name in ("words", "patches", "both", "words alone", "patches alone")}
        on_words = is_["words"] | is_["words alone"] | is_["both"]
        on_patches = is_["patches"] | is_["patches alone"] | is_["both"]
        # An item that lacks the side that was to be guessed is asked for the other.
        on_patches = (on_patches | batch.word_missing) & ~batch.patch_missing
        on_words = (on_words | batch.patch_missing) & ~batch.word_missing
        low, high = self.patch_share
        patch = block_mask(low + (high - low) * torch.rand(n, generator=g), self.grid, g).to(batch.words.device)
        low, high = self.word_share
        word_share = low + (high - low) * torch.rand(n, generator=g)
        word = word_mask(batch.words.cpu(), word_share, g, self.odds).to(batch.words.device)
        seen = replace(
            batch,
            patch_missing=batch.patch_missing | (is_["words alone"] & ~batch.word_missing),
            word_missing=batch.word_missing | (is_["patches alone"] & ~batch.patch_missing),
        )
        return patch & on_patches[:, None], word & on_words[:, None], seen

    def losses(self, batch: EncoderBatch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return the loss terms, masks freshly drawn.

        Args:
            batch: the items.
            active: the terms wanted; None means ``mim`` and ``mlm``. ``itc`` costs two more passes.
        """
        active = ("mim", "mlm") if active is None else active
        terms = {}
        if "mim" in active or "mlm" in active:
            patch_mask, word_mask_, seen = self.masks(batch)
            hidden = self(
                seen.patches,
                seen.words,
                patch_mask=patch_mask,
                word_mask=word_mask_,
                patch_missing=seen.patch_missing,
                word_missing=seen.word_missing,
            )
            if "mim" in active:
                target = batch.codes if self.target == "codes" else batch.patches
                terms["mim"] = self._guessing_loss(hidden, "patch", patch_mask, target)
            if "mlm" in active:
                terms["mlm"] = self._guessing_loss(hidden, "word", word_mask_, batch.words)
        if "itc" in active:
            terms["itc"] = self._contrast(batch)
        return terms

    def _guessing_loss(self, hidden: Tensor, kind: str, where: Tensor, target: Tensor) -> Tensor:
        if not where.any():
            return hidden.sum() * 0.0
        wanted = target[where]
        error = F.cross_entropy if not wanted.is_floating_point() else _pixel_error
        loss = error(self.guesses(hidden, kind, where), wanted)
        if self.aggregate:
            loss = loss + error(self.guesses_from_cls(hidden[:, 0], kind, where), wanted)
        return loss

    def _contrast(self, batch: EncoderBatch) -> Tensor:
        """CLIP's loss between [CLS] of the picture alone and [CLS] of the words alone, over the items that have both."""
        whole_items = ~batch.patch_missing & ~batch.word_missing
        if whole_items.sum() < 2:
            return self.cls.sum() * 0.0
        pictures = self(batch.patches[whole_items], None)[:, 0]
        texts = self(None, batch.words[whole_items])[:, 0]
        logits = F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T * self.log_scale.exp().clamp(max=100.0)
        own = torch.arange(len(logits), device=logits.device)
        return 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))

    @staticmethod
    def _check_tasks(tasks: Mapping[str, float]) -> None:
        known = ("words", "patches", "both", "words alone", "patches alone")
        for name, share in tasks.items():
            if name not in known:
                raise OptionError("unknown task", where="tasks", found=repr(name), expected=", ".join(known))
            if not 0 <= share < math.inf:
                raise OptionError("not a share", where=f"tasks[{name!r}]", found=share, expected="a number from 0 up")
        if not sum(tasks.values()) > 0:
            raise OptionError("no task has a share", where="tasks", found=dict(tasks), expected="a share above 0")


def _pixel_error(guess: Tensor, wanted: Tensor) -> Tensor:
    return F.mse_loss(guess, (wanted - 0.5) / 0.25)
