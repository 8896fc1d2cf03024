"""Pictures and captions as tokens: what a masked encoder reads and what it has to guess.

A picture becomes a grid of square patches, read row by row. A caption becomes a row of word numbers. What stands in a hidden patch
is asked for by the number of its *visual word*: the nearest of a few hundred typical patches that k-means finds. (BEiT,
arXiv:2106.08254, takes these numbers from a network trained on 250 million pictures; k-means does it for a few thousand.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmrec_teach.data.dataset import Dataset
from mmrec_teach.data.frozen import frozen
from mmrec_teach.errors import DataError, OptionError, check_whole

PAD, MASK, UNKNOWN = 0, 1, 2
"""Word numbers with a meaning of their own: no word here; a hidden word; a word that is not in the vocabulary."""
SPECIAL = ("[pad]", "[mask]", "[?]")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def split_words(text: str) -> list[str]:
    """Return the words of ``text``, in lower case; digits and punctuation are left out."""
    return WORD.findall(text.lower())


@dataclass(frozen=True, eq=False)
class TokenTables:
    """All items of a data set as tokens; row = item index, arrays read-only.

    Attributes:
        patches: (I, P, 3 s s) uint8, P patches of s x s pixels, row by row. Zero where there is no picture.
        codes: (I, P) int64, each patch's visual word.
        words: (I, W) int64, the caption's words, then ``PAD``.
        patch_missing: (I,) bool, True where the item has no picture.
        word_missing: (I,) bool, True where it has no word.
        tokenizer: what made them, and turns them back.
    """

    patches: np.ndarray
    codes: np.ndarray
    words: np.ndarray
    patch_missing: np.ndarray
    word_missing: np.ndarray
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.words)

    def hidden(self, hide: Mapping[str, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``patch_missing`` and ``word_missing`` with more items hidden.

        Args:
            hide: ``"image"`` and/or ``"text"`` -> (I,) bool, True where that side is to be treated as missing.

        Raises:
            OptionError: another name, or not one flag an item.
        """
        flags = {"image": self.patch_missing, "text": self.word_missing}
        for name, more in (hide or {}).items():
            if name not in flags:
                raise OptionError("unknown modality", where="hide", found=repr(name), expected="image or text")
            more = np.asarray(more)
            if more.dtype != bool or more.shape != (len(self),):
                raise OptionError(
                    "not one flag per item",
                    where=f"hide[{name!r}]",
                    found=f"shape {more.shape}, dtype {more.dtype}",
                    expected=f"shape ({len(self)},), dtype bool",
                )
            flags[name] = flags[name] | more
        return flags["image"], flags["text"]

    @staticmethod
    def concatenate(parts: Sequence[TokenTables]) -> TokenTables:
        """Return the items of ``parts``, which one tokenizer made, one after the other."""
        names = ("patches", "codes", "words", "patch_missing", "word_missing")
        return TokenTables(*(frozen(np.concatenate([getattr(p, n) for p in parts])) for n in names), parts[0].tokenizer)


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Turns a data set into :class:`TokenTables`, always in the same way.

    Attributes:
        vocabulary: (V,) the word of each number, the three special ones first.
        codebook: (K, 3 s s) float32 in 0..255, the typical patches.
        patch: s, the side of a patch in pixels.
        grid: (rows, columns) of patches.
        length: W, the most words a caption keeps.
        counts: (V,) int64, how often each word occurs in what the vocabulary was made from; None if that is not known.
    """

    vocabulary: np.ndarray
    codebook: np.ndarray
    patch: int
    grid: tuple[int, int]
    length: int
    counts: np.ndarray | None = None

    @property
    def n_words(self) -> int:
        """V, special ones included."""
        return len(self.vocabulary)

    @property
    def n_codes(self) -> int:
        """K."""
        return len(self.codebook)

    @property
    def n_patches(self) -> int:
        """P."""
        return self.grid[0] * self.grid[1]

    def __call__(self, data: Dataset) -> TokenTables:
        """Return the tokens of all items of ``data``.

        Raises:
            DataError: the data set has no pictures or no captions.
        """
        images, captions = pictures_and_captions(data)
        patch_missing = ~images.any(axis=(1, 2, 3))
        patches = cut(fit_pictures(images, self.patch, self.grid), self.patch)
        words = self.words(captions)
        codes = self.codes(patches)
        word_missing = (words == PAD).all(axis=1)
        return TokenTables(*map(frozen, (patches, codes, words, patch_missing, word_missing)), self)

    def words(self, captions: Iterable[str]) -> np.ndarray:
        """Return (n, W) int64, the numbers of each caption's first W words, then ``PAD``."""
        numbers = {word: k for k, word in enumerate(self.vocabulary.tolist()) if k >= len(SPECIAL)}
        rows = [[numbers.get(word, UNKNOWN) for word in split_words(text)[: self.length]] for text in captions]
        table = np.full((len(rows), self.length), PAD, dtype=np.int64)
        for row, found in zip(table, rows, strict=True):
            row[: len(found)] = found
        return table

    def codes(self, patches: np.ndarray) -> np.ndarray:
        """Return the number of the nearest typical patch: (..., 3 s s) -> (...) int64."""
        flat = patches.reshape(-1, patches.shape[-1])
        half = 0.5 * (self.codebook**2).sum(axis=1)
        found = np.empty(len(flat), dtype=np.int64)
        for start in range(0, len(flat), 8192):  # blocks keep the distances in the cache
            block = flat[start : start + 8192].astype(np.float32)
            found[start : start + 8192] = (half - block @ self.codebook.T).argmin(axis=1)
        return found.reshape(patches.shape[:-1])

    def text(self, words: np.ndarray) -> str:
        """Return one row of word numbers as text, without padding."""
        return " ".join(self.vocabulary[w] for w in words if w != PAD)

    def picture(self, patches: np.ndarray) -> np.ndarray:
        """Return (n, H, W, 3) uint8 pictures of (n, P, 3 s s) patches in 0..255."""
        s, (rows, columns) = self.patch, self.grid
        tiles = np.clip(np.rint(patches), 0, 255).astype(np.uint8).reshape(len(patches), rows, columns, s, s, 3)
        return tiles.swapaxes(2, 3).reshape(len(patches), rows * s, columns * s, 3)


