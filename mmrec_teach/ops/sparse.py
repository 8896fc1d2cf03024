"""Sparse products whose values learn: for graphs that are directed, or whose edge weights carry gradients.

:mod:`mmrec_teach.ops.graph` has the fast product for a constant, symmetric adjacency. Here the matrix is a fixed *pattern* (which
pairs are edges) and a vector of values, one an edge, that may change with every step. Three operations suffice, and the gradient
of each is made of the other two, so nothing the size of (edges x d) is ever written down:

======================  ==============================================  ============================
operation               value                                           gradient
======================  ==============================================  ============================
``matmul(v, h)``        out_r = Σ_e∈r v_e h_c(e), that is S h           v: ``dot``, h: ``rmatmul``
``rmatmul(v, h)``       out_c = Σ_e∈c v_e h_r(e), that is Sᵀ h          v: ``dot``, h: ``matmul``
``dot(x, y)``           s_e = x_r(e) · y_c(e)                           x: ``matmul``, y: ``rmatmul``
======================  ==============================================  ============================
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from mmrec_teach.errors import check_whole
from mmrec_teach.ops.graph import csr


class EdgePattern(nn.Module):
    """Which pairs (row, column) are edges, ready for products in both directions.

    Edges are ordered by row, then column; ``rows`` and ``columns`` give them in that order, and every vector of edge values that
    goes in or comes out uses it. A module only so that it moves with its model; it has no parameters and saves nothing.

    Args:
        rows, columns: (E,) int64, each pair once.
        shape: (n_rows, n_columns).

    Attributes:
        rows, columns: (E,) int64, sorted.
    """

    def __init__(self, rows: Tensor, columns: Tensor, shape: tuple[int, int]):
        super().__init__()
        self.shape = (int(shape[0]), int(shape[1]))
        order = torch.argsort(rows * self.shape[1] + columns)
        rows, columns = rows[order], columns[order]
        # the place of each edge in column order, found by sending its number through the transposition
        turned = csr(columns, rows, torch.arange(len(rows)), (self.shape[1], self.shape[0]))
        straight = csr(rows, columns, torch.zeros(len(rows)), self.shape)
        for name, value in {
            "rows": rows,
            "columns": columns,
            "starts": straight.crow_indices(),
            "entries": straight.col_indices(),
            "turned_starts": turned.crow_indices(),
            "turned_entries": turned.col_indices(),
            "turning": turned.values(),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        return len(self.rows)

    def matrix(self, values: Tensor, turned: bool = False) -> Tensor:
        """Return the (n_rows, n_columns) sparse CSR matrix with these (E,) values, or its transpose. No gradient passes."""
        if turned:
            parts, size = (self.turned_starts, self.turned_entries, values.index_select(0, self.turning)), self.shape[::-1]
        else:
            parts, size = (self.starts, self.entries, values), self.shape
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(*parts, size=size, check_invariants=False)

    def matmul(self, values: Tensor, h: Tensor) -> Tensor:
        """Return S h, (n_rows, d), for (E,) ``values`` and (n_columns, d) ``h``; differentiable in both."""
        return _Product.apply(self, False, values, h)

    def rmatmul(self, values: Tensor, h: Tensor) -> Tensor:
        """Return Sᵀ h, (n_columns, d), for (E,) ``values`` and (n_rows, d) ``h``; differentiable in both."""
        return _Product.apply(self, True, values, h)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Return (E,) the inner product of every edge's ends, for (n_rows, d) ``x`` and (n_columns, d) ``y``."""
        return _EdgeDot.apply(self, x, y)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pattern: EdgePattern, turned: bool, values: Tensor, h: Tensor) -> Tensor:
        ctx.pattern, ctx.turned = pattern, turned
        ctx.save_for_backward(values, h)
        product = h.new_empty(pattern.shape[1 if turned else 0], h.shape[1])
        return torch.addmm(product, pattern.matrix(values, turned), h.contiguous(), beta=0, out=product)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[None, None, Tensor | None, Tensor | None]:
        values, h = ctx.saved_tensors
        g = g.contiguous()
        to_values = to_h = None
        if ctx.needs_input_grad[2]:
            to_values = _EdgeDot.apply(ctx.pattern, *((h, g) if ctx.turned else (g, h)))
        if ctx.needs_input_grad[3]:
            to_h = _Product.apply(ctx.pattern, not ctx.turned, values, g)
        return None, None, to_values, to_h


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pattern: EdgePattern, x: Tensor, y: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(x, y)
        if x.is_cuda or torch.backends.mkl.is_available():
            blank = pattern.matrix(x.new_zeros(len(pattern)))
            return torch.sparse.sampled_addmm(blank, x.contiguous(), y.contiguous().T, beta=0.0).values()
        return _gathered_dot(pattern, x, y)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        g = g.contiguous()
        to_x = _Product.apply(ctx.pattern, False, g, y) if ctx.needs_input_grad[1] else None
        to_y = _Product.apply(ctx.pattern, True, g, x) if ctx.needs_input_grad[2] else None
        return None, to_x, to_y


