"""The one training loop, a generator: notebooks, widgets, sweeps and tests all step through it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, MMRecTeachError, OptionError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.files import atomic_path
from mmrec_teach.models import Batch, Recommender
from mmrec_teach.ops.memory import keep_freed_memory
from mmrec_teach.training.sampling import NegativeSampler, epoch_batches


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


class Trainer:
    """The loop's state: model, optimiser, random generators, how many epochs are done.

    ``weights`` is read at every step, so whoever holds the mapping can change it between two steps.

    Args:
        model: trained in place, moved to ``device``.
        data: training interactions; valid for the metrics.
        weights: loss term -> weight; terms left out keep the model's default.
        batch_size: interactions per step.
        lr: Adam's step size.
        seed: of shuffling and negative sampling (a model's own randomness has its own seed).
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        negatives: pool of sampled negatives, see :class:`NegativeSampler`.
        metrics_every: evaluate on valid after every so many epochs; 0 never.
        ks: cut-offs of the metrics.
        gradient_norms: record each term's gradient norm.

    Raises:
        OptionError: a setting out of range, or a weight for a term the model does not have.
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
    ):
        if not model.trainable:
            raise OptionError(f"{type(model).__name__} has nothing to train", where="train", fix="Evaluate it as it is")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise OptionError(
                "batch size out of range", where="batch_size", found=batch_size, expected="a whole number, 1 or more"
            )
        if not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
            raise OptionError("step size out of range", where="lr", found=lr, expected="a positive number such as 0.001")
        if not isinstance(metrics_every, int) or metrics_every < 0:
            raise OptionError(
                "out of range", where="metrics_every", found=metrics_every, expected="a whole number, 0 for never"
            )
        keep_freed_memory()
        self.device = pick_device(device)
        self.model, self.data = model.to(self.device), data
        self.weights = weights if weights is not None else dict(model.default_weights)
        model.check_weights(self.weights)
        self.batch_size, self.metrics_every, self.ks, self.gradient_norms = batch_size, metrics_every, tuple(ks), gradient_norms
        self.sampler = NegativeSampler(data, negatives) if model.needs_negatives else None
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr, fused=True)
        self.epochs_done = 0

    def step(self, batch: Batch, norms: dict[str, float] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Take one optimiser step; return the terms and their weighted total, detached.

        Raises:
            TrainingError: the loss is not finite. The parameters are as they were before the step.
        """
        weights = self.model.check_weights(self.weights)
        active = {name for name, weight in weights.items() if weight != 0.0}
        terms = self.model.losses(batch, active)
        total = self.model.total(terms, weights)
        if not torch.isfinite(total):
            values = ", ".join(f"{k} = {v.item():.4g}" for k, v in terms.items())
            raise TrainingError(
                f"The loss is no longer a finite number in epoch {self.epochs_done + 1} ({values}). "
                "Try a smaller lr or smaller weights; the parameters are those before this step."
            )
        self.optimizer.zero_grad(set_to_none=True)
        if norms is not None:
            parameters = [p for p in self.model.parameters() if p.requires_grad]
            for name, term in terms.items():
                gradients = torch.autograd.grad(weights[name] * term, parameters, retain_graph=True, allow_unused=True)
                norms[name] = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
        if total.requires_grad and active:
            total.backward()
            self.optimizer.step()
        return {k: v.detach() for k, v in terms.items()}, total.detach()

    def epoch(self) -> EpochRecord:
        """Train one epoch and return its record, with validation metrics when they are due."""
        start = time.perf_counter()
        self.model.train()
        self.model.begin_epoch(self.epochs_done)
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        total, steps = torch.zeros((), device=self.device), 0
        norms: dict[str, float] | None = {} if self.gradient_norms else None
        for users, items, negatives in epoch_batches(self.data, self.batch_size, self.sampler, self.generator):
            terms, weighted = self.step(Batch(users, items, negatives).to(self.device), norms if steps == 0 else None)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1
            total, steps = total + weighted, steps + 1
        means = {name: float(value) / counts[name] for name, value in sums.items()}
        mean_total = float(total) / steps
        seconds = time.perf_counter() - start
        self.epochs_done += 1
        due = self.metrics_every and self.epochs_done % self.metrics_every == 0 and len(self.data.valid)
        metrics = evaluate(self.model, self.data, "valid", ks=self.ks).means() if due else None
        return EpochRecord(self.epochs_done, means, mean_total, norms, metrics, seconds)

    # -- checkpoints ------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on as if never stopped (tensors are references, not copies)."""
        return {
            "model": self.model.state_dict(),
            "model_generator": self.model.generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epochs_done": self.epochs_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state of the same model, data and settings."""
        self.model.load_state_dict(state["model"])
        self.model.generator.set_state(state["model_generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.epochs_done = state["epochs_done"]

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
    **settings: Any,
) -> Iterator[EpochRecord]:
    """Train ``model`` in place, yielding one record an epoch. Stop by leaving the loop; nothing runs between two yields.

    Args:
        model, data: what to train on what.
        weights: loss term -> weight. The mapping is read at every step: change it between two yields (or steps) and the next
            one obeys.
        epochs: how many in all, those of a resumed state included.
        resume: a path written by :meth:`Trainer.save`, or a :meth:`Trainer.state_dict`.
        settings: see :class:`Trainer`.
    """
    trainer = Trainer(model, data, weights=weights, **settings)
    if isinstance(resume, (str, Path)):
        trainer.load(resume)
    elif resume is not None:
        trainer.load_state_dict(resume)
    return run_epochs(trainer, epochs)


def run_epochs(trainer: Trainer, epochs: int) -> Iterator[EpochRecord]:
    """Yield records until ``epochs`` are done in all."""
    while trainer.epochs_done < epochs:
        yield trainer.epoch()