def make_tokenizer(
    *sources: Dataset,
    patch: int = 12,
    side: int = 48,
    n_codes: int = 128,
    length: int = 48,
    max_words: int = 4000,
    min_count: int = 2,
    seed: int = 0,
) -> Tokenizer:
    """Learn the vocabulary and the codebook of one or several data sets.

    Args:
        sources: data sets with pictures and captions; the pictures of all have one shape.
        patch: s, the side of a patch in pixels.
        side: pictures whose longer side is longer are scaled down to it.
        n_codes: K, how many typical patches; fewer if there are fewer different ones.
        length: the most words a caption keeps; shorter if no caption is as long.
        max_words, min_count: the vocabulary holds the most frequent words that occur at least so often.
        seed: of k-means.

    Raises:
        DataError: a data set without pictures or captions, or no word that occurs often enough.
        OptionError: a size out of range.
    """
    from sklearn.cluster import MiniBatchKMeans

    for name, value, least in (("patch", patch, 2), ("side", side, patch), ("n_codes", n_codes, 2), ("length", length, 1)):
        check_whole(name, value, least)
    found = [pictures_and_captions(data) for data in sources]
    if len({images.shape[1:] for images, _ in found}) != 1:
        raise DataError(
            "the pictures differ in shape", where="make_tokenizer", found=", ".join(str(i.shape[1:]) for i, _ in found)
        )
    height, width = found[0][0].shape[1:3]
    scale = min(1.0, side / max(height, width))
    grid = (max(1, round(height * scale / patch)), max(1, round(width * scale / patch)))

    texts = [split_words(text) for _, captions in found for text in captions]
    counts = Counter(word for text in texts for word in text)
    kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))[:max_words]
    if not kept:
        raise DataError("no word occurs often enough", where="make_tokenizer", expected=f"words that occur {min_count} times")

    pool = np.concatenate([fit_pictures(images[images.any(axis=(1, 2, 3))], patch, grid) for images, _ in found])
    if not len(pool):
        raise DataError("every picture is missing", where="make_tokenizer", expected="pictures")
    patches = cut(pool, patch).reshape(-1, 3 * patch * patch)
    rng = np.random.Generator(np.random.PCG64(seed))
    sample = patches[rng.permutation(len(patches))[:20_000]].astype(np.float32)
    clusters = min(n_codes, len(np.unique(sample, axis=0)))
    k_means = MiniBatchKMeans(clusters, random_state=seed, n_init=1, batch_size=2048, max_iter=30).fit(sample)
    return Tokenizer(
        vocabulary=frozen(np.array([*SPECIAL, *kept])),
        codebook=frozen(k_means.cluster_centers_.astype(np.float32)),
        patch=patch,
        grid=grid,
        length=min(length, max(len(text) for text in texts)),
        counts=frozen(np.array([0] * len(SPECIAL) + [counts[word] for word in kept], dtype=np.int64)),
    )


def pictures_and_captions(data: Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return both.

    Raises:
        DataError: one of them is not there.
    """
    if data.images is None or data.captions is None:
        raise DataError(
            "a masked encoder needs pictures and captions",
            where=f"data set {data.name!r}",
            found="no pictures" if data.images is None else "no captions",
            expected="images, and a caption column in items",
            fix="Use the bazaar, or a raw folder with pictures and a description column",
        )
    return data.images, data.captions


def fit_pictures(images: np.ndarray, patch: int, grid: tuple[int, int]) -> np.ndarray:
    """Return (n, rows s, columns s, 3) uint8: pictures scaled to whole patches, each pixel the mean of what it covers."""
    height, width = grid[0] * patch, grid[1] * patch
    if images.shape[1:3] == (height, width):
        return images
    from PIL import Image

    scaled = [np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX)) for image in images]
    return np.stack(scaled) if scaled else np.zeros((0, height, width, 3), dtype=np.uint8)


def cut(images: np.ndarray, patch: int) -> np.ndarray:
    """Cut (n, H, W, 3) pictures into (n, P, 3 s s) patches, row by row; H and W are multiples of s."""
    n, height, width, _ = images.shape
    tiles = images.reshape(n, height // patch, patch, width // patch, patch, 3).swapaxes(2, 3)
    return np.ascontiguousarray(tiles).reshape(n, -1, 3 * patch * patch)
