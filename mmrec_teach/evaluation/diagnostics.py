"""Numbers that say what an embedding space looks like, computed in the full space and not in a picture of it.

Every function takes tables of shape (n, d), as torch tensors or numpy arrays, and returns a float. Tables of a pair describe
the same n things row by row. Where directions matter (everything on the unit sphere), a row of zeros has none and is left out:
that is how missing pictures and texts are stored. The answer is NaN where too few rows remain to define it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.evaluation.ranking import top_k

Table = Tensor | np.ndarray
_BLOCK = 512  # rows compared with all others at a time: 512 x 7,000 numbers stay in the processor's cache
_NAN = float("nan")


# -- input -----------------------------------------------------------------------------------------------------------------
def _table(x: Table, name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return ``x`` as a finite (n, d) tensor without history."""
    x = torch.as_tensor(x).detach()
    if x.ndim != 2 or 0 in x.shape:
        raise OptionError("not a table of vectors", where=name, found=f"shape {tuple(x.shape)}", expected="shape (n, d)")
    x = x.to(dtype)
    finite = x.isfinite().all(1)
    if not finite.all():
        raise InputError(
            "a vector is not finite",
            where=name,
            found=f"NaN or infinity in {int((~finite).sum())} rows, first in row {int((~finite).nonzero()[0])}",
            expected="finite numbers",
        )
    return x


