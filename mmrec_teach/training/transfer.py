"""Pre-training a sequence model over several shops, and the stored one of the bazaar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrec_teach.data import Dataset, load, store
from mmrec_teach.data.union import union
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.files import write_json
from mmrec_teach.models import MODELS, create, model_class
from mmrec_teach.models.pretrained import Pretrained
from mmrec_teach.models.sequential import SequenceRecommender
from mmrec_teach.training.experiments import data_key
from mmrec_teach.training.fit import FitResult, fit
from mmrec_teach.training.ranks import Ranks

FILE = "pretrained.npz"
SETTINGS: dict[str, Any] = {"epochs": 30, "batch_size": 512, "lr": 1e-3, "metric": "ndcg@10"}
"""What :func:`pretrain_sequences` does unless told otherwise."""
STORED: dict[str, Any] = {"epochs": 10, "batch_size": 256}
"""How the stored model was made, SETTINGS aside: little data, so more steps and few epochs."""
SOURCES = ("bazaar/garden", "bazaar/kitchen", "bazaar/attic")
"""What the stored model was trained on."""


def pretrain_sequences(
    sources: Sequence[Dataset],
    *,
    model: str = "missrec",
    options: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    ranks: Ranks | None = None,
    **settings: Any,
) -> tuple[Pretrained, FitResult]:
    """Train a sequence model on several data sets at once; the epoch that is best on their validation parts is kept.

    Args:
        sources: data sets whose splits follow time, with feature tables in common; one is enough.
        model: "missrec" (without IDs unless ``options`` say so; they could not move) or "unisrec".
        options: of the model.
        weights: of its loss terms, instead of those in its ``pretraining``; terms left out keep these.
        seed: of everything.
        out: keep ``checkpoint.pt`` (after every epoch), ``history.json``, ``best.pt`` and in the end ``pretrained.npz`` there. If it
            holds a checkpoint, training goes on from it and gives the same numbers as a run that was never broken off.
        device, progress: see :func:`~mmrec_teach.training.fit`.
        ranks: this process among several, see :mod:`mmrec_teach.training.ranks`; None: alone.
        settings: epochs, batch_size, lr, metric; instead of :data:`SETTINGS`.

    Returns:
        What can move to other data, and how training went; Ctrl-C ends it after the epoch before (``stopped`` says so).

    Raises:
        OptionError: a model that is not made for pre-training, or a setting out of range.
        DataError: no data sets, data that do not fit together, or a checkpoint of other data or settings.
    """
    kind, ranks = model_class(model), ranks or Ranks()
    if not getattr(kind, "pretraining", None):
        able = [name for name, one in MODELS.items() if issubclass(one, SequenceRecommender) and one.pretraining]
        raise OptionError("not made for pre-training", where="model", found=repr(model), expected=" or ".join(able))
    data = sources[0] if len(sources) == 1 else union(sources)
    options = {**({"ids": False} if model == "missrec" else {}), **(options or {})}
    weights = kind.check_weights({**dict.fromkeys(kind.default_weights, 0.0), **kind.pretraining, **(weights or {})})
    settings = {**SETTINGS, **settings}
    recipe = {"data": data_key(data), "model": model, "options": options, "weights": weights, "seed": seed}
    recipe |= {"settings": {name: value for name, value in settings.items() if name != "epochs"}}
    if out is not None:
        _same_recipe(Path(out) / "config.json", recipe, ranks)
    made = create(model, data, **options, seed=seed)
    result = fit(
        made,
        data,
        weights=weights,
        seed=seed,
        run_dir=out,
        checkpoint_every=1,
        patience=settings["epochs"] + 1,
        progress=progress and ranks.first,
        device=device,
        ranks=ranks,
        **settings,
    )
    info = {
        "data": [source.name for source in sources],
        "users": data.n_users,
        "items": data.n_items,
        "weights": weights,
        "seed": seed,
        "settings": settings,
        "best_epoch": result.best_epoch,
        "valid": result.best,
        "stopped": result.stopped,
    }
    done = Pretrained.of(made.cpu(), info)
    if out is not None and ranks.first:
        done.save(Path(out) / FILE)
    return done, result


def _same_recipe(path: Path, recipe: Mapping[str, Any], ranks: Ranks) -> None:
    """Write what is to be trained to ``path``, or check that it is what was trained there before."""
    recipe = json.loads(json.dumps(recipe, default=str))
    if (path.parent / "checkpoint.pt").exists():
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == recipe
        except (OSError, ValueError):
            same = False
        if not same:
            raise DataError(
                "a checkpoint of other data or settings",
                where=str(path.parent),
                fix="Choose another folder, or remove it to start anew",
            )
    elif ranks.first:
        write_json(path, recipe)


def make_stored(folder: Path | None = None, progress: bool = True, **settings: Any) -> tuple[Pretrained, FitResult]:
    """Pre-train the stored MISSRec on :data:`SOURCES` and write it with its checksum.

    Args:
        folder: of the embedded data.
        progress: show a bar.
        settings: other than :data:`STORED`.
    """
    sources = [load(name, split="leave-one-out") for name in SOURCES]
    done, result = pretrain_sequences(sources, progress=progress, device="cpu", **{**STORED, **settings})
    store.write_model("sequences", done.to_bytes(), store.data_dir() if folder is None else folder)
    return done, result
