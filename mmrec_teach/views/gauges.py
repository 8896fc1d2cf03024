"""Gauges: a handful of numbers about the embedding space, measured in the full space while the picture only shows two axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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