def _pair(x: Table, y: Table, same_width: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x, y = _table(x, "x", dtype), _table(y, "y", dtype)
    if len(x) != len(y) or (same_width and x.shape[1] != y.shape[1]):
        raise OptionError(
            "the two tables do not belong together",
            where="x and y",
            found=f"shapes {tuple(x.shape)} and {tuple(y.shape)}",
            expected="equal shapes" if same_width else "as many rows in both",
        )
    return x, y.to(x.device)


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows scaled to length 1 (zero rows stay zero), and which rows have a direction."""
    x = x / x.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)  # squares of tiny numbers would vanish
    length = x.norm(dim=1, keepdim=True)
    return x / length.clamp_min(torch.finfo(x.dtype).tiny), length[:, 0] > 0


def _centred(x: Tensor) -> Tensor:
    """Return the rows minus their mean: exactly zero where nothing but the rounding of the mean is left."""
    centred = x - x.mean(0)
    return centred if float(centred.abs().max()) > 1e-12 * float(x.abs().max()) else torch.zeros_like(x)


# -- one space ---------------------------------------------------------------------------------------------------------------
def uniformity(
    x: Table,
    t: float = 2.0,
    max_points: int = 5000,
    generator: torch.Generator | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> float:
    """Uniformity on the unit sphere (Wang & Isola 2020, arXiv:2005.10242): log mean_{i<j} exp(-t |x_i - x_j|^2).

    Lower is more evenly spread. 0 when all directions are the same; about -2t for random directions in many dimensions; never
    below -2t n / (n - 1), which a regular simplex reaches.

    Args:
        x: (n, d) vectors, scaled to length 1 here.
        t: the temperature of the Gaussian potential; the paper uses 2.
        max_points: a larger table is sampled without replacement, so the answer becomes an estimate.
        generator: a CPU generator for that sample; seeded with 0 by default.
        dtype: to count in; float32 is quicker and good to five digits.

    Raises:
        OptionError, InputError: not an (n, d) table of finite numbers, t or max_points out of range.
    """
    if t <= 0 or max_points < 2:
        raise OptionError(
            "out of range", where="uniformity", found=f"t={t}, max_points={max_points}", expected="t > 0, at least 2 points"
        )
    x, directed = _unit(_table(x, "x", dtype))
    x = x[directed]
    if len(x) > max_points:
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        x = x[torch.randperm(len(x), generator=generator)[:max_points].to(x.device)]
    n = len(x)
    if n < 2:
        return _NAN
    total = 0.0
    for start in range(0, n, _BLOCK):
        block = x[start : start + _BLOCK]
        # |a - b|^2 = 2 - 2ab on the sphere; only pairs i < j of the upper triangle
        cosines = block @ x[start:].T
        potential = torch.exp(2 * t * (cosines.clamp_max_(1.0) - 1))
        total += float(potential.triu(1).sum())
    return math.log(total / (n * (n - 1) / 2))


def effective_rank(x: Table, center: bool = False) -> float:
    """Effective rank (Roy & Vetterli 2007): exp of the entropy of the singular values, scaled to sum to 1.

    Between 1 (all vectors on one line) and min(n, d) (all directions carry the same). Equal to r for r equal singular values
    and the rest zero. NaN for a table of zeros, and for equal rows when centred.

    Args:
        x: (n, d) vectors.
        center: subtract the mean vector first: how many directions the *differences* between items use.

    Raises:
        OptionError, InputError: not an (n, d) table of finite numbers.
    """
    x = _table(x, "x")
    if center:
        x = _centred(x)
    largest = float(x.abs().max())
    if largest == 0:
        return _NAN
    x = x / largest
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    eigenvalues = torch.linalg.eigvalsh(gram)
    # below the rounding error of the product an eigenvalue is noise, and its square root would not be small
    noise = eigenvalues[-1] * max(x.shape) * torch.finfo(x.dtype).eps
    singular = eigenvalues[eigenvalues > noise].sqrt()
    p = singular / singular.sum()
    return float(torch.exp(-(p * p.log()).sum()))


def mean_cosine(x: Table) -> float:
    """Mean cosine of all pairs i < j of rows. 1: all point one way (collapse); about 0: spread around the origin.

    Never below -1 / (n - 1). In closed form (|sum of unit rows|^2 - n) / (n (n - 1)), without forming the pairs.

    Raises:
        OptionError, InputError: not an (n, d) table of finite numbers.
    """
    x, directed = _unit(_table(x, "x"))
    n = int(directed.sum())
    if n < 2:
        return _NAN
    return float((x.sum(0).square().sum() - n) / (n * (n - 1)))


# -- two spaces ----------------------------------------------------------------------------------------------------------------
def alignment(x: Table, y: Table, alpha: float = 2.0) -> float:
    """Alignment on the unit sphere (Wang & Isola 2020, arXiv:2005.10242): mean_i |x_i - y_i|^alpha.

    0 when every pair has one direction, 2^(alpha/2) for right angles, 2^alpha for opposite directions. Lower is better aligned.
    Both tables must live in the same space (equal d).

    Raises:
        OptionError, InputError: tables of different shapes or not finite, alpha <= 0.
    """
    if alpha <= 0:
        raise OptionError("out of range", where="alignment alpha", found=alpha, expected="a positive number, such as 2")
    x, y = _pair(x, y, same_width=True)
    (x, in_x), (y, in_y) = _unit(x), _unit(y)
    both = in_x & in_y
    return float((x[both] - y[both]).norm(dim=1).pow(alpha).mean())


def modality_gap(x: Table, y: Table) -> float:
    """Modality gap (Liang et al. 2022, arXiv:2203.02053): distance of the two centroids of unit vectors, |mean x - mean y|.

    0 to 2. Two encoders' outputs often live in two separate cones, even for the same items: the gap is how far apart these are.
    It says nothing of whether pairs match: compare :func:`alignment`. The tables share d; rows need not be paired.

    Raises:
        OptionError, InputError: tables of different width or not finite.
    """
    x, y = _table(x, "x"), _table(y, "y")
    if x.shape[1] != y.shape[1]:
        raise OptionError(
            "the two spaces differ in width", where="x and y", found=f"{x.shape[1]} and {y.shape[1]}", expected="equal d"
        )
    (x, in_x), (y, in_y) = _unit(x), _unit(y.to(x.device))
    return float((x[in_x].mean(0) - y[in_y].mean(0)).norm())


def linear_cka(x: Table, y: Table) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414), with column-centred X and Y:

        |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F)

    0 to 1. 1 if one space is a rotation, reflection, shift or uniform scaling of the other; the widths may differ. With few
    rows beside many columns it is high for unrelated spaces too: about sqrt(d_x d_y) / n for d << n, near 1 for d >> n.
    NaN if a table's rows are all the same.

    Raises:
        OptionError, InputError: tables of different length or not finite.
    """
    x, y = _pair(x, y, same_width=False)
    x, y = _centred(x), _centred(y)
    if not x.any() or not y.any():
        return _NAN
    x, y = x / x.abs().max(), y / y.abs().max()
    if max(x.shape[1], y.shape[1]) <= len(x):
        cross, own_x, own_y = (y.T @ x).square().sum(), (x.T @ x).norm(), (y.T @ y).norm()
    else:  # few rows, wide tables: the same numbers from the n x n kernels
        kernel_x, kernel_y = x @ x.T, y @ y.T
        cross, own_x, own_y = (kernel_x * kernel_y).sum(), kernel_x.norm(), kernel_y.norm()
    return float(cross / (own_x * own_y))


def knn_overlap(x: Table, y: Table, k: int = 10, metrics: tuple[str, str] = ("cosine", "cosine")) -> float:
    """Neighbour overlap of two spaces: mean_i |N_k(x_i) and N_k(y_i) in common| / k.

    0 to 1; unrelated spaces share k / (n - 1) by chance. The widths may differ. A point is not its own neighbour; of equally
    near points the one of lower index counts. Computed in blocks: n x n distances are never held.

    Args:
        x, y: (n, d_x), (n, d_y).
        k: how many neighbours, fewer than the rows.
        metrics: "cosine" or "euclidean" for x and for y. A two-dimensional picture needs "euclidean".

    Raises:
        OptionError, InputError: tables of different length or not finite, k out of range, an unknown metric.
    """
    if unknown := [name for name in metrics if name not in ("cosine", "euclidean")] or (len(metrics) != 2 and [metrics]):
        raise OptionError(
            "unknown metric", where="knn_overlap", found=repr(unknown[0]), expected="cosine or euclidean, for x and y"
        )
    x, y = _pair(x, y, same_width=False, dtype=torch.float32)
    usable = torch.ones(len(x), dtype=torch.bool, device=x.device)
    spaces = []
    for table, metric in zip((x, y), metrics, strict=True):
        if metric == "cosine":
            table, directed = _unit(table)
            usable &= directed
        else:
            table = table - table.mean(0)  # smaller numbers, smaller rounding errors
        spaces.append(table)
    n = int(usable.sum())
    if not 1 <= k < n:
        raise OptionError(
            "no such number of neighbours", where="knn_overlap k", found=k, expected=f"1..{n - 1} for {n} usable rows"
        )
    spaces = [table[usable] for table in spaces]
    # nearest in cosine = largest product; nearest in Euclid = largest 2ab - |b|^2 (|a|^2 is the same for the whole row)
    offsets = [None if metric == "cosine" else table.square().sum(1) for table, metric in zip(spaces, metrics, strict=True)]
    common = 0
    for start in range(0, n, _BLOCK):
        neighbours = []
        for table, offset in zip(spaces, offsets, strict=True):
            block = table[start : start + _BLOCK]
            near = block @ table.T
            if offset is not None:
                near.mul_(2).sub_(offset)
            rows = torch.arange(len(block), device=near.device)
            near[rows, rows + start] = -torch.inf
            neighbours.append(top_k(near, k))
        common += int((neighbours[0][:, :, None] == neighbours[1][:, None, :]).sum())
    return common / (n * k)


# -- all at once ---------------------------------------------------------------------------------------------------------
def report(
    views: Mapping[str, Table],
    pairs: Iterable[tuple[str, str]] | None = None,
    k: int = 10,
    max_points: int = 5000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Return all diagnostics of a model's ``views()``.

    Args:
        views: table by name, as a model's ``views()`` returns them.
        pairs: which to compare; by default every two tables of one kind ("item/id" and "item/content", never users with items).
        k: neighbours for the overlap.
        max_points, seed: larger tables are sampled, with the same rows for all tables of one length.

    Returns:
        ``{"item/id": {"uniformity": …, "effective_rank": …, "mean_cosine": …}, …,
        "item/id ~ item/content": {"alignment": …, "modality_gap": …, "linear_cka": …, "knn_overlap": …}}``. Alignment and gap
        are left out for tables of different width, which have no common space.

    Raises:
        OptionError, InputError: a pair of unknown names or of different lengths, tables that are not finite.
    """
    if pairs is None:
        pairs = [(a, b) for a, b in combinations(views, 2) if a.split("/")[0] == b.split("/")[0]]
    pairs = list(pairs)
    for name in (name for pair in pairs for name in pair):
        if name not in views:
            raise OptionError("no view of that name", where="pairs", found=repr(name), expected=", ".join(views))
    tables = {}
    for name, view in views.items():
        table = torch.as_tensor(view).detach()
        if table.ndim == 2 and len(table) > max_points:
            generator = torch.Generator().manual_seed(seed)
            table = table[torch.randperm(len(table), generator=generator)[:max_points].to(table.device)]
        tables[name] = table
    result = {
        name: {"uniformity": uniformity(table), "effective_rank": effective_rank(table), "mean_cosine": mean_cosine(table)}
        for name, table in tables.items()
    }
    for a, b in pairs:
        x, y = tables[a], tables[b]
        told = {}
        if x.shape[1] == y.shape[1]:
            told = {"alignment": alignment(x, y), "modality_gap": modality_gap(x, y)}
        result[f"{a} ~ {b}"] = told | {"linear_cka": linear_cka(x, y), "knn_overlap": knn_overlap(x, y, k)}
    return result
