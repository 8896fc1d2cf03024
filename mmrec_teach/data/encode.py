"""Classical features for pictures and texts: no network, no download, the same numbers every time.

Pictures -> :func:`describe_pictures` (colour, edges, texture, layout; each value has a plain meaning) -> PCA.
Texts -> TF-IDF -> truncated SVD (also known as latent semantic analysis).

Both end in :func:`fix_signs`: a singular vector's sign is arbitrary, so the entry of largest magnitude is made positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mmrec_teach.errors import DataError

COLOUR_BINS = 12
LEVELS = 4
ORIENTATIONS = 8
CELLS = 6
LAYOUT = 6
PATCHES = 192
PATCH_SIZE = 5
MATCH_THRESHOLD = 0.35
BLOCKS = {"colour": 1.0, "edges": 1.0, "texture": 1.6, "layout": 0.7}
"""Block of descriptors -> its weight: the square root of its share in the total variance."""


def describe_pictures(images: np.ndarray, *, blocks: Sequence[str] = tuple(BLOCKS), seed: int = 0) -> np.ndarray:
    """Return one row of hand-made descriptors a picture.

    Blocks, each standardised per column and then scaled to a fixed share of the total variance, so that none drowns the others:

    * ``colour``: share of pixels per hue (soft bins, weighted by saturation), and per saturation x brightness level;
    * ``edges``: histograms of gradient orientation on a grid of cells: the silhouette;
    * ``texture``: how often each of a dictionary of small grey patches, cut from random places of these pictures, occurs
      in the middle of the picture, whatever its contrast: the pattern;
    * ``layout``: mean colour of each cell of a coarse grid: mostly the backdrop, mostly noise to a taste.

    Args:
        images: (n, H, W, 3) uint8.
        blocks: which blocks to compute.
        seed: of the random patches.

    Returns:
        (n, p) float64.

    Raises:
        DataError: not (n, H, W, 3) uint8, or a picture smaller than the grids, or an unknown block.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or min(images.shape[1:3]) < 16:
        raise DataError(
            "cannot describe these pictures",
            where="describe_pictures",
            found=f"shape {images.shape}, dtype {images.dtype}",
            expected="shape (n, H, W, 3) with H and W at least 16, dtype uint8",
        )
    if unknown := [b for b in blocks if b not in BLOCKS]:
        raise DataError("unknown block", where="describe_pictures", found=unknown[0], expected=", ".join(BLOCKS))
    patches = _dictionary(_grey(images), seed) if "texture" in blocks and len(images) else None
    makers = {"colour": _colour, "edges": _edges, "texture": lambda x: _texture(_grey(x), patches), "layout": _layout}
    columns = []
    for block in blocks:
        # Chunks keep the memory flat; 64 pictures of 48 x 48 need about 40 MB at the worst place.
        parts = [makers[block](images[k : k + 64] / 255.0) for k in range(0, len(images), 64)]
        table = np.concatenate(parts) if parts else np.zeros((0, 1))
        spread = table.std(axis=0)
        table = (table - table.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
        columns.append(BLOCKS[block] * table / np.sqrt(max(1, (spread > 1e-9).sum())))
    return np.concatenate(columns, axis=1)


def _grey(images: np.ndarray) -> np.ndarray:
    """Brightness in 0..1 of uint8 pictures, or of pictures that are in 0..1 already."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    return (0.299 * images[..., 0] + 0.587 * images[..., 1] + 0.114 * images[..., 2]) / scale


def _hsv(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    high, low = x.max(axis=-1), x.min(axis=-1)
    span = high - low
    safe = np.where(span > 0, span, 1.0)
    r, g, b = x[..., 0], x[..., 1], x[..., 2]
    hue = np.where(high == r, ((g - b) / safe) % 6.0, np.where(high == g, (b - r) / safe + 2.0, (r - g) / safe + 4.0)) / 6.0
    return np.where(span > 0, hue, 0.0), np.where(high > 0, span / np.where(high > 0, high, 1.0), 0.0), high


def _soft_bins(values: np.ndarray, n: int, circular: bool) -> np.ndarray:
    """Spread each value over its two nearest of ``n`` bins: (..., n), rows sum to 1. No hard border, no jump."""
    position = values * (n if circular else n - 1)
    low = np.floor(position).astype(np.int64)
    share = position - low
    eye = np.eye(n)
    high = (low + 1) % n if circular else np.minimum(low + 1, n - 1)
    return eye[low % n if circular else np.minimum(low, n - 1)] * (1 - share[..., None]) + eye[high] * share[..., None]


def _colour(x: np.ndarray) -> np.ndarray:
    hue, saturation, value = _hsv(x)
    n = len(x)
    # The middle of the picture is where the product is: its pixels count double.
    axis = 1.0 - np.abs(np.linspace(-1, 1, x.shape[1]))
    other = 1.0 - np.abs(np.linspace(-1, 1, x.shape[2]))
    weight = (0.5 + np.minimum(axis[:, None], other[None, :]))[None]
    hues = (_soft_bins(hue, COLOUR_BINS, True) * (saturation * value * weight)[..., None]).mean(axis=(1, 2))
    s, v = _soft_bins(saturation, LEVELS, False), _soft_bins(value, LEVELS, False)
    pairs = (s[..., :, None] * v[..., None, :] * weight[..., None, None]).mean(axis=(1, 2)).reshape(n, -1)
    return np.concatenate([np.sqrt(hues), np.sqrt(pairs)], axis=1)


def _cells(x: np.ndarray, k: int) -> np.ndarray:
    """Mean of ``x`` (n, H, W, c) over a k x k grid: (n, k * k * c)."""
    rows = np.stack([part.mean(axis=1) for part in np.array_split(x, k, axis=1)], axis=1)
    cells = np.stack([part.mean(axis=2) for part in np.array_split(rows, k, axis=2)], axis=2)
    return cells.reshape(len(x), -1)


def _edges(x: np.ndarray) -> np.ndarray:
    grey = _grey(x)
    dy, dx = np.gradient(grey, axis=(1, 2))
    size = np.sqrt(dx * dx + dy * dy)
    angle = (np.arctan2(dy, dx) / np.pi) % 1.0  # an edge has no direction, only an orientation
    return np.sqrt(_cells(_soft_bins(angle, ORIENTATIONS, True) * size[..., None], CELLS))


def _texture(grey: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """How often each patch of the dictionary occurs in the middle of (n, H, W) pictures: root of the mean rectified match."""
    match = np.maximum(_windows(_middle(grey)) @ patches.T - MATCH_THRESHOLD, 0.0)
    return np.sqrt(match.mean(axis=(1, 2)))


def _dictionary(grey: np.ndarray, seed: int) -> np.ndarray:
    """Cut (PATCHES, PATCH_SIZE ** 2) normalised patches from random places of the pictures."""
    rng = np.random.Generator(np.random.PCG64(seed))
    middle = _middle(grey)
    sizes = (len(middle), middle.shape[1] - PATCH_SIZE + 1, middle.shape[2] - PATCH_SIZE + 1)
    places = (rng.random((PATCHES, 3)) * sizes).astype(np.int64)
    return np.stack([_windows(middle[n : n + 1, y : y + PATCH_SIZE, x : x + PATCH_SIZE])[0, 0, 0] for n, y, x in places])


def _middle(grey: np.ndarray) -> np.ndarray:
    """Cut the frame off, where only the backdrop is."""
    height, width = grey.shape[1:]
    return grey[:, height // 5 : height - height // 7, width // 5 : width - width // 7]


def _windows(grey: np.ndarray) -> np.ndarray:
    """All windows of (n, H, W) pictures as (n, H', W', PATCH_SIZE ** 2), each with mean 0 and, unless nearly flat, length 1."""
    windows = sliding_window_view(grey, (PATCH_SIZE, PATCH_SIZE), axis=(1, 2))
    windows = windows.reshape(*windows.shape[:3], -1)
    windows = windows - windows.mean(axis=-1, keepdims=True)
    return windows / np.sqrt((windows**2).sum(axis=-1, keepdims=True) + 0.002 * PATCH_SIZE**2)


def _layout(x: np.ndarray) -> np.ndarray:
    return _cells(x, LAYOUT)


def fix_signs(components: np.ndarray) -> np.ndarray:
    """Return +1 or -1 per row of ``components`` (k, p), such that the entry of largest magnitude becomes positive."""
    at = np.abs(components).argmax(axis=1)
    return np.where(components[np.arange(len(components)), at] < 0, -1.0, 1.0)


def picture_features(images: np.ndarray, missing: np.ndarray | None = None, dim: int = 64, seed: int = 0) -> np.ndarray:
    """Describe pictures and keep the ``dim`` directions in which they differ most (PCA).

    The table is divided by one number, so that its root-mean-square entry is 1. Rows are *not* normalised and directions keep
    their unequal spread: like the raw output of a vision encoder, it is far longer (8 for 64 dimensions) than a text vector.

    Args:
        images: (n, H, W, 3) uint8.
        missing: (n,) bool; these rows are left out of the fit and are zero.
        dim: dimension wanted; smaller if there are fewer pictures or descriptors.
        seed: of the random texture patches.

    Returns:
        (n, dim) float32.

    Raises:
        DataError: see :func:`describe_pictures`; or fewer than two pictures.
    """
    from sklearn.decomposition import PCA

    kept = _kept(missing, len(images), "pictures")
    described = describe_pictures(np.asarray(images)[kept], seed=seed)
    pca = PCA(n_components=min(dim, *described.shape), svd_solver="full")
    table = pca.fit_transform(described) * fix_signs(pca.components_)
    return _filled(table / max(np.sqrt((table**2).mean()), 1e-12), kept)


def text_features(texts: Sequence[str], missing: np.ndarray | None = None, dim: int = 64) -> np.ndarray:
    """Weigh words by TF-IDF and keep the ``dim`` strongest directions (SVD).

    Rows are shorter than 1: TF-IDF rows have length 1, and the SVD keeps a part of it.

    Args:
        texts: n strings; words are runs of two or more letters, case is ignored, words that occur once are dropped.
        missing: (n,) bool; these rows are left out of the fit and are zero. Empty texts count as missing.
        dim: dimension wanted; smaller if there are fewer texts or words.

    Returns:
        (n, dim) float32.

    Raises:
        DataError: fewer than two texts, or no word that occurs in two of them.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    empty = np.array([not t.strip() for t in texts], dtype=bool)
    kept = _kept(empty if missing is None else missing | empty, len(texts), "texts")
    try:
        weights = TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"(?u)\b[^\W\d_]{2,}\b").fit_transform(
            [texts[k] for k in np.flatnonzero(kept)]
        )
    except ValueError:
        raise DataError("no word occurs in two texts", where="text_features", expected="texts that share words") from None
    k = min(dim, min(weights.shape) - 1)
    if k < 1:
        raise DataError("too few texts or words", where="text_features", found=f"{weights.shape[0]} x {weights.shape[1]}")
    svd = TruncatedSVD(n_components=k, algorithm="arpack", random_state=0)
    table = svd.fit_transform(weights) * fix_signs(svd.components_)
    return _filled(table, kept)


def _kept(missing: np.ndarray | None, n: int, what: str) -> np.ndarray:
    kept = np.ones(n, dtype=bool) if missing is None else ~np.asarray(missing, dtype=bool)
    if kept.shape != (n,) or kept.sum() < 2:
        raise DataError(f"too few {what} to fit on", where="features", found=int(kept.sum()), expected="at least two")
    return kept


def _filled(table: np.ndarray, kept: np.ndarray) -> np.ndarray:
    filled = np.zeros((len(kept), table.shape[1]), dtype=np.float32)
    filled[kept] = table
    return filled
