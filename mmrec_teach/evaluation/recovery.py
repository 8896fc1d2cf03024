"""Do clusters of items' pictures and words recover what a generated shop planted?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.errors import InputError
from mmrec_teach.models.content import modality_features, modality_presence
from mmrec_teach.models.missrec import MISSRec


@dataclass(frozen=True, eq=False)
class Tokens:
    """Each item's vectors, one a modality, in one table; what is missing has no row. By item, then modality.

    Attributes:
        x: (N, d) the tokens.
        items: (N,) int64, whose each token is.
        modality: (N,) int64, position in ``names``.
        names: the modalities.
    """

    x: Tensor
    items: np.ndarray
    modality: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)


def tokens_of(data: Dataset, modalities: Any = None, scaling: str = "raw") -> Tokens:
    """Return the tokens of all items of ``data``.

    Args:
        data: its items need features.
        modalities: names, or one name; None means all. Several must have the same width.
        scaling: ``"raw"`` or ``"unit"`` (rows at length 1).

    Raises:
        InputError: tables of different width, whose rows have no common space.
        DataError, OptionError: as in :func:`~mmrec_teach.models.content.modality_features`.
    """
    tables = modality_features(data, modalities, model="tokens_of", scaling=scaling)
    widths = {name: table.shape[1] for name, table in tables.items()}
    if len(set(widths.values())) > 1:
        raise InputError(
            "tokens of different width have no common space",
            where="tokens_of",
            found=", ".join(f"{name}: {width}" for name, width in widths.items()),
            fix="Ask for one modality, or take a model's tokens, which its adapters bring to one width",
        )
    has = modality_presence(data, list(tables))
    there = torch.stack([has[name] for name in tables], 1)
    items, modality = (a.numpy() for a in there.nonzero(as_tuple=True))
    return Tokens(torch.stack(list(tables.values()), 1)[there], items, modality, tuple(tables))


def token_table(model: MISSRec) -> Tokens:
    """Return the tokens of a MISSRec as its adapters make them now, without gradient."""
    with model.evaluating(), torch.no_grad():
        x = torch.stack([model.token(name) for name in model.modality.names], 1)[model.has].cpu()
    items, modality = (a.cpu().numpy() for a in model.has.nonzero(as_tuple=True))
    return Tokens(x, items, modality, tuple(model.modality.names))


def recovery(found: Any, planted: Any) -> dict[str, float]:
    """Return how well clusters agree with planted classes.

    Args:
        found: (N,) the cluster of each point.
        planted: (N,) its true class.

    Returns:
        ``ari``, adjusted Rand index: agreement on pairs of points, 0 by chance, 1 for the same groups; it asks for the right number of
        clusters too. ``nmi``, normalised mutual information, 0 to 1; not corrected for chance, it grows with the number of clusters.
        ``pairs``: of two points in one cluster, how often both have one class (NaN if no cluster has two); ``chance``: the same of any
        two points.

    Raises:
        InputError: tables of different length, or fewer than two points.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    a, b = (np.asarray(values.cpu() if isinstance(values, Tensor) else values) for values in (found, planted))
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError("one cluster and one class per point", where="recovery", found=f"shapes {a.shape} and {b.shape}")

    def couples(counts: np.ndarray) -> float:
        counts = counts.astype(np.float64)
        return float((counts * (counts - 1)).sum() / 2)

    table = contingency_matrix(b, a)
    together = couples(table.sum(0))
    return {
        "ari": float(adjusted_rand_score(b, a)),
        "nmi": float(normalized_mutual_info_score(b, a)),
        "pairs": couples(table) / together if together else float("nan"),
        "chance": couples(table.sum(1)) / couples(np.array([len(a)])),
    }
