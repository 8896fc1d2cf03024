"""Pictures of what a masked encoder sees, guesses and finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch

from mmrec_teach.data import Dataset
from mmrec_teach.data.tokens import UNKNOWN, cut
from mmrec_teach.errors import InputError
from mmrec_teach.models.mmenc import EncoderBatch, block_mask
from mmrec_teach.training.pretrain import Encoder
from mmrec_teach.views.figures import contact_sheet

HIDDEN = 214
"""Grey of a hidden patch."""


@torch.no_grad()
def guess_patches(
    encoder: Encoder, data: Dataset, items: Sequence[int], hidden: np.ndarray, *, words: bool = True
) -> np.ndarray:
    """Return (n, H, W, 3) uint8 pictures in which each hidden patch is the one that the encoder guesses.

    Args:
        encoder, data: who guesses of what.
        items: (n,) row numbers.
        hidden: (n, P) bool, the patches it does not see.
        words: whether it sees the captions.
    """
    tokens, model = encoder.tokens(data), encoder.model.eval()
    rows, where = _rows(items, data), torch.from_numpy(np.asarray(hidden, dtype=bool))
    batch = EncoderBatch.of(tokens, rows, None if words else {"text": np.ones(len(tokens), dtype=bool)})
    out = model.guesses(
        model(batch.patches, batch.words, patch_mask=where, patch_missing=batch.patch_missing, word_missing=batch.word_missing),
        "patch",
        where,
    )
    if model.target == "codes":
        guessed = encoder.tokenizer.codebook[out.argmax(-1).numpy()]
    else:
        guessed = 255.0 * (0.5 + 0.25 * out.numpy())
    patches = tokens.patches[rows].astype(np.float32)
    patches[where.numpy()] = guessed
    return encoder.tokenizer.picture(patches)


@torch.no_grad()
def guess_words(
    encoder: Encoder,
    data: Dataset,
    item: int,
    hidden: Sequence[str] | None = None,
    *,
    picture: int | str | None = "own",
    k: int = 3,
) -> list[dict[str, Any]]:
    """Return, for every hidden word of an item's caption, the words the encoder finds most likely.

    Args:
        encoder, data, item: who guesses of what.
        hidden: the words to hide; None hides all.
        picture: ``"own"``, None (no picture), or the row number of another item whose picture is shown instead.
        k: how many guesses a word.

    Returns:
        One dictionary a hidden word: ``word``, ``guesses`` (best first) and ``chances`` (their probabilities).

    Raises:
        InputError: no word of the caption is to be hidden.
    """
    tokens, model = encoder.tokens(data), encoder.model.eval()
    vocabulary = encoder.tokenizer.vocabulary
    words = tokens.words[item]
    at = words > UNKNOWN if hidden is None else np.isin(vocabulary[words], [h.lower() for h in hidden]) & (words > UNKNOWN)
    if not at.any():
        raise InputError(
            "no such word in the caption", where="guess_words", found=list(hidden or ()), expected=encoder.tokenizer.text(words)
        )
    seen = item if picture == "own" else picture
    shown = EncoderBatch.of(tokens, [item if seen is None else int(seen)])
    where = torch.from_numpy(at)[None]
    missing = torch.tensor([True]) if seen is None else shown.patch_missing
    out = model(shown.patches, torch.from_numpy(words.copy())[None], word_mask=where, patch_missing=missing)
    chances = model.guesses(out, "word", where).softmax(-1)
    best = chances.topk(k, dim=-1)
    return [
        {
            "word": str(vocabulary[word]),
            "guesses": [str(vocabulary[i]) for i in indices],
            "chances": [round(float(v), 4) for v in values],
        }
        for word, indices, values in zip(words[at], best.indices.numpy(), best.values.numpy(), strict=True)
    ]


def hidden_pictures(encoder: Encoder, data: Dataset, items: Sequence[int], hidden: np.ndarray) -> np.ndarray:
    """Return (n, H, W, 3) uint8 pictures with hidden patches in grey."""
    tokens = encoder.tokens(data)
    patches = tokens.patches[_rows(items, data)].copy()
    patches[np.asarray(hidden, dtype=bool)] = HIDDEN
    return encoder.tokenizer.picture(patches)


def reconstruction(
    encoder: Encoder, data: Dataset, items: Sequence[int], *, share: float = 0.5, seed: int = 0, title: str | None = None
) -> go.Figure:
    """Each item's picture as it is, as the encoder sees it, and with the hidden patches guessed without and with the caption.

    Args:
        encoder, data: who guesses of what.
        items: row numbers of items with a picture.
        share: of the patches to hide, in blocks.
        seed: of the blocks.
        title: the takeaway; by default how many of the hidden visual words were found.
    """
    rows, tokens = _rows(items, data), encoder.tokens(data)
    hidden = block_mask(torch.full((len(rows),), float(share)), encoder.model.grid, torch.Generator().manual_seed(seed)).numpy()
    alone, told = (guess_patches(encoder, data, rows, hidden, words=words) for words in (False, True))
    columns = (
        ("as it is", encoder.tokenizer.picture(tokens.patches[rows])),
        ("what is seen", hidden_pictures(encoder, data, rows, hidden)),
        ("guessed without the caption", alone),
        ("guessed with the caption", told),
    )
    images = np.stack([pictures for _, pictures in columns], axis=1).reshape(-1, *alone.shape[1:])
    names = [name for _ in rows for name, _ in columns]
    if title is None:
        before, after = (_found(encoder, pictures, tokens.codes[rows], hidden) for pictures in (alone, told))
        title = f"Hidden patches found: {after:.0%} with the caption, {before:.0%} without"
    figure = contact_sheet(images, names, columns=len(columns), title=title, cell=130)
    figure.layout.meta = {
        "alt": f"For each of {len(rows)} items four pictures in a row: as it is, with hidden patches in grey, "
        f"with the hidden patches guessed from the rest of the picture, and guessed from the rest and the caption. {title}."
    }
    return figure


def retrieval(
    encoder: Encoder,
    data: Dataset,
    queries: Sequence[int],
    items: np.ndarray,
    *,
    k: int = 6,
    how: str = "cosine",
    title: str | None = None,
) -> go.Figure:
    """For each caption, its own picture (framed) and then the pictures that go best with it.

    Args:
        encoder, data: who looks for what.
        queries: row numbers of the captions, among ``items``.
        items: row numbers of the pictures to choose from; all have a picture and a caption.
        k: pictures a caption.
        how: see :meth:`~mmrec_teach.training.pretrain.Encoder.similarity`.
        title: the takeaway; by default how many find their own picture among the first ``k``.
    """
    items = np.asarray(items)
    place = {int(item): n for n, item in enumerate(items)}
    if unknown := [q for q in queries if int(q) not in place]:
        raise InputError(
            "a query is not among the items", where="retrieval", found=unknown[0], expected="a row number in items"
        )
    similarity = encoder.similarity(data, items, how)
    images, names, marks, hits = [], [], [], 0
    for query in queries:
        best = np.argsort(-similarity[:, place[int(query)]], kind="stable")[:k]
        images += [data.images[query], *data.images[items[best]]]
        caption = encoder.tokenizer.text(encoder.tokens(data).words[query]) if data.captions is None else data.captions[query]
        names += [f"asked for: {caption}", *(f"{n + 1}." for n in range(len(best)))]
        marks += [False, *(items[best] == query)]
        hits += int(query in items[best])
    title = title or f"{hits} of {len(queries)} captions find their own picture among the first {k} of {len(items)}"
    figure = contact_sheet(np.stack(images), names, columns=k + 1, marks=marks, title=title, cell=110)
    figure.layout.meta = {
        "alt": f"Each row: the picture of the item whose caption is asked for, then the {k} pictures found. {title}."
    }
    return figure


def _found(encoder: Encoder, pictures: np.ndarray, codes: np.ndarray, hidden: np.ndarray) -> float:
    return float((encoder.tokenizer.codes(cut(pictures, encoder.tokenizer.patch)) == codes)[hidden].mean())


def _rows(items: Sequence[int], data: Dataset) -> np.ndarray:
    rows = np.asarray(items, dtype=np.int64)
    if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= data.n_items:
        raise InputError(
            "no row numbers of items", where="items", found=list(np.atleast_1d(rows)[:5]), expected=f"0 to {data.n_items - 1}"
        )
    return rows
