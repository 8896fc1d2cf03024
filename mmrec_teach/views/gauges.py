"""Gauges: a handful of numbers about the embedding space, measured in the full space while the picture only shows two axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from mmrec_teach.data import Dataset
from mmrec_teach.evaluation import diagnostics
from mmrec_teach.views.projection import nearest, overlap

PAIR = ("item/id", "item/content")


@dataclass(frozen=True)
class Gauge:
    """How to show one number.

    Attributes:
        label: short.
        help: one sentence: what it measures and which way is which.
        low, high: the ends of its scale; None where it has none.
        style: how to print it, a format.
    """

    label: str
    help: str
    low: float | None = None
    high: float | None = None
    style: str = ".2f"


#: Every gauge an update may carry, in the order to show them.
GAUGES: Mapping[str, Gauge] = MappingProxyType(
    {
        "effective rank": Gauge(
            "effective rank", "How many directions the items' final vectors use; 1 is collapse onto one line.", 1.0, None, ".1f"
        ),
        "alignment": Gauge(
            "alignment", "Mean squared distance of users and the items they took, on the unit sphere; 0 is on top of each other.",
            0.0, 4.0,
        ),
        "uniformity": Gauge(
            "uniformity", "How evenly the items spread over the sphere; lower is more even, 0 is all in one direction.", -4.0, 0.0
        ),
        "ID-content distance": Gauge(
            "ID-content distance", "Mean squared distance of an item's ID and content vector on the unit sphere; 2 is at right angles.",
            0.0, 4.0,
        ),
        "modality gap": Gauge(
            "modality gap", "Distance of the centres of ID and content vectors on the unit sphere; 0 is one cloud, 2 two opposite ones.",
            0.0, 2.0,
        ),
        "CKA": Gauge(
            "CKA", "How alike the shapes of the ID and the content space are, whatever their rotation; 1 is the same.", 0.0, 1.0
        ),
        "neighbour overlap": Gauge(
            "neighbour overlap", "Share of an item's 10 nearest in the ID space that are its nearest in the content space too.",
            0.0, 1.0, ".0%",
        ),
        "neighbours kept": Gauge(
            "neighbours kept", "Share of each point's 10 nearest in the full space that are its nearest in the first picture.",
            0.0, 1.0, ".0%",
        ),
    }
)  # fmt: skip


def paired_views(shapes: Mapping[str, tuple[int, ...]], same_space: bool = True) -> tuple[str, str] | None:
    """Return the two views of the same items that may be drawn in one space, or None.

    By name: ``item/id`` and ``item/content``, where both exist and are equally wide. Views of single modalities
    (``item/image``…) are no partner: they are parts of the content.

    Args:
        shapes: view -> shape of its table.
        same_space: the model's own word on it: False where ID and content are compared with different user vectors (VBPR), so
            that a distance between them means nothing.
    """
    a, b = PAIR
    return PAIR if same_space and a in shapes and b in shapes and tuple(shapes[a]) == tuple(shapes[b]) else None


def rank_of(table: np.ndarray) -> float:
    """Return the effective rank of a table's rows; NaN for a table of zeros."""
    return float(diagnostics.effective_rank(table)) if table.any() else float("nan")


def measure(
    tables: Mapping[str, np.ndarray],
    data: Dataset,
    items: np.ndarray,
    *,
    same_space: bool = True,
    quick: Mapping[str, float] | None = None,
    most: int = 600,
    pairs: int = 2000,
) -> dict[str, float]:
    """Return the gauges that a model's tables define, by name; those it has no tables for are absent.

    Args:
        tables: view -> (n, d), as a model's ``views()``.
        data: its training interactions are the pairs of the alignment.
        items: (n,) rows of items to look at; at most ``most`` of them, evenly picked.
        same_space: see :func:`paired_views`.
        quick: values from a moment ago: what takes long is copied from them.
        most: items compared with each other.
        pairs: interactions the alignment is averaged over, evenly picked.
    """
    found: dict[str, float] = {}
    items = _some(items, most)
    users, final = tables.get("user/final"), tables.get("item/final")
    if final is not None:
        found["effective rank"] = rank_of(final[items])
    if users is not None and final is not None and users.shape[1] == final.shape[1]:
        some = _some(np.arange(len(data.train)), pairs)
        found["alignment"] = diagnostics.alignment(users[data.train.users[some]], final[data.train.items[some]])
    if final is not None:  # in single precision: quick enough for every picture
        found["uniformity"] = diagnostics.uniformity(final[items], dtype=torch.float32)
    if all(name in tables for name in PAIR):
        a, b = (tables[name][items] for name in PAIR)
        both = a.any(1) & b.any(1)  # a missing picture or text is a row of zeros
        a, b = a[both], b[both]
        if len(a) > 2:
            if paired_views({name: tables[name].shape for name in PAIR}, same_space):
                found["ID-content distance"] = diagnostics.alignment(a, b)
                found["modality gap"] = diagnostics.modality_gap(a, b)
            if quick is not None and "CKA" in quick:
                found |= {name: quick[name] for name in ("CKA", "neighbour overlap")}
            else:
                found["CKA"] = diagnostics.linear_cka(a, b)
                k = min(10, len(a) - 1)
                found["neighbour overlap"] = overlap(nearest(_table(a), k)[0], nearest(_table(b), k)[0])
    return found


def _table(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, dtype=np.float32)


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of ``rows``, evenly picked."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
