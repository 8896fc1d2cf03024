"""Runs on disk and fair comparisons: every number of a table comes from a run folder that can be opened, resumed or repeated."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrec_teach.data import Dataset, store
from mmrec_teach.data.sequences import follows_time, has_order
from mmrec_teach.errors import DataError, MMRecTeachError, OptionError, guess
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation import compare as compare_paired
from mmrec_teach.files import write_json
from mmrec_teach.models import MODELS, Recommender, create, load_model, model_class, model_options
from mmrec_teach.models.pretrained import read_pretrained
from mmrec_teach.training.fit import check_stopping, fit

PUBLISHED_MASK, SOUND_MASK = ("train",), ("train", "valid")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers on one machine.

    Attributes:
        data: name and sizes of the data set, see :func:`data_key`.
        model: registered name.
        options: constructor options that differ from the defaults.
        weights: loss weights that differ from the defaults.
        seed: of initial values, shuffling and sampling.
        settings: of :func:`~mmrec_teach.training.fit`: epochs, patience, metric, batch_size, lr, …
        begins_with: option -> SHA-256 of the pre-trained model's file that it names, read when the configuration is made: a file
            of the same name with other content is another run. Empty where no option names one.

    Raises:
        DataError: such a file cannot be read.
    """

    data: Mapping[str, Any]
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    begins_with: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.begins_with:  # a configuration that was written down keeps what it began with
            object.__setattr__(self, "begins_with", _begins_with(self.options))

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        told = {
            "data": dict(self.data),
            "model": self.model,
            "options": dict(self.options),
            "weights": dict(self.weights),
            "seed": self.seed,
            "settings": dict(self.settings),
        }
        return told | ({"begins_with": dict(self.begins_with)} if self.begins_with else {})

    @property
    def folder(self) -> str:
        """A folder name that tells the model and seed and is unique to this configuration."""
        text = json.dumps(self.to_json(), sort_keys=True, default=str)
        return f"{self.model}-seed{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _begins_with(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksum of every pre-trained model's file that ``options`` name, by option."""
    contents = {}
    if isinstance(options.get("pretrained"), str):
        contents["pretrained"] = read_pretrained(options["pretrained"])
    if options.get("start") == "pretrained":
        contents["start"] = store.read_model("encoder")
    return {option: hashlib.sha256(content).hexdigest() for option, content in contents.items()}


def data_key(data: Dataset) -> dict[str, Any]:
    """Return what tells two data sets apart: name, sizes, and a hash of the interactions and features."""
    digest = hashlib.sha256()
    for part in (data.train, data.valid, data.test):
        digest.update(part.users.tobytes())
        digest.update(part.items.tobytes())
    for name, table in data.features.items():
        digest.update(name.encode())
        digest.update(table.tobytes())
    return {"name": data.name, "users": data.n_users, "items": data.n_items, "hash": digest.hexdigest()[:16]}


@dataclass
class Run:
    """A finished run.

    Attributes:
        config: what was run.
        folder: where it lies, or None if it was not written.
        metrics: ``{"valid": …, "test": …, "test_train_mask": …}``, each metric -> mean; ``cold`` and ``seconds`` beside them.
        evaluation: the test :class:`Evaluation` (train and valid masked).
        model: the model with its best weights.
        reused: it had finished before and was only read.
    """

    config: RunConfig
    folder: Path | None
    metrics: dict[str, Any]
    evaluation: Evaluation
    model: Recommender
    reused: bool = False


