"""Run folders, comparisons and their command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import in_order, make_tiny
from model_contract import checkerboard

from mmrec_teach.cli import main
from mmrec_teach.cli.train import cells_of, parse_grid, parse_pairs, parse_seeds, parse_value, print_table
from mmrec_teach.data import load
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import BPR, MODELS
from mmrec_teach.training import TrainingError
from mmrec_teach.training.experiments import (
    RunConfig,
    all_models,
    compare_models,
    data_key,
    history_note,
    read_comparison,
    run,
)

QUICK = {"epochs": 8, "patience": 8, "lr": 0.05, "batch_size": 64, "metric": "recall@10"}


QUICK_SETTINGS = {"epochs": 60, "patience": 5, "batch_size": 1024, "lr": 0.005, "metrics_every": 1, "negatives": "warm"}


def config(data, **more) -> RunConfig:
    return RunConfig(data_key(data), "bpr", {"dim": 4}, {"l2": 0.01}, settings=QUICK, **more)


def test_a_run_folder_holds_everything_and_is_not_run_twice(tiny, tmp_path, monkeypatch):
    done = run(tiny, config(tiny), tmp_path, progress=False, device="cpu")
    assert {p.name for p in done.folder.iterdir()} == {"config.json", "history.json", "best.pt", "metrics.json"}
    assert json.loads((done.folder / "config.json").read_text()) == config(tiny).to_json()
    assert done.metrics["test"]["recall@10"] == pytest.approx(done.evaluation.mean("recall@10"))

    def never(*args, **kwargs):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("mmrec_teach.training.experiments.fit", never)
    again = run(tiny, config(tiny), tmp_path, progress=False, device="cpu")
    assert again.reused
    assert not done.reused
    assert again.metrics == done.metrics
    assert again.evaluation.means() == done.evaluation.means()


def test_a_broken_off_run_goes_on(tiny, tmp_path, monkeypatch):
    whole = run(tiny, config(tiny), None, progress=False, device="cpu")
    from mmrec_teach.training import fit as real_fit

    def half(model, data, **settings):
        real_fit(model, data, **{**settings, "epochs": 3, "checkpoint_every": 1})
        raise KeyboardInterrupt

    monkeypatch.setattr("mmrec_teach.training.experiments.fit", half)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, config(tiny), tmp_path, progress=False, device="cpu")
    monkeypatch.setattr("mmrec_teach.training.experiments.fit", real_fit)
    rest = run(tiny, config(tiny), tmp_path, progress=False, device="cpu")
    assert rest.metrics["test"] == whole.metrics["test"]
    assert rest.metrics["best_epoch"] == whole.metrics["best_epoch"]


def test_other_data_or_settings_get_another_folder(tiny):
    names = {
        config(tiny).folder,
        config(tiny, seed=1).folder,
        config(make_tiny(1)).folder,
        RunConfig(data_key(tiny), "bpr", {"dim": 5}, {"l2": 0.01}, settings=QUICK).folder,
    }
    assert len(names) == 4


def test_compare_chooses_on_valid_and_reports_over_seeds(tmp_path):
    board = checkerboard()
    table = compare_models(
        board,
        ["popularity", "bpr"],
        seeds=[0, 1],
        given={"dim": 4},
        grid={"l2": [0.001, 5.0]},
        settings={k: v for k, v in QUICK.items() if k != "metric"},
        metric="ndcg@10",
        out=tmp_path,
        progress=False,
        device="cpu",
    )
    popularity, bpr = table["rows"]
    assert popularity["tried"] == []
    assert [t["weights"]["l2"] for t in bpr["tried"]] == [0.001, 5.0]
    assert bpr["weights"]["l2"] == max(bpr["tried"], key=lambda t: t["valid"])["weights"]["l2"]
    values = bpr["test"]["ndcg@10"]["values"]
    assert len(values) == 2
    assert bpr["test"]["ndcg@10"]["mean"] == pytest.approx(sum(values) / 2)
    assert bpr["interval"][0] <= values[0] <= bpr["interval"][1]
    (pair,) = table["pairs"]
    assert pair["models"] == ["bpr", "popularity"]
    assert pair["difference"] == pytest.approx(values[0] - popularity["test"]["ndcg@10"]["mean"])
    json.dumps(table, allow_nan=False)


def test_a_grid_may_be_for_one_model_alone(tmp_path):
    quick = {"epochs": 1, "batch_size": 64, "metrics_every": 1}
    table = compare_models(
        checkerboard(),
        ["bpr", "lightgcn", "popularity"],
        given={"dim": 4, "lightgcn.dim": 3, "lightgcn.l2": 0.5},
        grid={"l2": [0.001, 0.1], "bpr.l2": [0.2, 0.3], "lightgcn.n_layers": [1, 2]},
        settings=quick,
        out=tmp_path,
        progress=False,
        device="cpu",
    )
    bpr, lightgcn, popularity = table["rows"]
    assert [(t["options"], t["weights"]) for t in bpr["tried"]] == [({"dim": 4}, {"l2": 0.2}), ({"dim": 4}, {"l2": 0.3})]
    tried = [(t["options"]["n_layers"], t["weights"]["l2"]) for t in lightgcn["tried"]]
    assert sorted(tried) == [(1, 0.001), (1, 0.1), (2, 0.001), (2, 0.1)]
    assert {t["options"]["dim"] for t in lightgcn["tried"]} == {3}
    assert popularity["options"] == {}
    for wrong in ("popularity.l2", "vbpr.l2", "bpr.seed"):
        with pytest.raises(OptionError, match="none of the models"):
            compare_models(checkerboard(), ["bpr", "popularity"], grid={wrong: [1]}, settings=quick)


def test_published_numbers_and_notes_stand_beside(tmp_path, capsys):
    table = compare_models(checkerboard(), ["popularity", "random"], progress=False)
    table["rows"][0]["published"] = {"recall@20": 0.123}
    table["notes"] = ["Beware of the dog."]
    heads, rows = cells_of(table)
    assert heads[-1] == "published recall@20"
    assert [numbers[-1] for _, _, numbers in rows] == ["0.1230", "-"]
    print_table(table)
    printed = capsys.readouterr().out
    assert "Beware of the dog." in printed
    assert "0.1230" in printed


def test_all_models_are_those_the_data_allow(tiny, bazaar):
    names = all_models(tiny)
    assert names[:3] == ["random", "popularity", "item-knn"]
    assert "oracle" not in names
    assert not {"sasrec", "unisrec", "missrec"} & set(names)
    assert {"oracle", *all_models(in_order(tiny))} == set(MODELS)
    assert "oracle" in all_models(bazaar)


def test_models_that_read_histories_want_a_split_that_follows_time(tiny, bazaar, monkeypatch, tmp_path, capsys):
    readers = {"sasrec", "unisrec", "missrec"}
    assert not readers & set(all_models(bazaar))  # it has times, but is split at random
    for split in ("leave-one-out", "user-time", "global-time"):
        assert readers < set(all_models(load("bazaar/garden", split=split)))
    assert history_note(bazaar, ["bpr"]) is None
    assert history_note(in_order(tiny), ["sasrec"]) is None
    assert history_note(bazaar, ["sasrec"]).startswith("sasrec reads histories and predicts what comes next, but")
    assert "no time" in history_note(tiny, MODELS)
    garden, settings = load("bazaar/garden"), {"epochs": 1}
    named = compare_models(garden, ["sasrec"], given={"dim": 4, "n_layers": 1}, settings=settings, progress=False, device="cpu")
    assert "--split leave-one-out" in named["notes"][0]
    monkeypatch.setattr("mmrec_teach.training.experiments.MODELS", {n: MODELS[n] for n in ("popularity", "sasrec")})
    assert main(["compare", "--models", "all", "--data", "bazaar/garden", "--quiet", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    for said in (out, err):
        assert "Left out of all: sasrec, unisrec and missrec read histories" in " ".join(said.split())


def test_ctrl_c_prints_the_table_so_far_and_how_to_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mmrec_teach.data.load", lambda *args, **kwargs: checkerboard())

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(BPR, "losses", interrupted)
    words = ["--quick", "--quiet", "--out", str(tmp_path)]
    assert main(["compare", "--models", "popularity,item-knn,bpr,lightgcn", *words]) == 130
    out, err = capsys.readouterr()
    assert "item-knn" in out
    assert "bpr" not in out
    assert "Broken off in model 3 of 4, bpr; the table is of the 2 done. The same command goes on from there" in err
    assert not list(tmp_path.rglob("compare.json"))
    assert main(["compare", "--models", "bpr,popularity", *words]) == 130  # nothing done: nothing to print
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("items", "metric", "told"), [(120, "recall@20", "17%"), (199, "ndcg@10", None), (200, "recall@20", None)]
)
def test_a_small_shop_is_told_how_much_of_it_a_list_holds(items, metric, told, capsys):
    table = compare_models(checkerboard(), ["popularity"], metric=metric, progress=False)
    table["data"]["items"] = items
    print_table(table)
    printed = " ".join(capsys.readouterr().out.split())
    assert ("Few items" in printed) == bool(told)
    assert told is None or f"a list of 20 holds {told} of the {items}" in printed


def test_a_model_that_cannot_run_does_not_lose_the_others(monkeypatch):
    bare, lines = checkerboard().with_features({}), []

    def failing(*args, **kwargs):
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr(BPR, "losses", failing)
    models, settings = ["vbpr", "popularity", "bpr", "bm3", "lightgcn"], {"epochs": 1, "batch_size": 64}
    table = compare_models(
        bare, models, given={"dim": 4}, settings=settings, progress=False, device="cpu", report=lines.append, strict=False
    )
    assert [row["model"] for row in table["rows"]] == ["popularity", "lightgcn"]
    assert list(table["left_out"]) == ["vbpr", "bpr", "bm3"]
    assert "needs item features" in table["left_out"]["vbpr"]
    assert any(line.startswith("bpr is left out. ") and "not finite" in line for line in lines)
    assert "Model 5 of 5: lightgcn" in lines
    for strict, models in ((True, ["vbpr", "popularity"]), (False, ["vbpr", "bm3"])):
        with pytest.raises(DataError, match="needs item features"):
            compare_models(bare, models, settings=settings, progress=False, strict=strict)
    with pytest.raises(OptionError, match="epochs out of range"):  # not once a model, after the baselines
        compare_models(bare, ["popularity", "bpr"], settings={"epochs": 0}, progress=False, strict=False)


def test_the_command_line_writes_what_it_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mmrec_teach.data.load", lambda *args, **kwargs: checkerboard())
    file = tmp_path / "table.json"
    words = ["compare", "--models", "popularity,bpr", "--options", "dim=4", "--epochs", "3", "--batch-size", "64", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "runs"), "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "popularity" in printed
    assert f"{read_comparison(file)['rows'][1]['test']['recall@20']['mean']:.4f}" in printed
    assert main(["compare", "--from", str(file)]) == 0
    assert capsys.readouterr().out == printed
    assert main(["train", "--model", "bpr", "--epochs", "1", "--quiet", "--out", str(tmp_path / "runs")]) == 0
    assert [r["model"] for r in read_comparison(tmp_path / "runs" / "checkerboard" / "train.json")["rows"]] == ["bpr"]


def test_a_table_from_a_file_stands_beside_the_features(tmp_path, capsys, monkeypatch):
    data = checkerboard()
    monkeypatch.setattr("mmrec_teach.data.load", lambda *args, **kwargs: data)
    table = np.ones((data.n_items, 3))
    table[0] = 0  # an item without
    np.save(tmp_path / "mine.npy", table)
    np.save(tmp_path / "small.npy", table[1:])
    words = ["train", "--model", "vbpr", "--options", "modalities=mmenc,dim=4,content_dim=2", "--epochs", "1", "--quiet"]
    words += ["--out", str(tmp_path / "runs"), "--features"]
    assert main([*words, f"mmenc={tmp_path / 'mine.npy'}"]) == 0
    row, *_ = read_comparison(tmp_path / "runs" / data.name / "train.json")["rows"]
    assert row["options"]["modalities"] == "mmenc"
    assert main([*words, f"{data.modalities[0]}={tmp_path / 'mine.npy'}"]) == 2
    assert main([*words, f"mmenc={tmp_path / 'small.npy'}"]) == 2
    errors = capsys.readouterr().err
    assert "the name is taken" in errors
    assert f"{data.n_items - 1} rows" in errors


def test_all_models_in_one_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mmrec_teach.data.load", lambda *args, **kwargs: checkerboard().with_features({}))
    file = tmp_path / "table.json"
    words = ["--options", "dim=4", "--quick", "--epochs", "1", "--quiet", "--out", str(tmp_path / "runs"), "--json", str(file)]
    assert main(["compare", "--models", "all", *words]) == 0
    out, _ = capsys.readouterr()
    table = read_comparison(file)
    assert {"popularity", "item-knn", "bpr", "lightgcn"} <= {row["model"] for row in table["rows"]}
    assert {"vbpr", "bm3"} <= set(table["left_out"])
    assert "Left out: vbpr. data set 'checkerboard': VBPR needs item features" in " ".join(out.split())
    assert table["protocol"]["settings"] == {**QUICK_SETTINGS, "epochs": 1, "metric": "recall@20"}
    assert main(["compare", "--models", "popularity,vbpr", *words]) == 1  # asked for by name and not there


def test_small_data_are_told_of_quick_settings(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mmrec_teach.data.load", lambda *args, **kwargs: checkerboard())
    words = ["compare", "--models", "popularity", "--quiet", "--out", str(tmp_path)]
    for more, told in (([], True), (["--quick"], False), (["--lr", "0.01"], False)):
        assert main([*words, *more]) == 0
        assert ("Small data: 1 step an epoch" in capsys.readouterr().err) == told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "--model", "bprr"], "unknown model"),
        (["compare"], "no models named"),
        (["compare", "--models", "bpr", "--weights", "l2"], "not NAME=VALUE"),
        (["compare", "--models", "bpr", "--grid", "l2"], "not NAME=VALUE,VALUE"),
        (["compare", "--models", "bpr", "--seeds", "x"], "not a count or a list of seeds"),
        (["compare", "--models", "bpr", "--weights", "cl=1"], "none of the models has"),
        (["compare", "--models", "bpr", "--metric", "recall"], "without a cut-off"),
        (["compare", "--models", "bpr", "--metric", "recal@20"], "no metric to steer by"),
        (["compare", "--models", "bpr", "--weights", "l2=abc"], "no number from 0 up"),
        (["compare", "--models", "bpr", "--weights", "l2=nan"], "no number from 0 up"),
        (["compare", "--models", "bpr", "--grid", "l2=0.1,b"], "no number from 0 up"),
        (["compare", "--models", "bpr", "--weights", "l2=1,l2=2"], "stands twice"),
        (["train", "--model", "bpr", "--epochs", "0"], "epochs out of range"),
        (["train", "--model", "bpr", "--k-core", "-1"], "k"),
        (["train", "--model", "bpr", "--epochs", "1", "--quiet", "--out", "/proc/none"], "/proc/none"),
        (["compare", "--from", "nowhere.json"], "no such file"),
        (["train", "--model", "bpr", "--data", "/no/such/place"], "/no/such/place"),
    ],
)
def test_bad_words_get_one_sentence(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert says in lines[-1]
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("metrics.json"))


def test_parsing():
    assert parse_pairs(["l2=0.01,dim=32", "item_bias=true"], "x") == {"l2": 0.01, "dim": 32, "item_bias": True}
    assert parse_grid(["l2=0.1,0.01", "n_layers=1,2"]) == {"l2": [0.1, 0.01], "n_layers": [1, 2]}
    assert parse_seeds("3") == [0, 1, 2]
    assert parse_seeds("0,7") == [0, 7]
    assert parse_seeds("5,") == [5]
    assert [parse_value(t) for t in ("1", "1e-3", "none", "text+image", "unit")] == [1, 1e-3, None, ("text", "image"), "unit"]


def test_a_table_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="not a comparison"):
        read_comparison(tmp_path / "x.json")
    with pytest.raises(OptionError, match="no model to compare"):
        compare_models(make_tiny(), [])
    assert callable(print_table)
