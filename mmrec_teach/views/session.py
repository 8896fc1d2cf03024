"""What the what-if worker keeps: a model being trained, what its last pictures show, where controls stood; and getting ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mmrec_teach.data import Dataset
from mmrec_teach.data.switches import Switches
from mmrec_teach.models import Batch, Recommender, SequenceBatch
from mmrec_teach.training import Trainer
from mmrec_teach.training.loop import Snapshot
from mmrec_teach.views.projection import warm_up
from mmrec_teach.views.setting import Setting
from mmrec_teach.views.toplists import Memory
from mmrec_teach.views.updates import Picture, Run, TopList


@dataclass
class Session:
    """One model being trained, and what belongs to it."""

    run: Run
    model: Recommender
    data: Dataset
    weights: dict[str, float]  # read by the loop at every step; only the worker writes
    trainer: Trainer | None = None  # None: the caller's own loop
    records: Iterator[Any] | None = None
    plan: dict[int, Mapping[str, float]] = field(default_factory=dict)  # of a replayed setting: step -> weights
    stop_at: int | None = None  # steps, likewise
    probe: Batch | SequenceBatch | None = None  # the batch that gradients are compared on

    @property
    def steps(self) -> int:
        """Optimiser steps so far; 0 where the loop is the caller's own."""
        return self.trainer.steps_done if self.trainer is not None else 0


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the last pictures show: the state they were made of, whole, so that it can be pinned from another thread."""

    run: Run
    epoch: int
    steps: int
    within: int  # steps of the epoch in progress
    tables: Mapping[str, np.ndarray]  # drawn rows
    pictures: Mapping[str, Picture]
    gauges: Mapping[str, float]
    top: TopList | None
    memory: Memory | None


@dataclass(frozen=True)
class Board:
    """Where the controls stand."""

    values: Mapping[str, Any]
    off: frozenset[str]
    switches: Switches
    fixed: Mapping[str, Any]
    epochs: int


@dataclass
class Change:
    """A change of a control that can be undone."""

    name: str
    at: float
    board: Board  # before it
    session: Session | None = None  # "continue" mode: the run it acted on …
    snapshot: Snapshot | None = None  # … and that run's state before it; None with ``applied``: as it was left
    applied: bool = False
    setting: Setting | None = None
    label: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    until: int = 0


_ready: dict[str, threading.Thread] = {}


def get_ready(umap: bool = True) -> threading.Thread:
    """Load in the background, once per process, what a first run would wait for: seconds for torch's optimisers, more for UMAP.

    Args:
        umap: also compile UMAP.

    Returns:
        the thread that loads torch's part, and starts UMAP's when it is done.
    """

    def load() -> None:
        # the first optimiser of a process imports torch's compiler, whether it is used or not
        torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], fused=True)
        if umap:
            warm_up()

    if "umap" in _ready or ("torch" in _ready and not umap):
        return _ready["umap" if "umap" in _ready else "torch"]
    thread = _ready["umap" if umap else "torch"] = threading.Thread(target=load, name="getting ready", daemon=True)
    thread.start()
    return thread