def run(data: Dataset, config: RunConfig, out: str | Path | None = None, *, progress: bool = True, device: str = "auto") -> Run:
    """Train to early stopping, judge on valid and test, write a run folder; an already finished run is only read.

    The folder ``out/DATA/MODEL-seedS-HASH`` holds ``config.json``, ``checkpoint.pt``, ``history.json``, ``best.pt`` and, once
    finished, ``metrics.json``. A run that was broken off goes on from its checkpoint.

    Args:
        data, config: what to run; ``config.data`` must be ``data_key(data)``.
        out: where run folders go; None writes nothing.
        progress: show a bar.
        device: see :func:`~mmrec_teach.training.pick_device`; not part of the configuration.
    """
    folder = None if out is None else Path(out) / config.data["name"] / config.folder
    done = folder is not None and (folder / "metrics.json").is_file()
    if done:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        trainable = model_class(config.model).trainable
        model = (
            load_model(folder / "best.pt", data)
            if trainable
            else create(config.model, data, **config.options, seed=config.seed)
        )
        return Run(config, folder, metrics, evaluate(model, data, "test", ks=_ks(config)), model, True)
    if folder is not None:
        write_json(folder / "config.json", config.to_json())
    model = create(config.model, data, **config.options, seed=config.seed)
    start = time.perf_counter()
    metrics: dict[str, Any] = {}
    if model.trainable:
        metrics["parameters"] = dict(zip(("trained", "all"), model.trained_share(), strict=True))
        result = fit(
            model,
            data,
            weights=config.weights,
            seed=config.seed,
            run_dir=folder,
            progress=progress,
            device=device,
            **config.settings,
        )
        if result.stopped == "interrupted":
            goes_on = "" if folder is None else "; the same command goes on from there"
            raise KeyboardInterrupt(f"Interrupted after epoch {len(result.history)}{goes_on}.")
        if result.best_epoch == config.settings.get("epochs"):
            metrics["note"] = "its best epoch is the last one allowed: let it run longer"
        metrics |= {"best_epoch": result.best_epoch, "epochs": len(result.history), "stopped": result.stopped}
    metrics["seconds"] = round(time.perf_counter() - start, 1)
    ks = _ks(config)
    test = evaluate(model, data, "test", ks=ks)
    metrics["valid"] = evaluate(model, data, "valid", ks=ks).means()
    metrics["test"] = test.means()
    metrics["test_train_mask"] = evaluate(model, data, "test", ks=ks, mask=PUBLISHED_MASK).means()
    metrics["cold"] = {k: v for k, v in test.cold().items() if v == v}  # NaN where there is nothing to judge
    if folder is not None:
        write_json(folder / "metrics.json", metrics)
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    return Run(config, folder, metrics, test, model)


def read_config(folder: str | Path) -> RunConfig:
    """Return what the run in ``folder`` was.

    Raises:
        DataError: no run lies there, or one that has not finished; it names the most similar folder beside it.
    """
    folder = Path(folder)
    try:
        config = RunConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        model_class(config.model)
        _ = config.data["name"], config.data["hash"]
    except FileNotFoundError:
        beside = folder if folder.is_dir() else folder.parent
        runs = sorted(str(path.parent) for path in beside.glob("*/config.json"))
        raise DataError(
            "no run lies there",
            where=str(folder),
            expected="a folder that train or compare wrote" + (f", such as {runs[0]}" if runs else ""),
            fix=guess(str(folder), runs),
        ) from None
    except (OSError, ValueError, TypeError, KeyError, OptionError) as error:
        raise DataError(
            "not a run's configuration", where=str(folder / "config.json"), found=f"{type(error).__name__}: {error}"
        ) from None
    if not (folder / "metrics.json").is_file():
        raise DataError(
            "the run has not finished", where=str(folder), fix="The command that began it goes on from where it was"
        )
    return config


