"""``fit`` drains the loop: progress bar, early stopping, best weights kept, runs on disk that can be resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError
from mmrec_teach.files import write_json
from mmrec_teach.models import Recommender
from mmrec_teach.training.loop import EpochRecord, Trainer, TrainingError, run_epochs


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
        checkpoint_every: epochs between two checkpoints; one is also written when the run ends or is interrupted.
        settings: see :class:`Trainer`.

    Ctrl-C ends training at once, keeps the best weights so far and says so in the result.

    Raises:
        OptionError: ``patience`` below 1, or an unknown metric.
        TrainingError: the loss stopped being finite before the first evaluation, so that there are no weights to keep.
    """
    if patience < 1:
        raise OptionError("patience out of range", where="patience", found=patience, expected="1 or more")
    kind, _, cut = metric.partition("@")
    if not cut.isdigit():
        raise OptionError("a metric without a cut-off", where="metric", found=repr(metric), expected="NAME@K such as recall@20")
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

    def save() -> None:
        if checkpoint is not None:
            trainer.save(
                checkpoint,
                history=json.dumps([r.to_json() for r in result.history]),
                best_epoch=result.best_epoch,
                best=result.best,
                since=since,
                best_state=best_state,
            )
            write_json(checkpoint.with_name("history.json"), [r.to_json() for r in result.history])

    bar = tqdm(total=epochs, initial=trainer.epochs_done, unit="epoch", disable=not progress, desc=type(model).__name__)
    whole = trainer.epochs_done  # what the checkpoint may claim: epochs whose record is in the history
    try:
        if since < patience:
            for record in run_epochs(trainer, epochs):
                result.history.append(record)
                whole = record.epoch
                bar.update()
                if record.metrics is not None:
                    if metric not in record.metrics:
                        raise OptionError(
                            "unknown metric", where="metric", found=repr(metric), expected=", ".join(record.metrics)
                        )
                    if record.metrics[metric] > best_value:
                        best_value, best_state, since = record.metrics[metric], _copy(model.state_dict()), 0
                        result.best_epoch, result.best = record.epoch, dict(record.metrics)
                    else:
                        since += 1
                    bar.set_postfix_str(f"{metric} {record.metrics[metric]:.4f}, best {best_value:.4f} in {result.best_epoch}")
                if checkpoint is not None and record.epoch % checkpoint_every == 0:
                    save()
                if since >= patience:
                    break
        result.stopped = "early" if since >= patience else "epochs"
    except KeyboardInterrupt:
        result.stopped = "interrupted"
    except TrainingError as error:
        if not result.best_epoch:
            raise
        result.stopped, result.message = "diverged", str(error)
    finally:
        bar.close()
    if result.stopped in ("early", "epochs") and trainer.epochs_done == whole:
        save()
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
        if run_dir is not None:
            model.save(Path(run_dir) / "best.pt")
    return result


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
