"""The one training loop, a generator: notebooks, widgets, sweeps and tests all step through it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.data.sequences import histories
from mmrec_teach.errors import DataError, MMRecTeachError, OptionError, check_whole
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.files import atomic_path
from mmrec_teach.models import Batch, Recommender, SequenceBatch
from mmrec_teach.ops.memory import keep_freed_memory
from mmrec_teach.training.ranks import Ranks
from mmrec_teach.training.sampling import NegativeSampler, epoch_batches, sequence_batches
from mmrec_teach.training.state import ModelState, give_back, take


class TrainingError(MMRecTeachError, ArithmeticError):
    """Training cannot go on: a loss is no longer a finite number."""


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch left behind.

    Attributes:
        epoch: counts from 1.
        losses: term -> mean over the epoch's steps, unweighted; terms with weight zero are absent.
        total: mean weighted sum.
        gradient_norms: term -> norm of the weighted term's gradient over all parameters, on the epoch's first batch; None unless asked.
        metrics: validation metrics, None in epochs that were not evaluated.
        seconds: wall time of the epoch without its evaluation.
    """

    epoch: int
    losses: Mapping[str, float]
    total: float
    gradient_norms: Mapping[str, float] | None
    metrics: Mapping[str, float] | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in asdict(self).items()}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device named; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises:
        OptionError: an unknown device, or CUDA asked for where there is none.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise OptionError("unknown device", where="device", found=repr(device), expected="auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise OptionError("CUDA is not available here", where="device", found=repr(str(device)), expected="auto or cpu")
    return chosen


@dataclass
class _Epoch:
    """An epoch in progress: how its batches were drawn, and what its steps have added up to."""

    generator: Tensor  # state before the epoch's order and negatives were drawn
    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    total: Tensor | float = 0.0
    norms: dict[str, float] | None = None
    seconds: float = 0.0

    def copy(self) -> _Epoch:
        return replace(self, sums=dict(self.sums), counts=dict(self.counts))


@dataclass(frozen=True)
class Snapshot:
    """Everything a trainer needs to be again as it was, at any step; in memory, for the same trainer. Opaque."""

    model: ModelState
    optimizer: dict[str, Any]
    generator: Tensor
    epochs_done: int
    steps_done: int
    epoch: _Epoch | None

    @property
    def nbytes(self) -> int:
        """Memory that its copies take."""
        copies = [value for _, value in self.model.values]
        copies += [v for state in self.optimizer["state"].values() for v in state.values() if isinstance(v, Tensor)]
        return sum(t.numel() * t.element_size() for t in copies)


class Trainer:
    """The loop's state: model, optimiser, random generators, how many epochs are done.

    ``weights`` is read at every step, so whoever holds the mapping can change it between two steps.

    An epoch that an exception of ``after_step`` broke off goes on with its next step when :meth:`epoch` is called again.

    Args:
        model: trained in place, moved to ``device``.
        data: training interactions; valid for the metrics.
        weights: loss term -> weight; terms left out keep the model's default.
        batch_size: interactions per step; for models that read histories, targets per step.
        lr: Adam's step size.
        seed: of shuffling and negative sampling (a model's own randomness has its own seed).
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        negatives: pool of sampled negatives, see :class:`NegativeSampler`.
        metrics_every: evaluate on valid after every so many epochs; 0 never.
        ks: cut-offs of the metrics.
        gradient_norms: record each term's gradient norm.
        ranks: this process among several that train the model together, see :mod:`mmrec_teach.training.ranks`; None: alone. Only the
            first evaluates.

    Attributes:
        epochs_done, steps_done: whole epochs and optimiser steps so far.
        steps_this_epoch: of these, the steps of an epoch in progress; 0 between two epochs.
        evaluation: the last validation in full, or None.

    Raises:
        OptionError: a setting out of range, or a weight for a term the model does not have.
        DataError: the model reads histories, and nobody took two items.
    """

    def __init__(
        self,
        model: Recommender,
        data: Dataset,
        *,
        weights: Mapping[str, float] | None = None,
        batch_size: int = 2048,
        lr: float = 1e-3,
        seed: int = 0,
        device: str | torch.device = "auto",
        negatives: str = "warm",
        metrics_every: int = 1,
        ks: tuple[int, ...] = (10, 20),
        gradient_norms: bool = False,
        ranks: Ranks | None = None,
    ):
        if not model.trainable:
            raise OptionError(f"{type(model).__name__} has nothing to train", where="train", fix="Evaluate it as it is")
        check_whole("batch_size", batch_size, 1, "batch size out of range")
        if not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
            raise OptionError("step size out of range", where="lr", found=lr, expected="a positive number such as 0.001")
        check_whole("metrics_every", metrics_every, 0)
        keep_freed_memory()
        self.device, self.ranks = pick_device(device), ranks or Ranks()
        self.model, self.data = model.to(self.device), data
        self.weights = weights if weights is not None else dict(model.default_weights)
        model.check_weights(self.weights)
        self.batch_size, self.metrics_every, self.ks, self.gradient_norms = batch_size, metrics_every, tuple(ks), gradient_norms
        self.sampler = NegativeSampler(data, negatives) if model.needs_negatives else None
        self.histories = None if model.batches == "pairs" else histories(data)
        if self.histories is not None and not len(self.histories.prefixes()):
            raise DataError(
                "no history is longer than one item",
                where=f"data set {data.name!r}, train",
                expected="users with two training interactions or more: one to read, one to predict",
            )
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(model.parameter_groups(lr), lr=lr, fused=True)
        self.epochs_done = self.steps_done = 0
        self.evaluation: Evaluation | None = None
        self._epoch: _Epoch | None = None

    @property
    def steps_this_epoch(self) -> int:
        """Steps done of an epoch in progress."""
        return self._epoch.steps if self._epoch is not None else 0

    def batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch | SequenceBatch]:
        """Yield an epoch's examples on the CPU, in an order (and with negatives) drawn from ``generator``."""
        if self.histories is None:
            return (Batch(*parts) for parts in epoch_batches(self.data, batch_size, self.sampler, generator))
        rows = sequence_batches(self.histories, self.model.batches, self.model.length, batch_size, self.sampler, generator)
        return (SequenceBatch(*parts) for parts in rows)

    def examples(self, n: int) -> Batch | SequenceBatch:
        """Return about ``n`` training examples, always the same, on the CPU; training is not disturbed."""
        random = torch.Generator().manual_seed(0)
        if self.histories is not None:
            return next(self.batches(n, random))
        some = torch.randperm(len(self.data.train), generator=random)[:n].numpy()
        users, items = (torch.from_numpy(side[some].copy()) for side in (self.data.train.users, self.data.train.items))
        return Batch(users, items, None if self.sampler is None else self.sampler.sample(users, random))

    def step(self, batch: Batch | SequenceBatch, norms: dict[str, float] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Take one optimiser step; return the terms and their weighted total, detached.

        Raises:
            TrainingError: the loss is not finite. The parameters are as they were before the step.
        """
        weights = self.model.check_weights(self.weights)
        active = {name for name, weight in weights.items() if weight != 0.0}
        with self.ranks.one_batch():
            terms = self.model.losses(batch, active)
        total = self.model.total(terms, weights)
        told, value = self.ranks.whole(terms, total)
        if not torch.isfinite(value):
            values = ", ".join(f"{k} = {v.item():.4g}" for k, v in told.items())
            raise TrainingError(
                f"The loss is no longer a finite number in epoch {self.epochs_done + 1} ({values}). "
                "Try a smaller lr or smaller weights; the parameters are those before this step."
            )
        self.optimizer.zero_grad(set_to_none=True)
        if norms is not None:
            parameters = [p for p in self.model.parameters() if p.requires_grad]
            for name, term in terms.items():
                if not term.requires_grad:  # such as a term of parts that are held fixed
                    norms[name] = 0.0
                    continue
                gradients = torch.autograd.grad(weights[name] * term, parameters, retain_graph=True, allow_unused=True)
                norms[name] = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
        if total.requires_grad and active:
            total.backward()
            self.ranks.add_gradients(self.model)
            self.optimizer.step()
        return told, value

    def epoch(self, after_step: Callable[[int], None] | None = None) -> EpochRecord:
        """Train one epoch (or the rest of one) and return its record, with validation metrics when they are due.

        Args:
            after_step: called after each optimiser step with the number of steps so far in all. It may look at the model, if it
                leaves it as it was (:func:`~mmrec_teach.training.state.undisturbed`), change ``weights``, or raise to break off.
        """
        start = time.perf_counter()
        self.model.train()
        now = self._epoch
        if now is None:
            self.model.begin_epoch(self.epochs_done)
            self.ranks.agree(self.model)
            now = self._epoch = _Epoch(self.generator.get_state(), total=torch.zeros((), device=self.device))
            now.norms = {} if self.gradient_norms else None
        else:  # the same order and negatives once more
            self.generator.set_state(now.generator)
        batches = self.batches(self.batch_size, self.generator)
        before = now.seconds
        for n, batch in enumerate(batches):
            if n < now.steps:
                continue
            terms, weighted = self.step(self.ranks.rows(batch).to(self.device), now.norms if n == 0 else None)
            for name, value in terms.items():
                now.sums[name] = now.sums.get(name, 0.0) + value
                now.counts[name] = now.counts.get(name, 0) + 1
            now.total, now.steps = now.total + weighted, n + 1
            self.steps_done += 1
            if after_step is not None:
                now.seconds = before + time.perf_counter() - start
                after_step(self.steps_done)
        means = {name: float(value) / now.counts[name] for name, value in now.sums.items()}
        mean_total = float(now.total) / now.steps
        seconds = before + time.perf_counter() - start
        self._epoch = None
        self.epochs_done += 1
        due = self.metrics_every and self.epochs_done % self.metrics_every == 0 and len(self.data.valid) and self.ranks.first
        metrics = None
        if due:
            self.evaluation = evaluate(self.model, self.data, "valid", ks=self.ks)
            metrics = self.evaluation.means()
        return EpochRecord(self.epochs_done, means, mean_total, now.norms, metrics, seconds)

    # -- in memory ----------------------------------------------------------------------------------------------------
    def snapshot(self) -> Snapshot:
        """Return a copy of the present state, also in the middle of an epoch (from ``after_step``)."""
        return Snapshot(
            take(self.model),
            copy.deepcopy(self.optimizer.state_dict()),
            self.generator.get_state(),
            self.epochs_done,
            self.steps_done,
            self._epoch.copy() if self._epoch is not None else None,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a state of this trainer; a snapshot can be restored any number of times. Not from ``after_step``."""
        give_back(self.model, snapshot.model)
        self.optimizer.load_state_dict(copy.deepcopy(snapshot.optimizer))  # it would write into what it is given
        self.generator.set_state(snapshot.generator)
        self.epochs_done, self.steps_done = snapshot.epochs_done, snapshot.steps_done
        self._epoch = snapshot.epoch.copy() if snapshot.epoch is not None else None

    # -- checkpoints ------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on as if never stopped, between two epochs (tensors are references, not copies)."""
        return {
            "model": self.model.state_dict(),
            "model_generator": self.model.generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epochs_done": self.epochs_done,
            "steps_done": self.steps_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state of the same model, data and settings."""
        self.model.load_state_dict(state["model"])
        self.model.generator.set_state(state["model_generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.epochs_done, self.steps_done = state["epochs_done"], state.get("steps_done", 0)
        self._epoch = None

    def save(self, path: str | Path, state: Mapping[str, Any] | None = None, **extra: Any) -> None:
        """Write ``state`` (default: the present one) and ``extra`` (plain values and tensors) to ``path``, atomically."""
        with atomic_path(path) as temporary:
            torch.save({**(state or self.state_dict()), "extra": extra}, temporary)

    def load(self, path: str | Path) -> dict[str, Any]:
        """Read a state written by :meth:`save`; return its ``extra``.

        Raises:
            DataError: the file is missing, damaged, or of another model.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.load_state_dict(state)
        except Exception as error:
            raise DataError(
                "not a checkpoint of this model",
                where=str(path),
                found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                fix="Remove it to start anew",
            ) from None
        return state["extra"]


def train(
    model: Recommender,
    data: Dataset,
    *,
    weights: Mapping[str, float] | None = None,
    epochs: int = 100,
    resume: Mapping[str, Any] | str | Path | None = None,
    after_step: Callable[[int], None] | None = None,
    **settings: Any,
) -> Iterator[EpochRecord]:
    """Train ``model`` in place, yielding one record an epoch. Stop by leaving the loop; nothing runs between two yields.

    Args:
        model, data: what to train on what.
        weights: loss term -> weight. The mapping is read at every step: change it between two yields (or steps) and the next
            one obeys.
        epochs: how many in all, those of a resumed state included.
        resume: a path written by :meth:`Trainer.save`, or a :meth:`Trainer.state_dict`.
        after_step: see :meth:`Trainer.epoch`.
        settings: see :class:`Trainer`.
    """
    trainer = Trainer(model, data, weights=weights, **settings)
    if isinstance(resume, (str, Path)):
        trainer.load(resume)
    elif resume is not None:
        trainer.load_state_dict(resume)
    return run_epochs(trainer, epochs, after_step)


def run_epochs(trainer: Trainer, epochs: int, after_step: Callable[[int], None] | None = None) -> Iterator[EpochRecord]:
    """Yield records until ``epochs`` are done in all."""
    while trainer.epochs_done < epochs:
        yield trainer.epoch(after_step)
