"""Exact top-k with a stated rule for ties."""

from __future__ import annotations

import torch
from torch import Tensor


def top_k(scores: Tensor, k: int) -> Tensor:
    """Return the indices of the ``k`` highest scores of each row, best first, equal scores by lower index.

    ``torch.topk`` leaves open which of several equal scores it returns and in what order; here both are fixed, on every device.

    Args:
        scores: (n, m) without NaN; infinities are allowed.
        k: 1..m.

    Returns:
        (n, k) int64.
    """
    values, indices = torch.topk(scores, k, dim=1)
    # Rows where the last chosen value also stands among those left out: choose again among all by a stable sort.
    if k < scores.shape[1]:
        chosen_equal = (values == values[:, -1:]).sum(1)
        crowded = ((scores == values[:, -1:]).sum(1) > chosen_equal).nonzero()[:, 0]
        if len(crowded):
            indices[crowded] = torch.sort(scores[crowded], dim=1, descending=True, stable=True).indices[:, :k]
            values[crowded] = scores[crowded].gather(1, indices[crowded])
    # Equal values inside the k: by index. A stable sort by value after a sort by index.
    if bool((values[:, 1:] == values[:, :-1]).any()):
        by_index = indices.argsort(dim=1)
        indices, values = indices.gather(1, by_index), values.gather(1, by_index)
        by_value = values.argsort(dim=1, descending=True, stable=True)
        indices = indices.gather(1, by_value)
    return indices
