"""``fit`` drains the loop: progress bar, early stopping, best weights kept, runs on disk that can be resumed."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError, check_whole
from mmrec_teach.files import write_json
from mmrec_teach.models import Recommender
from mmrec_teach.training.loop import EpochRecord, Trainer, TrainingError, run_epochs

STEERING = ("recall", "ndcg", "precision", "map", "mrr", "hitrate", "coverage", "novelty")  # higher is better
CHECKPOINT_SECONDS = 30.0


@dataclass
class FitResult:
    """How a training run went.

    Attributes:
        history: one record an epoch.
        metric: the validation metric that chose the epoch.
        best_epoch: the epoch whose weights the model now has; 0 if none was evaluated.
        best: validation metrics of that epoch.
        stopped: ``"early"`` (no better for ``patience`` evaluations), ``"epochs"`` (all done), ``"interrupted"`` (Ctrl-C) or
            ``"diverged"`` (a loss became infinite or NaN; ``message`` says which).
        message: one sentence for people.
    """

    history: list[EpochRecord]
    metric: str
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    stopped: str = "epochs"
    message: str = ""


def check_stopping(*, epochs: int = 1000, patience: int = 20, metric: str = "recall@20", metrics_every: int = 1) -> None:
    """Check what decides when :func:`fit` stops.

    Raises:
        OptionError: a number below 1, or a metric that cannot steer.
    """
    for name, value in (("patience", patience), ("epochs", epochs), ("metrics_every", metrics_every)):
        check_whole(name, value, 1, f"{name} out of range")
    kind, _, cut = metric.partition("@")
    if not cut.isdigit():
        raise OptionError("a metric without a cut-off", where="metric", found=repr(metric), expected="NAME@K such as recall@20")
    if kind not in STEERING:
        raise OptionError("no metric to steer by", where="metric", found=repr(kind), expected=", ".join(STEERING))


def fit(
    model: Recommender,
    data: Dataset,
    *,
    weights: Mapping[str, float] | None = None,
    epochs: int = 1000,
    patience: int = 20,
    metric: str = "recall@20",
    progress: bool = True,
    run_dir: str | Path | None = None,
    checkpoint_every: int = 10,
    **settings: Any,
) -> FitResult:
    """Train with early stopping on a validation metric; the model ends with its best weights.

    Args:
        model, data, weights: see :func:`train`.
        epochs: at most so many.
        patience: stop after so many evaluations without a better ``metric``.
        metric: a validation metric, higher is better.
        progress: show a bar.
        run_dir: keep ``checkpoint.pt``, ``best.pt`` and ``history.json`` there. If it holds a checkpoint, training resumes from it
            and gives the same numbers as a run that was never broken off.
        checkpoint_every: epochs between two checkpoints; one is also written after half a minute without,
            when the run ends and, as of the last whole epoch, when it is interrupted.
        settings: see :class:`Trainer`.

    Ctrl-C ends training at once, keeps the best weights so far and says so in the result.

    Raises:
        OptionError: ``patience``, ``epochs`` or ``metrics_every`` below 1, or a metric that cannot steer.
        TrainingError: the loss stopped being finite before the first evaluation, so that there are no weights to keep.
    """
    check_stopping(epochs=epochs, patience=patience, metric=metric, metrics_every=settings.get("metrics_every", 1))
    cut = metric.partition("@")[2]
    settings.setdefault("ks", tuple(sorted({10, 20, int(cut)})))
    trainer = Trainer(model, data, weights=weights, **settings)
    result = FitResult([], metric)
    best_value, best_state, since = -math.inf, _copy(model.state_dict()), 0
    checkpoint = None if run_dir is None else Path(run_dir) / "checkpoint.pt"
    if checkpoint is not None and checkpoint.exists():
        extra = trainer.load(checkpoint)
        result.history = [EpochRecord(**record) for record in json.loads(extra["history"])]
        result.best_epoch, result.best, since = extra["best_epoch"], extra["best"], extra["since"]
        best_value, best_state = result.best.get(metric, -math.inf), extra["best_state"]

    def save(state: Mapping[str, Any]) -> None:
        nonlocal saved
        if checkpoint is not None and trainer.ranks.first:
            saved, history = time.monotonic(), [r.to_json() for r in result.history[: state["epochs_done"]]]
            trainer.save(
                checkpoint,
                state,
                history=json.dumps(history),
                best_epoch=result.best_epoch,
                best=result.best,
                since=since,
                best_state=best_state,
            )
            write_json(checkpoint.with_name("history.json"), history)

    bar = tqdm(total=epochs, initial=trainer.epochs_done, unit="epoch", disable=not progress, desc=type(model).__name__)
    saved = time.monotonic()
    whole = None  # the state after the last whole epoch: what an interrupted run goes on from
    try:
        if since < patience:
            for record in run_epochs(trainer, epochs):
                result.history.append(record)
                bar.update()
                if record.metrics is not None:
                    if record.metrics[metric] > best_value:
                        best_value, best_state, since = record.metrics[metric], _copy(model.state_dict()), 0
                        result.best_epoch, result.best = record.epoch, dict(record.metrics)
                    else:
                        since += 1
                    bar.set_postfix_str(f"{metric} {record.metrics[metric]:.4f}, best {best_value:.4f} in {result.best_epoch}")
                if checkpoint is not None:
                    whole = copy.deepcopy(trainer.state_dict())
                    if record.epoch % checkpoint_every == 0 or time.monotonic() - saved > CHECKPOINT_SECONDS:
                        save(whole)
                if since >= patience:
                    break
        result.stopped = "early" if since >= patience else "epochs"
    except KeyboardInterrupt:
        result.stopped = "interrupted"
    except TrainingError as error:
        if not result.best_epoch and trainer.ranks.first:  # of several ranks only the first has evaluated
            raise
        result.stopped, result.message = "diverged", str(error)
    finally:
        bar.close()
    if result.stopped in ("early", "epochs"):
        save(trainer.state_dict())
    elif whole is not None:
        save(whole)
    if result.best_epoch:
        model.load_state_dict(best_state)
    reasons = {
        "early": f"Stopped early: no better {metric} in {patience} evaluations.",
        "epochs": f"All {epochs} epochs done.",
        "interrupted": "Interrupted; the best weights so far are kept.",
    }
    result.message = result.message or reasons[result.stopped]
    if result.best_epoch:
        result.message += f" Best: epoch {result.best_epoch}, {metric} = {best_value:.4f} on valid."
        if run_dir is not None and trainer.ranks.first:
            model.save(Path(run_dir) / "best.pt")
    return result


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
