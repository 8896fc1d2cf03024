"""A grid of weights and options x seeds, trained once and kept: what an atlas is drawn from.

Every run of the grid has a run folder (see :func:`~mmrec_teach.training.experiments.run`) with two files more: ``tables.npz``, the
embedding tables of a sample of rows, and ``point.json``, its numbers. ``point.json`` is written last, so a run that has it is
whole, and the same command trains only those that have none.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from mmrec_teach.data import Dataset, load
from mmrec_teach.errors import DataError, OptionError, check_whole
from mmrec_teach.evaluation import diagnostics
from mmrec_teach.files import atomic_path, write_json
from mmrec_teach.models import Recommender, create, model_class, model_options
from mmrec_teach.training.experiments import RunConfig, configurations, data_key, run
from mmrec_teach.training.fit import check_stopping
from mmrec_teach.training.loop import Trainer, pick_device
from mmrec_teach.training.pool import Done, cores, run_jobs, sentence_of

FORMAT = 1
MANIFEST, RECORD, TABLES = "sweep.json", "point.json", "tables.npz"
USUAL_VIEWS = ("item/final", "item/id", "item/content", "user/final")
CONNECT_SECONDS = 10
PAIRS_MEASURED = 20_000  # user-item pairs that alignment is measured on, at most


# -- what is to be trained -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Plan:
    """Everything that decides a sweep's numbers.

    Attributes:
        data: see :func:`~mmrec_teach.training.experiments.data_key`.
        model: registered name.
        grid: loss term or option -> its values, numbers in ascending order.
        given: fixed weights and options.
        seeds: one run of every grid point for each.
        settings: of :func:`~mmrec_teach.training.fit`, ``metric`` among them.
        views: embedding tables to keep.
        rows: rows kept of each table, at most (a fixed sample).
    """

    data: Mapping[str, Any]
    model: str
    grid: Mapping[str, Sequence[Any]]
    given: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    views: Sequence[str] = ()
    rows: int = 1500

    def settings_of_points(self) -> Iterator[dict[str, Any]]:
        """Yield name -> value of every grid point; the last name changes fastest."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))

    def runs(self) -> list[RunConfig]:
        """Return every run's configuration, a grid point's seeds one after the other."""
        cls = model_class(self.model)
        runs = []
        for point in self.settings_of_points():
            both = {**self.given, **point}
            weights = {k: v for k, v in both.items() if k in cls.default_weights}
            options = {k: v for k, v in both.items() if k not in weights}
            runs += [RunConfig(self.data, self.model, options, weights, seed, self.settings) for seed in self.seeds]
        return runs

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "data": dict(self.data),
            "model": self.model,
            "grid": {k: list(v) for k, v in self.grid.items()},
            "given": dict(self.given),
            "seeds": list(self.seeds),
            "settings": dict(self.settings),
            "views": list(self.views),
            "rows": self.rows,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Plan:
        """Return the plan that :meth:`to_json` wrote."""
        grid = {name: [_plain(v) for v in values] for name, values in value["grid"].items()}
        given = {name: _plain(v) for name, v in value["given"].items()}
        rest = {name: value[name] for name in ("data", "model", "seeds", "settings", "views", "rows")}
        return Plan(grid=grid, given=given, **rest)


def _plain(value: Any) -> Any:
    """A list of JSON is a tuple of options."""
    return tuple(value) if isinstance(value, list) else value


