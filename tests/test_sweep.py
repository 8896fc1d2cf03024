"""A grid of settings x seeds: trained once, resumable, in processes that may be killed and on a Dask cluster."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress

import numpy as np
import psutil
import pytest
from conftest import make_tiny

from mmrec_teach.cli import main
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import load_model
from mmrec_teach.training import sweep as module
from mmrec_teach.training.pool import run_jobs
from mmrec_teach.training.sweep import Plan, make_plan, read_sweep, sample_rows, sweep

QUICK = {"epochs": 3, "lr": 0.05, "batch_size": 64, "metric": "recall@10"}
GRID = {"l2": [0.1, 0.001], "n_layers": [1, 2]}
ONE = {"processes": 1, "progress": False, "device": "cpu", "settings": QUICK}


def numbers(outcome) -> list:
    """What the finished runs say, without how long they took."""
    return [
        ({**p.record["metrics"], "seconds": 0}, p.record["gauges"], p.record["curve"], p.tables()["item/final"][1].tolist())
        for p in outcome.sweep.points()
    ]


# -- workers that die ----------------------------------------------------------------------------------------------------
def die_once(folder: str, job: str) -> str:
    """A job; the one called "dies" kills its own process the first time, "dies always" every time."""
    marker = os.path.join(folder, job)
    if job == "dies always" or (job == "dies" and not os.path.exists(marker)):
        with open(marker, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "fails":
        raise OptionError("no such thing", where="there")
    return f"{job} done"


def test_a_killed_worker_loses_only_its_job_which_is_tried_again(tmp_path):
    jobs = ["a", "dies", "fails", "dies always", "b"]
    told = {jobs[d.job]: d for d in run_jobs(die_once, str(tmp_path), jobs, processes=2, tries=2)}
    assert set(told) == set(jobs)
    assert [told[name].result for name in ("a", "dies", "b")] == ["a done", "dies done", "b done"]
    assert told["fails"].error == "there: no such thing."
    assert "killed by signal 9" in told["dies always"].error
    assert (tmp_path / "dies always").read_text() == "xx"
    assert not multiprocessing.active_children()


# -- one sweep ---------------------------------------------------------------------------------------------------------
def test_two_processes_give_the_numbers_of_one_and_nothing_is_trained_twice(tiny, tmp_path, monkeypatch):
    said = []
    settings = {**ONE, "seeds": [0, 1], "given": {"dim": 4}}
    two = sweep(tiny, "lightgcn", GRID, tmp_path / "two", **{**settings, "processes": 2, "report": said.append})
    assert (two.trained, two.found, two.failed) == (8, 0, ())
    assert said[0] == "4 grid points x 2 seeds = 8 runs of lightgcn; 0 finished before, 8 to train in 2 processes"
    assert len(said) == 9
    one = sweep(tiny, "lightgcn", {"l2": [0.001]}, tmp_path / "one", **{**settings, "given": {"dim": 4, "n_layers": 1}})
    assert numbers(one) == numbers(two)[:2]

    def never(*args, **kwargs):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(module, "train_point", never)
    again = sweep(tiny, "lightgcn", GRID, tmp_path / "two", **settings)
    assert (again.trained, again.found) == (0, 8)

    # what a run folder holds
    point = again.sweep.points()[0]
    assert {p.name for p in point.folder.iterdir()} == {
        "best.pt", "config.json", "history.json", "metrics.json", "point.json", "tables.npz"
    }  # fmt: skip
    assert (point.value("l2"), point.value("n_layers"), point.seed) == (0.001, 1, 0)
    model = load_model(point.folder / "best.pt", tiny)
    with model.evaluating():
        views = {name: table.numpy() for name, table in model.views().items()}
    assert module.gauges_of(views, tiny) == pytest.approx(point.record["gauges"])
    assert {"effective rank", "uniformity", "alignment"} == set(point.record["gauges"])
    for name, (rows, table) in point.tables().items():
        np.testing.assert_allclose(table, views[name][rows], atol=2e-3 * np.abs(views[name]).max())
    assert [r["epoch"] for r in point.record["curve"]] == [1, 2, 3]
    assert {"recall@10", "ndcg@10", "coverage@10"} <= set(point.record["metrics"]["valid"])


def test_a_sweep_may_grow_but_not_change(tiny, tmp_path):
    first = sweep(tiny, "bpr", {"l2": [0.1]}, tmp_path / "s", given={"dim": 4}, **ONE)
    more = sweep(tiny, "bpr", {"l2": [0.01]}, tmp_path / "s", given={"dim": 4}, seeds=[1], **ONE)
    assert (first.trained, more.found, more.trained) == (1, 1, 3)
    assert read_sweep(tmp_path / "s").plan.grid == {"l2": [0.01, 0.1]}
    same = {"data": tiny, "grid": {"l2": [0.1]}, "given": {"dim": 4}, **ONE}
    for change, says in (
        ({"data": make_tiny(1)}, "other data"),
        ({"given": {"dim": 8}}, "dim 4, expected dim 8"),
        ({"settings": {**QUICK, "lr": 0.01}}, "lr 0.05, expected lr 0.01"),
        ({"grid": {"dim": [4]}, "given": {}}, "other given"),
        ({"rows": 7}, "other rows"),
    ):
        words = {**same, **change}
        with pytest.raises(DataError, match=says):
            sweep(words.pop("data"), "bpr", words.pop("grid"), tmp_path / "s", **words)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other things"):
        sweep(tiny, "bpr", {"l2": [0.1]}, tmp_path / "full", **ONE)


def test_a_run_that_diverges_does_not_end_the_others(tiny, tmp_path, monkeypatch):
    from mmrec_teach.training import TrainingError

    real = module.run

    def shaky(data, config, *args, **kwargs):
        if config.weights["l2"] == 1.0:
            raise TrainingError("The loss is no longer a finite number.")
        return real(data, config, *args, **kwargs)

    monkeypatch.setattr(module, "run", shaky)
    words = {"grid": {"l2": [0.1, 1.0]}, "given": {"dim": 4}, **ONE}
    outcome = sweep(tiny, "bpr", out=tmp_path / "s", **words)
    assert outcome.trained == 1
    assert [(c.weights["l2"], why) for c, why in outcome.failed] == [(1.0, "The loss is no longer a finite number.")]
    monkeypatch.setattr(module, "run", real)
    again = sweep(tiny, "bpr", out=tmp_path / "s", **words)
    assert (again.trained, again.found, again.failed) == (1, 1, ())


# -- from the command line, interrupted and killed ----------------------------------------------------------------------
COMMAND = ["sweep", "--model", "bpr", "--data", "bazaar/attic", "--options", "dim=4", "--grid", "l2=0.1,0.01"]
LONG = [*COMMAND, "--epochs", "150", "--patience", "150", "--lr", "0.005", "--batch-size", "256", "--device", "cpu", "--quiet"]


def wait_for(what, process=None):
    for _ in range(9000):
        if found := what():
            return found
        assert process is None or process.poll() is None, "the sweep ended too early"
        time.sleep(0.02)
    raise AssertionError("waited for three minutes in vain")


def workers_of(process) -> set[int]:
    found = set()
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a killed one, not yet cleared away
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_kill_a_worker_interrupt_and_go_on(tmp_path):
    """A worker is killed: its run goes on. Ctrl-C: the same command goes on. The numbers are those of a quiet sweep."""
    out = tmp_path / "s"
    program = [sys.executable, "-c", "import sys; from mmrec_teach.cli import main; sys.exit(main())"]
    words = [*LONG, "--processes", "2", "--out", str(out)]

    def checkpoints():
        return list(out.rglob("checkpoint.pt"))

    process = subprocess.Popen([*program, *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True)
    try:
        wait_for(checkpoints, process)
        before = workers_of(process)
        assert len(before) == 2
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        fresh = wait_for(lambda: workers_of(process) - before, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, errors = process.communicate(timeout=180)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].endswith("The same command goes on from there."), errors
    assert "Traceback" not in errors
    assert not [pid for pid in fresh if psutil.pid_exists(pid)]
    kept = read_sweep(out)
    assert checkpoints(), "what was broken off left nothing to go on from"
    assert main([*LONG, "--processes", "1", "--out", str(out)]) == 0
    assert not list(out.rglob("checkpoint.pt"))
    # a run that was killed and interrupted equals one that never was
    config = kept.plan.runs()[0]
    quiet = tmp_path / "quiet"
    assert main([*("l2=0.01" if w == "l2=0.1,0.01" else w for w in LONG), "--processes", "1", "--out", str(quiet)]) == 0
    (alone,), point = read_sweep(quiet).points(), kept.point(config)
    assert alone.record["metrics"] | {"seconds": 0} == point.record["metrics"] | {"seconds": 0}
    assert alone.record["curve"] == point.record["curve"]


def test_two_commands_in_one_folder(tiny, tmp_path):
    plan = make_plan(tiny, "bpr", {"l2": [0.1]}, given={"dim": 4}, settings=QUICK)
    here = module.open_sweep(tmp_path / "s", plan)
    with module._alone(here.folder), pytest.raises(DataError, match="another sweep is at work"):
        sweep(tiny, "bpr", {"l2": [0.1]}, tmp_path / "s", given={"dim": 4}, **ONE)


# -- on a cluster --------------------------------------------------------------------------------------------------------
def test_on_dask(tiny, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    words = {"grid": {"l2": [0.1, 0.01]}, "given": {"dim": 4}}
    here = sweep(tiny, "bpr", out=tmp_path / "here", **words, **ONE)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        there = sweep(tiny, "bpr", out=tmp_path / "there", scheduler=address, **words, **ONE)
        assert (there.trained, there.failed) == (2, ())
        assert numbers(there) == numbers(here)
        assert list((tmp_path / "there").rglob("best.pt"))
        # a worker that does not see the folder: the numbers come back all the same
        monkeypatch.setattr(module, "_token", lambda folder: uuid.uuid4().hex)
        far = sweep(tiny, "bpr", out=tmp_path / "far", scheduler=address, **words, **ONE)
    assert numbers(far) == numbers(here)
    assert not list((tmp_path / "far").rglob("best.pt"))


def test_no_scheduler(tiny, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(module, "CONNECT_SECONDS", 1)
    for address in ("nowhere", "tcp://127.0.0.1:9"):
        with pytest.raises(OptionError, match="no Dask scheduler answers"):
            sweep(tiny, "bpr", {"l2": [0.1]}, tmp_path / "s", scheduler=address, given={"dim": 4}, **ONE)


# -- bad grids -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"grid": {}}, "an empty grid"),
        ({"grid": {"l2": []}}, "no values"),
        ({"grid": {"cl": [1]}}, "no loss term or option of that name"),
        ({"grid": {"l2": [0.1, -1]}}, "no number from 0 up"),
        ({"grid": {"l2": [0.1, "b"]}}, "no number from 0 up"),
        ({"grid": {"l2": [1, 1.0]}}, "stands twice"),
        ({"grid": {"seed": [1, 2]}}, "seeds are no part"),
        ({"grid": {"dim": [4, 0]}}, "embedding size out of range"),
        ({"grid": {"dim": [4, "x"]}}, "not the kind of value"),
        ({"given": {"l2": 0.1}}, "fixed and in the grid"),
        ({"given": {"cl": 0.1}}, "no loss term or option"),
        ({"seeds": [1, 1]}, "stands twice"),
        ({"seeds": []}, "no values"),
        ({"settings": {"lr": 0}}, "step size out of range"),
        ({"settings": {"epochs": 0}}, "epochs out of range"),
        ({"settings": {"metric": "recall"}}, "without a cut-off"),
        ({"views": ["item/none"]}, "no such view"),
        ({"rows": 1}, "rows out of range"),
        ({"model": "popularity"}, "nothing to train"),
        ({"model": "bprr"}, "unknown model"),
        ({"processes": 0}, "processes out of range"),
    ],
)
def test_bad_grids_are_refused_before_any_training(tiny, tmp_path, change, says):
    words = {"model": "bpr", "grid": {"l2": [0.1]}, "processes": 1, **change}
    with pytest.raises(OptionError, match=says):
        sweep(tiny, out=tmp_path / "s", **words)
    assert not (tmp_path / "s").exists()


def test_a_plan_survives_json(tiny):
    plan = make_plan(tiny, "vbpr", {"l2": [1, 0.1], "modalities": [("text",), ("text", "image")]}, seeds=[3, 1], settings=QUICK)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert [c.folder for c in again.runs()] == [c.folder for c in plan.runs()]
    assert again.runs()[0].options == {"modalities": ("text",)}
    assert plan.grid["l2"] == [0.1, 1.0]
    assert plan.views == ("item/final", "item/id", "item/content", "user/final")


def test_a_sample_of_rows():
    assert sample_rows(5, 9).tolist() == [0, 1, 2, 3, 4]
    rows = sample_rows(1000, 20)
    assert len(set(rows.tolist())) == 20
    assert rows.tolist() == sorted(rows.tolist())
    np.testing.assert_array_equal(rows, sample_rows(1000, 20))


def test_folders_that_are_no_sweeps(tmp_path):
    with pytest.raises(DataError, match="no sweep here"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="another version"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(DataError, match="not a sweep's manifest"):
        read_sweep(tmp_path)
