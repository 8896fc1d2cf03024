"""Graphs as sparse matrices: the normalised user-item adjacency, its fast product, and item-item kNN graphs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.errors import OptionError
from mmrec_teach.ops.topk import top_k


def csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a sparse CSR tensor from coordinates (each position at most once), columns sorted within a row.

    Indices are int32 where they fit: the CPU product is handed to MKL, which wants them so and would otherwise copy them
    at every call.
    """
    order = torch.argsort(rows * shape[1] + columns)
    rows, columns, values = rows[order], columns[order], values[order]
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=shape[0]), 0, out=starts[1:])
    small = max(*shape, len(values)) < 2**31
    index = torch.int32 if small else torch.int64
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts.to(index), columns.to(index), values, size=shape, check_invariants=False)


def normalized_adjacency(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""Return :math:`\hat A = D^{-1/2} A D^{-1/2}` of the bipartite user-item graph, without self-loops.

    Args:
        users, items: (n,) the edges, each once.
        n_users, n_items: sizes. Nodes are users first, items after them.

    Returns:
        Sparse CSR, square, side ``n_users + n_items``, symmetric. The entry of edge (u, i) is 1 / (√|N_u| √|N_i|); a node without
        edges has an empty row.
    """
    u = torch.from_numpy(np.ascontiguousarray(users, dtype=np.int64).copy())
    i = torch.from_numpy(np.ascontiguousarray(items, dtype=np.int64).copy())
    user_degree = torch.bincount(u, minlength=n_users).to(torch.float64)
    item_degree = torch.bincount(i, minlength=n_items).to(torch.float64)
    values = (user_degree[u] * item_degree[i]).rsqrt().to(dtype)
    rows, columns = torch.cat([u, i + n_users]), torch.cat([i + n_users, u])
    n = n_users + n_items
    return csr(rows, columns, torch.cat([values, values]), (n, n))


def row_normalized_adjacency(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""Return :math:`\tilde D^{-1}(A + I)`: every node's row is the mean over its neighbours and itself.

    Arguments and node order as in :func:`normalized_adjacency`. The matrix is not symmetric: :func:`propagate` wants its
    :func:`transposed` too.
    """
    u = torch.from_numpy(np.ascontiguousarray(users, dtype=np.int64).copy())
    i = torch.from_numpy(np.ascontiguousarray(items, dtype=np.int64).copy())
    n = n_users + n_items
    everyone = torch.arange(n)
    rows, columns = torch.cat([u, i + n_users, everyone]), torch.cat([i + n_users, u, everyone])
    degree = torch.bincount(rows, minlength=n).to(torch.float64)
    return csr(rows, columns, degree[rows].reciprocal().to(dtype), (n, n))


def _coordinates(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return a CSR matrix's int64 row and column of every stored value."""
    starts = matrix.crow_indices().to(torch.int64)
    rows = torch.repeat_interleave(torch.arange(matrix.shape[0], device=matrix.device), starts.diff())
    return rows, matrix.col_indices().to(torch.int64)


def undirected_edges(adjacency: Tensor) -> Tensor:
    """Return, for every stored value of a symmetric CSR matrix without self-loops, the number of its edge, 0..E-1.

    Both directions of an edge have one number, so ``values * keep[numbers]`` drops edges and leaves the matrix symmetric.
    """
    rows, columns = _coordinates(adjacency)
    key = torch.minimum(rows, columns) * adjacency.shape[0] + torch.maximum(rows, columns)
    return torch.unique(key, return_inverse=True)[1]


def transposed(matrix: Tensor) -> Tensor:
    """Return a CSR matrix's transpose, as CSR."""
    rows, columns = _coordinates(matrix)
    return csr(columns, rows, matrix.values(), (matrix.shape[1], matrix.shape[0]))


def user_item_block(adjacency: Tensor, n_users: int) -> Tensor:
    """Return the rows of users and the columns of items of a CSR matrix over all nodes (users first), as CSR (U, I)."""
    rows, columns = _coordinates(adjacency)
    kept = (rows < n_users) & (columns >= n_users)
    shape = n_users, adjacency.shape[0] - n_users
    return csr(rows[kept], columns[kept] - n_users, adjacency.values()[kept], shape)


def reweighted(matrix: Tensor, values: Tensor) -> Tensor:
    """Return a CSR matrix with the same positions (shared, not copied) and other ``values`` (n stored,)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            matrix.crow_indices(), matrix.col_indices(), values, size=matrix.shape, check_invariants=False
        )


def mixed(graphs: Sequence[Tensor], shares: Tensor) -> Tensor:
    r"""Return :math:`\sum_m \mathrm{diag}(w_m)\, S_m`: row i of graph m enters with weight ``shares[i, m]``.

    Args:
        graphs: M sparse CSR matrices of one shape (n, n').
        shares: (n, M) constant weights; no gradient flows to them.

    Returns:
        Sparse CSR (n, n').
    """
    n, n_columns = graphs[0].shape
    keys, values = [], []
    for m, matrix in enumerate(graphs):
        rows, columns = _coordinates(matrix)
        keys.append(rows * n_columns + columns)
        values.append(matrix.values() * shares[rows, m].to(matrix.values()))
    positions, place = torch.unique(torch.cat(keys), return_inverse=True)
    summed = torch.zeros(len(positions), dtype=values[0].dtype, device=shares.device).index_add_(0, place, torch.cat(values))
    return csr(positions // n_columns, positions % n_columns, summed, (n, n_columns))


class _Product(torch.autograd.Function):
    """S h for a constant S: the gradient is S^T g, one more product, S^T being at hand (S itself where it is symmetric)."""

    @staticmethod
    def forward(ctx, matrix: Tensor, transpose: Tensor, h: Tensor) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        # `matrix @ h` would fill a table with zeros, copy it and then write the product: this writes the product only
        product = h.new_empty(matrix.shape[0], h.shape[1])
        return torch.addmm(product, matrix, h, beta=0, out=product)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _Product.apply(ctx.transpose, ctx.matrix, g.contiguous())


def propagate(adjacency: Tensor, h: Tensor, transpose: Tensor | None = None) -> Tensor:
    """Return ``adjacency @ h``, differentiable in ``h``.

    Args:
        adjacency: (n, n) sparse CSR, constant: no gradient flows to it. **Symmetric** (not checked), or with ``transpose``.
        h: (n, d) dense.
        transpose: :func:`transposed` ``(adjacency)``, for matrices that are not symmetric.

    Returns:
        (n, d). Forward and backward cost one sparse product each; autograd's own backward would transpose the matrix first.
    """
    return _Product.apply(adjacency, adjacency if transpose is None else transpose, h)


def nearest(
    features: Tensor | np.ndarray,
    k: int,
    *,
    include_self: bool = True,
    missing: np.ndarray | Tensor | None = None,
    block: int = 1024,
    where: str = "nearest(k=)",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return every item's ``k`` most similar items by cosine, most similar first, ties to the lower index.

    Memory beyond ``features`` is O(I·block): neither the I x I matrix nor a scaled copy of the features is made.

    Args:
        features, k, include_self, missing, block: as in :func:`knn_graph`.
        where: what an error message calls ``k``.

    Returns:
        The ids (n,) of the items that are there, their neighbours (n, k), and the cosines (n, k), 1 for the item itself.
        No gradient.

    Raises:
        OptionError: ``k`` out of range.
    """
    if isinstance(features, np.ndarray):
        with warnings.catch_warnings():  # read only: a copy of a large array would double its memory
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            features = torch.from_numpy(np.ascontiguousarray(features))
    x = features.detach()
    n = len(x)
    if missing is None:
        present = torch.ones(n, dtype=torch.bool, device=x.device)
    else:
        present = ~(missing if isinstance(missing, Tensor) else torch.from_numpy(np.array(missing, dtype=bool))).to(x.device)
    most = int(present.sum()) - (0 if include_self else 1)
    if most < 1:
        raise OptionError(
            "too few items with features to find neighbours among",
            where=where,
            found=f"{int(present.sum())} of {n}",
            expected="more",
            fix="Hide the features of fewer items",
        )
    if not 1 <= k <= most:
        raise OptionError(
            "number of neighbours out of range",
            where=where,
            found=k,
            expected=f"1 to {most} for {int(present.sum())} items",
        )
    inverse = x.norm(dim=1).clamp_min(1e-12).reciprocal()
    kept = present.nonzero()[:, 0]
    found, cosines = [], []
    for ids in kept.split(max(1, min(block, 2**24 // n))):
        similarity = x[ids] @ x.T
        similarity.mul_(inverse).mul_(inverse[ids, None])
        similarity[:, ~present] = -torch.inf
        own = torch.arange(len(ids), device=x.device)
        # an item is exactly as similar to itself as can be, whatever rounding says
        similarity[own, ids] = torch.inf if include_self else -torch.inf
        neighbours = top_k(similarity, k)
        chosen = similarity.gather(1, neighbours)
        chosen[torch.isinf(chosen)] = 1.0
        found.append(neighbours)
        cosines.append(chosen)
    return kept, torch.cat(found), torch.cat(cosines)


def knn_rows(
    new: Tensor, features: Tensor, k: int, scale: Tensor, weights: str = "cosine", new_scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Return the rows that :func:`knn_graph` would have for more items, while those that are there keep theirs.

    Args:
        new: (n, d) features of the new items, each of which is its own first neighbour; a zero row gets an empty row.
        features: (I, d) of the items that are there.
        k: neighbours, the item itself counted.
        scale: (I,) :math:`D_r^{-1/2}` of the items that are there; one with 0 is nobody's neighbour.
        weights: as in :func:`knn_graph`.
        new_scale: (n,) :math:`D_r^{-1/2}` of the new ones; None: of the very rows returned.

    Returns:
        (n, I) sparse CSR, symmetrically normalised, and (n,) the values of the items' edges to themselves.
    """
    cosine = torch.nn.functional.normalize(new, dim=1) @ torch.nn.functional.normalize(features, dim=1).T
    cosine = cosine.masked_fill(scale == 0, -torch.inf)
    near = top_k(cosine, k - 1) if k > 1 else torch.zeros(len(new), 0, dtype=torch.int64, device=new.device)
    there = near >= 0
    near = near.clamp_min(0)
    value = cosine.gather(1, near).clamp_min(0) if weights == "cosine" else torch.ones_like(near, dtype=new.dtype)
    has = new.any(1).to(new.dtype)
    value = value.masked_fill(~there, 0) * has[:, None]
    if new_scale is None:
        new_scale = (value.sum(1) + 1).rsqrt() * has
    row = torch.arange(len(new), device=new.device).repeat_interleave(near.shape[1])
    value = new_scale[:, None] * value * scale[near]
    return csr(row, near.reshape(-1), value.reshape(-1), (len(new), len(features))), new_scale.square() * has


def diagonal(matrix: Tensor) -> Tensor:
    """Return the diagonal (n,) of a square sparse CSR matrix."""
    row, column = _coordinates(matrix)
    own = row == column
    return torch.zeros(len(matrix), dtype=matrix.dtype, device=matrix.device).index_add_(0, row[own], matrix.values()[own])


def knn_graph(
    features: Tensor | np.ndarray,
    k: int = 10,
    *,
    weights: str = "cosine",
    normalization: str = "symmetric",
    include_self: bool = True,
    missing: np.ndarray | None = None,
    block: int = 1024,
) -> Tensor:
    r"""Return the graph that links every item to its ``k`` most similar ones, by cosine.

    Similar means a high cosine; equal cosines go to the lower index, so the graph does not depend on the machine's sort.
    Memory is O(I·block): the I x I matrix never exists.

    Args:
        features: (I, d). A zero row has cosine 0 to everything (and 1 to itself by convention).
        k: neighbours per item, the item itself counted if ``include_self``.
        weights: ``"cosine"`` keeps the similarity as edge weight, negative ones set to 0; ``"binary"`` writes 1.
        normalization: ``"symmetric"`` D_r^{-1/2} S D_r^{-1/2} with D_r the row sums (the graph itself stays directed:
            kNN is not mutual), ``"row"`` D_r^{-1} S, ``"none"`` S.
        include_self: whether an item may be its own neighbour.
        missing: (I,) bool; such items get an empty row and are nobody's neighbour.
        block: rows compared at once, fewer where I is large (64 MB of float32 similarities at most).

    Returns:
        (I, I) sparse CSR on the features' device.

    Raises:
        OptionError: an unknown option, or ``k`` outside 1..(I - 1, or I with the item itself).
    """
    if weights not in ("cosine", "binary"):
        raise OptionError("unknown edge weights", where="knn_graph(weights=)", found=repr(weights), expected="cosine or binary")
    if normalization not in ("symmetric", "row", "none"):
        raise OptionError(
            "unknown normalisation",
            where="knn_graph(normalization=)",
            found=repr(normalization),
            expected="symmetric, row or none",
        )
    ids, neighbours, cosine = nearest(
        features, k, include_self=include_self, missing=missing, block=block, where="knn_graph(k=)"
    )
    n = len(features)
    row, column = ids.repeat_interleave(k), neighbours.reshape(-1)
    value = cosine.reshape(-1).clamp_min(0.0) if weights == "cosine" else torch.ones_like(cosine.reshape(-1))
    degree = torch.zeros(n, dtype=value.dtype, device=value.device).index_add_(0, row, value)
    if normalization == "symmetric":
        scale = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
        value = scale[row] * value * scale[column]
    elif normalization == "row":
        value = value / degree[row].clamp_min(torch.finfo(value.dtype).tiny)
    return csr(row, column, value, (n, n))