def make_plan(
    data: Dataset,
    model: str,
    grid: Mapping[str, Sequence[Any]],
    *,
    seeds: Sequence[int] = (0,),
    given: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    views: Sequence[str] | None = None,
    rows: int = 1500,
) -> Plan:
    """Return a checked plan: whatever can be found wrong without training is found here.

    Every value of the grid builds the model once, so that a bad option does not wait for its turn.

    Args:
        data, model: what to train on what.
        grid: loss term or option -> values.
        seeds: whole numbers.
        given: fixed weights and options.
        settings: of :func:`~mmrec_teach.training.fit`.
        views: tables to keep; None keeps those of ``USUAL_VIEWS`` that the model has.
        rows: rows kept of each table, at most.

    Raises:
        OptionError: an unknown or untrainable model, a name it does not know, a value it does not take, a value or seed that
            stands twice, an empty grid, a setting out of range, an unknown view.
    """
    cls, given, settings = model_class(model), dict(given or {}), {"metric": "recall@20", **(settings or {})}
    if not cls.trainable:
        raise OptionError(f"{model} has nothing to train", where="model", fix="Compare it with mmrec-teach compare")
    if not grid:
        raise OptionError("an empty grid", where="grid", expected="at least one name with values, such as l2=0.001,0.01")
    check_whole("rows", rows, 2, "rows out of range")
    known = [*cls.default_weights, *(name for name in model_options(model) if name != "seed")]
    for name in (*grid, *given):
        if name == "seed":
            raise OptionError("seeds are no part of the grid", where="grid", found="'seed'", fix="Name them with --seeds 0,1,2")
        if name not in known:
            raise OptionError(
                f"{model} has no loss term or option of that name", where="grid", found=repr(name), expected=", ".join(known)
            )
    if both := sorted(set(grid) & set(given)):
        raise OptionError("a name is fixed and in the grid", where="grid", found=repr(both[0]), expected="one of the two")
    _check_distinct("seeds", list(seeds))
    for name, values in grid.items():
        _check_distinct(f"grid {name}", list(values))
    steering = ("epochs", "patience", "metric", "metrics_every")
    check_stopping(**{k: v for k, v in settings.items() if k in steering})
    typed = {name: [_typed(model, name, v) for v in values] for name, values in grid.items()}
    plan = Plan(
        data_key(data),
        model,
        {name: _in_order(values) for name, values in typed.items()},
        {name: _typed(model, name, v) for name, v in given.items()},
        sorted(seeds),
        settings,
        rows=rows,
    )
    trainer_settings = {k: v for k, v in settings.items() if k not in steering}
    tables: Mapping[str, Any] = {}
    for name, values in plan.grid.items():  # one value at a time: every combination could take long to build
        for value in values:
            point = {**{n: v[0] for n, v in plan.grid.items()}, name: value}
            (options, weights), *_ = configurations(data, model, {}, *_split(model, {**plan.given, **point}))
            cls.check_weights(weights)
            if tables and name in cls.default_weights:
                continue
            built = create(model, data, **options, seed=int(plan.seeds[0]))
            Trainer(built, data, weights=weights, **{**trainer_settings, "device": "cpu"})
            with built.evaluating():
                tables = built.views()
    wanted = [v for v in USUAL_VIEWS if v in tables] or list(tables) if views is None else list(views)
    for view in wanted:
        if view not in tables:
            raise OptionError(f"{model} has no such view", where="views", found=repr(view), expected=", ".join(tables))
    return Plan(plan.data, model, plan.grid, plan.given, plan.seeds, plan.settings, tuple(wanted), rows)


def _split(model: str, both: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    weights = {k: v for k, v in both.items() if k in model_class(model).default_weights}
    return {k: v for k, v in both.items() if k not in weights}, weights


def _typed(model: str, name: str, value: Any) -> Any:
    """Return 1 as 1.0 where the model takes any number: 1 and 1.0 are one setting, in one folder."""
    takes_any = name in model_class(model).default_weights or isinstance(model_options(model).get(name), float)
    return float(value) if takes_any and isinstance(value, int) and not isinstance(value, bool) else value


def _check_distinct(where: str, values: list[Any]) -> None:
    if not values:
        raise OptionError("no values", where=where, expected="at least one")
    for n, value in enumerate(values):
        if any(value == earlier and isinstance(value, bool) == isinstance(earlier, bool) for earlier in values[:n]):
            raise OptionError("a value stands twice", where=where, found=repr(value), expected="each value once")


def _in_order(values: list[Any]) -> list[Any]:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return sorted(values) if numbers else values


# -- one run -------------------------------------------------------------------------------------------------------------
def sample_rows(n: int, most: int) -> np.ndarray:
    """Return the rows of a table of ``n`` that are kept: all, or the same ``most`` of them every time, in ascending order."""
    if n <= most:
        return np.arange(n, dtype=np.int32)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False)).astype(np.int32)