def open_run(folder: str | Path, data: Dataset) -> tuple[RunConfig, Recommender]:
    """Return a finished run's configuration and its model, with its best weights.

    Args:
        folder: of the run.
        data: what it was trained on.

    Raises:
        DataError: no finished run lies there, or it was trained on other data.
    """
    config, now = read_config(folder), data_key(data)
    if config.data["hash"] != now["hash"]:
        raise DataError(
            "the run was trained on other data",
            where=str(folder),
            found=f"{now['name']} with {now['users']:,} users, {now['items']:,} items, hash {now['hash']}",
            expected=f"{config.data['name']} with {config.data['users']:,}, {config.data['items']:,}, {config.data['hash']}",
            fix="Give the data, the split and the feature tables that it was trained with",
        )
    if model_class(config.model).trainable:
        return config, load_model(Path(folder) / "best.pt", data)
    return config, create(config.model, data, **config.options, seed=config.seed)


def _ks(config: RunConfig) -> tuple[int, ...]:
    cut = int(str(config.settings.get("metric", "recall@20")).partition("@")[2])
    return tuple(sorted({10, 20, cut}))


def configurations(
    data: Dataset, model: str, grid: Mapping[str, Sequence[Any]], options: Mapping[str, Any], weights: Mapping[str, float]
) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Return every (options, weights) of ``grid`` for ``model``.

    A name is a loss term or a constructor option, for every model that knows it; ``MODEL.NAME`` is for that model alone and
    goes before a plain name.
    """
    cls = model_class(model)
    mine = for_model(model, grid)
    combinations = []
    for values in itertools.product(*mine.values()):
        chosen = dict(zip(mine, values, strict=True))
        combinations.append(
            (
                {**options, **{k: v for k, v in chosen.items() if k not in cls.default_weights}},
                {**weights, **{k: v for k, v in chosen.items() if k in cls.default_weights}},
            )
        )
    return combinations


def all_models(data: Dataset) -> list[str]:
    """Return every registered model that makes sense on ``data``, baselines first.

    The oracle is there only where the truth is planted, and models that read histories only where the split follows time.
    """
    ordered = history_note(data, MODELS) is None
    named = [
        name
        for name, model in MODELS.items()
        if (name != "oracle" or data.truth is not None) and (model.batches == "pairs" or ordered)
    ]
    return sorted(named, key=lambda name: MODELS[name].trainable)


def history_note(data: Dataset, models: Iterable[str]) -> str | None:
    """Return why those of ``models`` that read histories cannot be judged on ``data``, in a sentence; None where they can."""
    readers = [name for name in models if model_class(name).batches != "pairs"]
    if not readers or (has_order(data) and follows_time(data)):
        return None
    names = " and ".join(filter(None, [", ".join(readers[:-1]), readers[-1]]))
    verb = "reads histories" if len(readers) == 1 else "read histories"
    if not has_order(data):
        return f"{names} {verb}, and these interactions have no time or position."
    return (
        f"{names} {verb} and predict{'s' * (len(readers) == 1)} what comes next, but this split holds out items from before a "
        "history's end: judge with --split leave-one-out."
    )


class BrokenOff(KeyboardInterrupt):
    """A comparison ended by Ctrl-C; ``table`` is what :func:`compare_models` returns of the models done until then."""

    def __init__(self, message: str, table: dict[str, Any]) -> None:
        super().__init__(message)
        self.table = table


def split_names(model: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return ``given`` as (options, weights) of ``model``; names it does not know are left out."""
    cls = model_class(model)
    mine = for_model(model, given)
    weights = {k: v for k, v in mine.items() if k in cls.default_weights}
    return {k: v for k, v in mine.items() if k not in weights}, weights


