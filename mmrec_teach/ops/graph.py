"""Graphs as sparse matrices: the normalised user-item adjacency, its fast product, and item-item kNN graphs."""

from __future__ import annotations

import warnings

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


class _SymmetricProduct(torch.autograd.Function):
    """Â h for a constant, symmetric Â: the gradient is Â g, one more product and no transpose."""

    @staticmethod
    def forward(ctx, adjacency: Tensor, h: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        # `adjacency @ h` would fill a table with zeros, copy it and then write the product: this writes the product only
        product = torch.empty_like(h, memory_format=torch.contiguous_format)
        return torch.addmm(product, adjacency, h, beta=0, out=product)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[None, Tensor]:
        return None, _SymmetricProduct.apply(ctx.adjacency, g.contiguous())


def propagate(adjacency: Tensor, h: Tensor) -> Tensor:
    """Return ``adjacency @ h``, differentiable in ``h``.

    Args:
        adjacency: (n, n) sparse CSR, **symmetric** (not checked) and constant: no gradient flows to it.
        h: (n, d) dense.

    Returns:
        (n, d). Forward and backward cost one sparse product each; autograd's own backward would transpose the matrix first.
    """
    return _SymmetricProduct.apply(adjacency, h)


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
        block: rows compared at once.

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
    x = torch.as_tensor(np.array(features) if isinstance(features, np.ndarray) else features)
    n = len(x)
    present = torch.ones(n, dtype=torch.bool) if missing is None else ~torch.from_numpy(np.array(missing, dtype=bool))
    present = present.to(x.device)
    most = int(present.sum()) - (0 if include_self else 1)
    if not 1 <= k <= most:
        raise OptionError(
            "number of neighbours out of range",
            where="knn_graph(k=)",
            found=k,
            expected=f"1 to {most} for {int(present.sum())} items",
        )
    x = torch.nn.functional.normalize(x, dim=1)
    kept = (present).nonzero()[:, 0]
    rows, columns, values = [], [], []
    for start in range(0, len(kept), block):
        ids = kept[start : start + block]
        similarity = x[ids] @ x.T
        similarity[:, ~present] = -torch.inf
        own = torch.arange(len(ids), device=x.device)
        # an item is exactly as similar to itself as can be, whatever rounding says
        similarity[own, ids] = torch.inf if include_self else -torch.inf
        neighbours = top_k(similarity, k)
        chosen = similarity.gather(1, neighbours)
        chosen[torch.isinf(chosen)] = 1.0
        rows.append(ids.repeat_interleave(k))
        columns.append(neighbours.reshape(-1))
        values.append(chosen.reshape(-1).clamp_min(0.0) if weights == "cosine" else torch.ones_like(chosen.reshape(-1)))
    row, column, value = torch.cat(rows), torch.cat(columns), torch.cat(values)
    degree = torch.zeros(n, dtype=value.dtype, device=x.device).index_add_(0, row, value)
    if normalization == "symmetric":
        scale = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
        value = scale[row] * value * scale[column]
    elif normalization == "row":
        value = value / degree[row].clamp_min(torch.finfo(value.dtype).tiny)
    return csr(row, column, value, (n, n))