def gauges_of(views: Mapping[str, Any], data: Dataset, same_space: bool = True) -> dict[str, float]:
    """Return what the embedding space looks like, measured in the full tables, by the names the what-if panel uses.

    "effective rank" and "uniformity" of item/final; "alignment" of the users and items of training pairs; and of ID and content of
    the same items "ID-content distance", "modality gap", "CKA" and "neighbour overlap" (of the ten nearest). What a model does not
    define is left out.

    Args:
        views: a model's tables by name.
        data: what it was trained on.
        same_space: False where a distance between an ID and a content vector means nothing, see the model's class.
    """
    views = {name: torch.as_tensor(table).detach() for name, table in views.items()}
    found: dict[str, float] = {}
    items, users = views.get("item/final"), views.get("user/final")
    if items is not None:
        found["effective rank"] = diagnostics.effective_rank(items)
        found["uniformity"] = diagnostics.uniformity(items)
    if items is not None and users is not None and items.shape[1] == users.shape[1]:
        pairs = sample_rows(len(data.train), PAIRS_MEASURED)
        found["alignment"] = diagnostics.alignment(users[data.train.users[pairs]], items[data.train.items[pairs]])
    if "item/id" in views and "item/content" in views:
        x, y = views["item/id"], views["item/content"]
        both = x.any(1) & y.any(1)  # a missing picture or text is a row of zeros
        x, y = x[both], y[both]
        if len(x) > 2:
            if same_space and x.shape[1] == y.shape[1]:
                found["ID-content distance"] = diagnostics.alignment(x, y)
                found["modality gap"] = diagnostics.modality_gap(x, y)
            found["CKA"] = diagnostics.linear_cka(x, y)
            found["neighbour overlap"] = diagnostics.knn_overlap(x, y, min(10, len(x) - 1))
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


@dataclass(frozen=True)
class Task:
    """What a worker must know beside the data and the run: where it may write and what to keep."""

    folder: str
    token: str
    views: tuple[str, ...]
    rows: int
    threads: int
    device: str


