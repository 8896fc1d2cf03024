"""A trained model as an index: what a user is scored by becomes a search among vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.models.base import Recommender
from mmrec_teach.ops.index import VectorIndex


def item_table(model: Recommender) -> Tensor:
    """Return what is searched: (I, d) the items' vectors, with one more column for offsets if the model has any.

    Raises:
        OptionError: the model's score is no inner product.
    """
    return _joined(model.item_vectors(), model.item_offsets())


def query_table(model: Recommender, h: Tensor) -> Tensor:
    """Return the questions (n, d or d + 1) of user vectors ``h`` (n, d): an offset is asked for by a 1."""
    return _joined(h, None if model.item_offsets() is None else h.new_ones(len(h)))


def index_of(model: Recommender, *, kind: str = "exact", **options: int) -> VectorIndex:
    """Return an index of all items, by number; its inner product with :func:`query_table` is the score, up to a constant a user.

    Args:
        model: any whose score is an inner product.
        kind, options: of :meth:`~mmrec_teach.ops.index.VectorIndex.build`.

    Raises:
        OptionError: it is none, or an unknown kind or option, or faiss is not installed.
    """
    return VectorIndex.build(item_table(model), kind=kind, **options)


def add_new(
    index: VectorIndex, model: Recommender, features: Mapping[str, Tensor | np.ndarray], ids: Sequence[int] | np.ndarray
) -> None:
    """Add items that have content only to an index of ``model``, without training.

    Args:
        index: of :func:`index_of`.
        model: one that can place them, see :meth:`~mmrec_teach.models.base.Recommender.new_items`.
        features: modality -> (n, D_m); what is left out, or zero, is missing.
        ids: (n,) numbers that the index does not have yet.

    Raises:
        OptionError: the model cannot, features unlike its own, or ids that are taken.
    """
    tables = {name: torch.as_tensor(table) for name, table in features.items()}
    index.add(_joined(*model.new_items(tables)), ids)


def _joined(vectors: Tensor, offsets: Tensor | None) -> Tensor:
    return vectors if offsets is None else torch.cat([vectors, offsets[:, None]], 1)