def for_model(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``given`` says to ``model``: names it knows, ``MODEL.NAME`` without the model and before plain names."""
    known = {*model_class(model).default_weights, *model_options(model)} - {"seed"}
    own = {name.removeprefix(f"{model}."): value for name, value in given.items() if name.startswith(f"{model}.")}
    return {k: v for k, v in {**given, **own}.items() if k in known}


def compare_models(
    data: Dataset,
    models: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    given: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    metric: str = "recall@20",
    progress: bool = True,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
    strict: bool = True,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Train every model on every seed and return a table as a plain dictionary.

    With a grid, each model's setting is chosen by ``metric`` on **valid** with the first seed; test is never looked at.

    Args:
        data: what to compare on.
        models: registered names; see :func:`all_models`.
        seeds: one run each.
        given: options and weights by name, for every model that knows them; ``MODEL.NAME`` for one model alone.
        grid: name, or ``MODEL.NAME``, -> values to try.
        settings: of :func:`~mmrec_teach.training.fit`.
        out: where run folders go.
        metric: chooses settings and epochs, and is compared in pairs.
        progress: show bars.
        device: where to train.
        report: called with a sentence as each run ends.
        strict: raise the first error. Otherwise a model that cannot be built on these data, or whose training fails, is
            reported and left out, and the others go on.
        notes: sentences that belong below the table.

    Returns:
        ``{"data", "protocol", "rows": [{"model", "options", "weights", "seeds", "valid", "test", "test_train_mask", "cold",
        "seconds", …}], "left_out": {model: reason}, "pairs": […], "notes": […]}``. A metrics entry maps a metric to ``{"mean", "std",
        "values"}`` over seeds; ``interval`` is the bootstrap interval over users of the first seed's test ``metric``; ``pairs``
        compares the best model on valid (the oracle aside) with each other one, user by user; ``notes`` are followed by one
        on models that read histories where the split does not follow time.

    Raises:
        OptionError: an unknown model, or a given or grid name that none of the models knows.
        MMRecTeachError: ``strict`` and a model fails, or not a single model is left.
        BrokenOff: Ctrl-C after at least one model was done.
    """
    if not models:
        raise OptionError("no model to compare", where="models", expected="at least one name")
    given, grid, settings = dict(given or {}), dict(grid or {}), {**(settings or {}), "metric": metric}
    for name in (*given, *grid):
        if not any(for_model(m, {name: None}) for m in models):
            known = {n for m in models for n in (*model_class(m).default_weights, *model_options(m))}
            raise OptionError(
                "none of the models has a loss term or option of that name",
                where="options",
                found=repr(name),
                expected=", ".join(sorted(known - {"seed"})),
            )
    check_stopping(**{k: v for k, v in settings.items() if k in ("epochs", "patience", "metric", "metrics_every")})
    for model in models:  # a wrong value should not wait for the first model's training
        for _, weights in configurations(data, model, grid, *split_names(model, given)):
            model_class(model).check_weights(weights)
    key, rows, evaluations = data_key(data), [], {}
    left_out: dict[str, str] = {}

    def one(model: str, options: dict, weights: dict, seed: int) -> Run:
        return run(data, RunConfig(key, model, options, weights, seed, settings), out, progress=progress, device=device)

    def runs_of(model: str) -> tuple[dict, dict, list, list[Run]]:
        options, weights = split_names(model, given)
        tried = []
        choices = configurations(data, model, grid, options, weights)
        if len(choices) > 1:
            for o, w in choices:
                value = one(model, o, w, seeds[0]).metrics["valid"][metric]
                tried.append({"options": o, "weights": w, "valid": value})
                report(f"{model} {_short(o, w)}: {metric} {value:.4f} on valid")
            best = max(tried, key=lambda t: t["valid"])
            options, weights = best["options"], best["weights"]
        elif choices:
            options, weights = choices[0]
        runs = []
        for seed in seeds:
            done = one(model, options, weights, seed)
            values = ", ".join(f"{done.metrics[split][metric]:.4f} on {split}" for split in ("valid", "test"))
            where = "" if done.folder is None else f" ({'found in' if done.reused else 'kept in'} {done.folder})"
            note = f"; {done.metrics['note']}" if "note" in done.metrics else ""
            count = done.metrics.get("parameters", {"trained": 0, "all": 0})
            if count["trained"] < count["all"]:
                note += f"; {count['trained']:,} of {count['all']:,} parameters trained ({count['trained'] / count['all']:.1%})"
            report(f"{model} seed {seed}: {metric} {values}{note}{where}")
            runs.append(done)
        return options, weights, tried, runs

    for number, model in enumerate(models, start=1):
        if len(models) > 3:
            report(f"Model {number} of {len(models)}: {model}")
        try:
            options, weights, tried, runs = runs_of(model)
        except (MMRecTeachError, MemoryError) as error:
            if strict or (number == len(models) and not rows):
                raise
            left_out[model] = " ".join(str(error).split()) or "not enough memory"
            report(f"{model} is left out. {left_out[model]}")
            continue
        except KeyboardInterrupt as stop:
            if not rows:
                raise
            how = "" if out is None else " The same command goes on from there: finished runs are only read."
            message = f"Broken off in model {number} of {len(models)}, {model}; the table is of the {len(rows)} done.{how}"
            raise BrokenOff(message, _table(data, key, settings, rows, left_out, evaluations, notes)) from stop
        evaluations[model] = runs[0].evaluation
        rows.append(_row(model, options, weights, tried, runs, metric))
    return _table(data, key, settings, rows, left_out, evaluations, notes)


def _table(
    data: Dataset,
    key: dict[str, Any],
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    left_out: dict[str, str],
    evaluations: dict[str, Evaluation],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Put together what :func:`compare_models` returns."""
    metric = settings["metric"]
    honest = [row for row in rows if row["model"] != "oracle"] or rows  # the planted truth is no competitor
    best = max(honest, key=lambda row: row["valid"][metric]["mean"])["model"]
    pairs = [
        {"models": [best, other], **compare_paired(evaluations[best], evaluations[other], metric).to_json()}
        for other in evaluations
        if other != best
    ]
    return {
        "data": key,
        "source": data.source,
        "metric": metric,
        "protocol": {
            "ranking": "all items, no sampling",
            "chosen_on": f"valid {metric}, train masked",
            "test": "train and valid masked",
            "test_train_mask": "only train masked, as in the published tables",
            "settings": settings,
        },
        "rows": rows,
        "left_out": left_out,
        "pairs": pairs,
        "notes": [*notes, *filter(None, [history_note(data, evaluations)])],
    }


def _row(model: str, options: dict, weights: dict, tried: list, runs: list[Run], metric: str) -> dict[str, Any]:
    def over_seeds(section: str) -> dict[str, dict[str, Any]]:
        names = runs[0].metrics[section]
        values = {n: [r.metrics[section][n] for r in runs] for n in names}
        return {
            n: {"mean": statistics.fmean(v), "std": statistics.stdev(v) if len(v) > 1 else None, "values": v}
            for n, v in values.items()
        }

    return {
        "model": model,
        "options": options,
        "weights": weights,
        "tried": tried,
        "seeds": [r.config.seed for r in runs],
        "best_epochs": [r.metrics.get("best_epoch") for r in runs],
        "seconds": [r.metrics["seconds"] for r in runs],
        "folders": [None if r.folder is None else r.folder.name for r in runs],
        "interval": list(runs[0].evaluation.interval(metric)),
        **{section: over_seeds(section) for section in ("valid", "test", "test_train_mask", "cold")},
    }


def _short(options: Mapping[str, Any], weights: Mapping[str, float]) -> str:
    return ", ".join(f"{k}={v}" for k, v in {**options, **weights}.items()) or "defaults"


def read_comparison(path: str | Path) -> dict[str, Any]:
    """Return a table written by ``mmrec-teach compare --json``.

    Raises:
        DataError: no such file, or not such a table.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        _ = table["rows"], table["metric"], table["data"]["name"], table["protocol"], table["pairs"]
    except OSError:
        raise DataError("no such file", where=str(path), expected="a table written by compare --json") from None
    except (ValueError, KeyError, TypeError):
        raise DataError("not a comparison", where=str(path), expected="a table written by compare --json") from None
    return table