def train_point(shared: tuple[Dataset, Task], config: RunConfig) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train one run; return its record and its tables, as :data:`RECORD` and :data:`TABLES` keep them.

    A worker that sees the sweep's folder (another machine may not) leaves checkpoints there.

    Args:
        shared: the data and the task.
        config: the run.
    """
    data, task = shared
    threads = torch.get_num_threads()
    torch.set_num_threads(task.threads)  # always the same number: a sum's order, and so the result, depends on it
    try:
        with contextlib.ExitStack() as stack:
            out: Path = Path(task.folder) / "runs"
            if _token(Path(task.folder)) != task.token:
                out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmrec-sweep-")))
            done = run(data, config, out, progress=False, device=task.device)
            history = json.loads((done.folder / "history.json").read_text(encoding="utf-8"))
            return _record(data, done.model, config, done.metrics, history, task)
    finally:
        torch.set_num_threads(threads)


def _record(
    data: Dataset, model: Recommender, config: RunConfig, metrics: dict[str, Any], history: list[dict], task: Task
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with model.evaluating():
        views = {name: table.detach().float().cpu() for name, table in model.views().items()}
    tables: dict[str, np.ndarray] = {}
    measured: dict[str, dict[str, Any]] = {}
    for name in task.views:
        full = views[name]
        rows = sample_rows(len(full), task.rows)
        kept = full.numpy()[rows]
        scale = float(np.abs(kept).max(initial=0.0)) or 1.0  # small numbers would lose their digits in 16 bits
        tables[name] = (kept / scale).astype(np.float16)
        tables[f"rows {name}"] = rows
        rank = diagnostics.effective_rank(full)
        measured[name] = {"rows": len(full), "dim": full.shape[1], "scale": scale, "effective_rank": _finite(rank)}
    curve = [{"epoch": r["epoch"], "losses": r["losses"], "metrics": r["metrics"]} for r in history]
    record = {
        "config": config.to_json(),
        "metrics": metrics,
        "gauges": gauges_of(views, data, model.same_space),
        "views": measured,
        "curve": curve,
    }
    return record, tables


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# -- the folder ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Point:
    """A finished run of a sweep: ``record`` as in :data:`RECORD`, and where it lies."""

    record: Mapping[str, Any]
    folder: Path

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.record["config"]["seed"])

    def value(self, name: str) -> Any:
        """Return the value of a loss weight or option of the grid."""
        config = self.record["config"]
        return _plain(config["weights"][name] if name in config["weights"] else config["options"][name])

    def tables(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return view -> (rows (m,), table (m, d) float32)."""
        try:
            with np.load(self.folder / TABLES, allow_pickle=False) as kept:
                views = self.record["views"]
                return {v: (kept[f"rows {v}"], kept[v].astype(np.float32) * np.float32(views[v]["scale"])) for v in views}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                "not a sweep's tables",
                where=str(self.folder / TABLES),
                found=str(error),
                fix="Remove its folder and sweep again",
            ) from None


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder: its plan, and how to get its data again (``load``: source and options, or None)."""

    folder: Path
    plan: Plan
    command: str = ""
    load: Mapping[str, Any] | None = None

    def folder_of(self, config: RunConfig) -> Path:
        """Return where a run lies."""
        return self.folder / "runs" / self.plan.data["name"] / config.folder

    def point(self, config: RunConfig) -> Point | None:
        """Return a finished run, or None.

        Raises:
            DataError: its record cannot be read.
        """
        file = self.folder_of(config) / RECORD
        if not file.is_file():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            _ = record["metrics"]["valid"], record["gauges"], record["views"], record["curve"]
        except (ValueError, KeyError, TypeError):
            raise DataError(
                "not a sweep's record", where=str(file), fix="Remove it: the run is then read or trained anew"
            ) from None
        return Point(record, file.parent)

    def points(self) -> list[Point]:
        """Return all finished runs, in the order of the plan."""
        return [point for config in self.plan.runs() if (point := self.point(config)) is not None]


def read_sweep(folder: str | os.PathLike) -> Sweep:
    """Open a sweep's folder.

    Raises:
        DataError: there is none, or it is of another version.
    """
    file = Path(folder) / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DataError(
                "a sweep of another version", where=str(file), found=manifest["format"], expected=f"format {FORMAT}"
            )
        return Sweep(Path(folder), Plan.from_json(manifest["plan"]), manifest["command"], manifest["load"])
    except OSError:
        raise DataError("no sweep here", where=str(folder), expected="a folder written by mmrec-teach sweep") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("not a sweep's manifest", where=str(file), found=f"{type(error).__name__}: {error}") from None


def _token(folder: Path) -> str | None:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["token"]
    except (OSError, ValueError, KeyError):
        return None


def open_sweep(folder: str | os.PathLike, plan: Plan, command: str = "", source: Mapping[str, Any] | None = None) -> Sweep:
    """Write the manifest of ``plan`` into ``folder``, or go on with the one there, its grid and seeds grown by those of ``plan``.

    Raises:
        DataError: a sweep of other data, model or settings is there, or files that are no sweep.
    """
    folder = Path(folder)
    if (folder / MANIFEST).exists():
        there = read_sweep(folder)
        old, new = there.plan.to_json(), json.loads(json.dumps(plan.to_json()))
        for name in ("data", "model", "given", "settings", "views", "rows"):
            if old[name] != new[name]:
                raise DataError(
                    f"a sweep with other {'data' if name == 'data' else name} is in this folder",
                    where=str(folder),
                    found=_difference(old[name], new[name]),
                    expected=_difference(new[name], old[name]),
                    fix="Choose another folder with --out",
                )
        if list(old["grid"]) != list(new["grid"]):
            raise DataError(
                "a sweep of other names is in this folder",
                where=str(folder),
                found=", ".join(old["grid"]),
                expected=", ".join(new["grid"]),
                fix="Choose another folder with --out",
            )
        grid = {name: _in_order(_union(there.plan.grid[name], plan.grid[name])) for name in plan.grid}
        seeds = sorted(_union(there.plan.seeds, plan.seeds))
        plan = Plan(plan.data, plan.model, grid, plan.given, seeds, plan.settings, plan.views, plan.rows)
        if plan.to_json() == there.plan.to_json():
            return there
        command, source = command or there.command, source or there.load
    elif folder.is_dir() and any(p for p in folder.iterdir() if not p.name.startswith(".")):
        raise DataError(
            "the folder holds other things", where=str(folder), expected="an empty folder, or a sweep to go on with"
        )
    token = _token(folder) or uuid.uuid4().hex
    write_json(
        folder / MANIFEST, {"format": FORMAT, "token": token, "command": command, "load": source, "plan": plan.to_json()}
    )
    return Sweep(folder, plan, command, source)


def _union(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    return [*a, *(v for v in b if v not in a)]


def _difference(value: Any, other: Any) -> str:
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        names = [k for k in {**value, **other} if value.get(k) != other.get(k)]
        return ", ".join(f"{k} {value.get(k, 'not given')}" for k in names)
    return str(value)


def _write(sweep: Sweep, config: RunConfig, record: dict[str, Any], tables: dict[str, np.ndarray]) -> None:
    folder = sweep.folder_of(config)
    if not (folder / "config.json").is_file():  # trained where this folder is not seen
        write_json(folder / "config.json", config.to_json())
        write_json(folder / "metrics.json", record["metrics"])
    with atomic_path(folder / TABLES) as temporary:
        np.savez(temporary, **tables)
    write_json(folder / RECORD, record)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second command off the same folder: the two would train the same runs."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                "another sweep is at work in this folder", where=str(folder), fix="Wait for it, or choose another with --out"
            ) from None
        yield


# -- the sweep -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Outcome:
    """How a sweep went: its folder, runs trained now, runs found finished, and failed ones as (configuration, why)."""

    sweep: Sweep
    trained: int
    found: int
    failed: tuple[tuple[RunConfig, str], ...] = ()


def sweep(
    data: Dataset | str,
    model: str,
    grid: Mapping[str, Sequence[Any]],
    out: str | os.PathLike,
    *,
    seeds: Sequence[int] = (0,),
    given: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    views: Sequence[str] | None = None,
    rows: int = 1500,
    processes: int | None = None,
    scheduler: str | None = None,
    threads: int = 1,
    device: str = "auto",
    progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
    command: str = "",
    source: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train every grid point on every seed, each once; what is finished in ``out`` is kept, what was broken off goes on.

    Args:
        data: a data set, or what ``load`` takes.
        model, grid, seeds, given, settings, views, rows: see :func:`make_plan`.
        out: the sweep's folder; one with the same data and settings is gone on with, and may grow by values and seeds.
        processes: worker processes; None is one a core (one in all on a GPU), 1 trains in this process.
        scheduler: address of a Dask scheduler such as ``tcp://host:8786``; its workers train, this process writes.
        threads: of each worker.
        device: see :func:`~mmrec_teach.training.pick_device`.
        progress: show a bar.
        report: called with a sentence as each run ends.
        command: what the manifest says made it.
        source: source and options for ``load``, so that an atlas can name the items; known where ``data`` is a text.

    Raises:
        OptionError: see :func:`make_plan`; a number of processes out of range, a scheduler that does not answer.
        DataError: ``out`` holds something else, or another sweep is at work there.
        KeyboardInterrupt: Ctrl-C; all finished runs are kept, and what the others have done as well.
    """
    for name, value in (("processes", processes), ("threads", threads)):
        if value is not None:
            check_whole(name, value, 1, f"{name} out of range")
    if isinstance(data, str):
        source = source or {"source": data, "options": {}}
        data = load(data)
    chosen = pick_device(device) if scheduler is None else None
    plan = make_plan(data, model, grid, seeds=seeds, given=given, settings=settings, views=views, rows=rows)
    here = open_sweep(out, plan, command, source)
    with _alone(here.folder):
        configs = here.plan.runs()
        missing = [config for config in configs if here.point(config) is None]
        usual = 1 if chosen is not None and chosen.type == "cuda" else cores()
        processes = min(processes or usual, max(len(missing), 1))
        task = Task(
            str(here.folder.resolve()), _token(here.folder) or "", tuple(here.plan.views), here.plan.rows, threads, str(device)
        )
        place = f"on {scheduler}" if scheduler else f"in {processes} process{'es' if processes > 1 else ''}"
        n_points = len(configs) // len(here.plan.seeds)
        report(
            f"{n_points} grid point{'s' * (n_points != 1)} x {len(here.plan.seeds)} seed{'s' * (len(here.plan.seeds) != 1)} = "
            f"{len(configs)} runs of {model}; {len(configs) - len(missing)} finished before"
            + (f", {len(missing)} to train {place}" if missing else "")
        )
        failed = []
        metric = here.plan.settings["metric"]
        jobs = _jobs(data, task, missing, processes, scheduler)
        bar = tqdm(total=len(configs), initial=len(configs) - len(missing), unit="run", desc=model, disable=not progress)
        try:
            for done in jobs:
                config = missing[done.job]
                label = label_of(config, here.plan)
                if done.error:
                    failed.append((config, done.error))
                    report(f"{label} failed: {done.error}")
                else:
                    _write(here, config, *done.result)
                    told = done.result[0]["metrics"]
                    report(f"{label}: {metric} {told['valid'][metric]:.4f} on valid, {told['test'][metric]:.4f} on test")
                bar.update()
        except KeyboardInterrupt:
            left = sum(here.point(config) is None for config in configs)
            raise KeyboardInterrupt(
                f"Interrupted; {len(configs) - left} of {len(configs)} runs are finished. The same command goes on from there."
            ) from None
        finally:
            jobs.close()
            bar.close()
    return Outcome(here, len(missing) - len(failed), len(configs) - len(missing), tuple(failed))