def _gathered_dot(pattern: EdgePattern, x: Tensor, y: Tensor, block: int = 1 << 15) -> Tensor:
    """The edges' inner products where the sampled product is not built in: seven times slower, memory O(block · d)."""
    out = x.new_empty(len(pattern))
    for start in range(0, len(pattern), block):
        part = slice(start, start + block)
        out[part] = (x.index_select(0, pattern.rows[part]) * y.index_select(0, pattern.columns[part])).sum(1)
    return out


class _SegmentSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, segments: Tensor, n: int, allowed: Tensor | None) -> Tensor:
        if allowed is not None:
            values = values.masked_fill(~allowed, -torch.inf)
        highest = values.new_full((n,), -torch.inf).scatter_reduce_(0, segments, values, "amax")
        highest.masked_fill_(highest == -torch.inf, 0.0)  # a segment without an allowed value: all its shares are 0
        shares = (values - highest.index_select(0, segments)).exp_()
        total = values.new_zeros(n).index_add_(0, segments, shares)
        total.masked_fill_(total == 0, 1.0)
        shares = shares / total.index_select(0, segments)
        ctx.n = n
        ctx.save_for_backward(shares, segments)
        return shares

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None, None, None]:
        shares, segments = ctx.saved_tensors
        weighted = shares * g
        mean = g.new_zeros(ctx.n).index_add(0, segments, weighted)
        return weighted - shares * mean.index_select(0, segments), None, None, None


def segment_softmax(values: Tensor, segments: Tensor, n: int, allowed: Tensor | None = None) -> Tensor:
    """Return the softmax of ``values`` within each segment, without overflow.

    Args:
        values: (E,).
        segments: (E,) int64 in 0..n-1, in any order.
        n: number of segments.
        allowed: (E,) bool; the others do not take part and get 0. A segment in which none is allowed is all 0.
    """
    return _SegmentSoftmax.apply(values, segments, n, allowed)


def co_occurrence_graph(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, k: int, *, block: int = 1024):
    """Return each user's ``k`` nearest users by the number of items they share.

    Equal counts go to the lower user index. A user who shares items with fewer than ``k`` others has fewer neighbours, and one who
    shares with nobody has none. Computed in blocks of users as sparse products: nothing (U, U) exists.

    Args:
        users, items: (n,) the interactions, each pair once.
        n_users, n_items: sizes.
        k: neighbours per user; the user's own row is never among them.
        block: users compared at once.

    Returns:
        rows (E,), columns (E,) int64 and the shared counts (E,) float32, sorted by row, then by rank.

    Raises:
        OptionError: ``k`` below 1.
    """
    check_whole("k", k, 1, "number of neighbours out of range")
    ones = np.ones(len(users), dtype=np.int32)
    taken = sp.coo_array((ones, (users, items)), shape=(n_users, n_items)).tocsr()
    by_item = taken.T.tocsr()
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, n_users, block):
        shared = (taken[start : start + block] @ by_item).tocoo()
        row, column, count = shared.coords[0].astype(np.int64) + start, shared.coords[1].astype(np.int64), shared.data
        others = row != column
        row, column, count = row[others], column[others], count[others]
        best_first = np.lexsort((column, -count, row))
        row, column, count = row[best_first], column[best_first], count[best_first]
        first = np.searchsorted(row, row)  # where each row begins
        kept = np.arange(len(row)) - first < k
        found.append((row[kept], column[kept], count[kept]))
    rows, columns, counts = (np.concatenate(part) for part in zip(*found, strict=True))
    return torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(counts.astype(np.float32))
