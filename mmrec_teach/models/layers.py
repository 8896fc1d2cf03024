"""Small parts of graph models: a seeded linear layer, a checked whole number, shares over the modalities that are there."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def linear(n_in: int, n_out: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer with Xavier-uniform weights drawn from ``generator`` and a zero offset."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def modalities_met(present: Tensor, users: Tensor, items: Tensor, n_users: int) -> Tensor:
    """Return (U, M) bool: whether a user took at least one item that has the modality.

    A user who met no modality at all (no interactions, or only items without content) counts as having met every one: nothing
    speaks for leaving one out.

    Args:
        present: (I, M) bool, which item has which modality.
        users, items: (E,) int64, the training interactions.
        n_users: U.
    """
    met = torch.zeros(n_users, present.shape[1]).index_add_(0, users, present[items].float()) > 0
    return met | ~met.any(1, keepdim=True)


def view_name(modality: str) -> str:
    """Return the part of a view's name that stands for a modality: its own name, unless models use that for something else."""
    return f"modality-{modality}" if modality in ("id", "content", "final") else modality