def label_of(config: RunConfig, plan: Plan) -> str:
    """Return a run's grid point and seed in words."""
    both = {**config.options, **config.weights}
    return ", ".join([*(f"{name} = {both[name]}" for name in plan.grid), f"seed {config.seed}"])


def _jobs(data: Dataset, task: Task, configs: list[RunConfig], processes: int, scheduler: str | None) -> Iterator[Done]:
    if scheduler is not None:
        yield from _on_dask(data, task, configs, scheduler)
    elif processes > 1:
        yield from run_jobs(train_point, (data, task), configs, processes=processes, threads=task.threads)
    else:
        for number, config in enumerate(configs):
            try:
                result, error = train_point((data, task), config), ""
            except Exception as problem:
                result, error = None, sentence_of(problem)
            yield Done(number, result, error)


def _on_dask(data: Dataset, task: Task, configs: list[RunConfig], address: str) -> Iterator[Done]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise OptionError(
            "Dask is not installed", where="scheduler", fix="Install it with pip install 'mmrec_teach[cluster]'"
        ) from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(
            "no Dask scheduler answers",
            where="scheduler",
            found=f"{address!r}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            expected="an address such as tcp://host:8786",
        ) from None
    with client:
        if not configs:
            return
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise OptionError("the Dask cluster has no workers", where="scheduler", found=repr(address), fix="Start some first")
        shared = client.scatter((data, task))
        futures = [
            client.submit(train_point, shared, config, key=f"sweep-{task.token}-{config.folder}", pure=False, retries=2)
            for config in configs
        ]
        numbers = {future.key: number for number, future in enumerate(futures)}
        try:
            for future in as_completed(futures, loop=client.loop):
                number = numbers[future.key]
                if future.status == "finished":
                    yield Done(number, future.result())
                else:
                    problem = future.exception()
                    yield Done(number, None, sentence_of(problem) if problem else f"The cluster gave it up ({future.status}).")
        finally:
            client.cancel(futures)
