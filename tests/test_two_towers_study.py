"""The study of two towers: its variants exist, what it counts is counted, leaks are leaks and are refused, the file prints."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import two_towers as study
from mmrec_teach.data import Dataset
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import TwoTower, create, model_options


def test_every_variant_names_options_terms_and_settings_that_exist(bazaar: Dataset):
    known = {*model_options("two-tower"), *TwoTower.default_weights, *study.TRAINING}
    for given in (study.TRIED, study.TOWERS, study.QUERIES, study.GATES, study.LOSSES, study.clusters_of(bazaar)):
        for name, variant in given.items():
            assert set(variant) <= known, name
    assert set(study.MODEL) <= known
    assert "600" in study.clusters_of(bazaar), "every item has a picture or words"


def test_judged_is_counted_by_hand(tiny: Dataset):
    result = evaluate(create("popularity", tiny), tiny, "test", ks=(study.K,))
    told = study.judged(result)
    warm, shown = [], np.zeros(tiny.n_items)
    for row, user in enumerate(result.users):
        for item in tiny.test.items[tiny.test.users == user]:
            if tiny.item_counts[item]:
                warm.append(item in result.topk[row][: study.K])
        for item in result.topk[row][: study.K]:
            if item >= 0:
                shown[item] += 1
    assert told["warm"] == pytest.approx(np.mean(warm))
    assert told["reach"] == pytest.approx((shown > 0).mean())
    assert told["popularity"] == pytest.approx((shown * tiny.item_counts).sum() / shown.sum())
    assert told["recall"] == result.mean("recall@20")


@pytest.mark.parametrize("kind", study.LEAKS)
def test_a_leak_is_refused_and_what_is_honest_is_not(bazaar: Dataset, kind: str):
    future, honest = study.leaky(bazaar, kind)
    assert (future.clicks[bazaar.cold_items] > 0).mean() > 0.9
    assert not honest.clicks[bazaar.cold_items].any()
    assert "know the future" in study.guarded(future)
    assert study.guarded(honest) == ""


def test_one_small_run_of_each_kind(bazaar: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(study, "MODEL", {"dim": 4, "hidden": 4})
    monkeypatch.setattr(study, "TRAINING", study.TRAINING | {"epochs": 1, "batch_size": 1024})
    told = study.once(bazaar, {"gate": "sum", "statistics": "window"}, 0)
    assert set(told["gate"]) == {"spearman", "popularity", "age"}
    assert sum(told["gate"]["age"]["items"]) == bazaar.n_items
    leaked = study.leak(bazaar, study.LEAKS[0], "concat", 0.2, 0)
    assert {"pretended", "served", "honest"} <= set(leaked)
    assert leaked["pretended"]["test"] != leaked["served"]["test"], "the gate reads other statistics"
    alone = study.once(bazaar, {"gate": "none", **study.TOWERS["content tower alone"], "clusters": 4}, 0)
    assert "gate" not in alone
    assert set(alone["losses"]) == {"content", "l2"}


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(study.RESULT.read_text(encoding="utf-8"))


def test_the_stored_result_prints_and_draws(stored: dict, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys):
    assert stored["command"] == "python benchmarks/two_towers.py"
    page = tmp_path / "page.html"
    monkeypatch.setattr("sys.argv", ["two_towers.py", "--figure", str(page)])
    study.main()
    text = capsys.readouterr().out
    for title in ("towers, 3 seeds", "gates, 5 seeds", "leaked statistics, 3 seeds", "cluster ids for content, 3 seeds"):
        assert title in text
    assert "IDs by another name" in page.read_text(encoding="utf-8")
    assert len(study.picture(stored).data) == 9


def test_what_the_page_says_holds_on_every_seed(stored: dict):
    def each(part: str, name: str, *path: str) -> np.ndarray:
        return np.array(study.values(stored[part][name], *path))

    def found(part: str, name: str, what: str) -> np.ndarray:
        return each(part, name, "test", what)

    both, content = "user: both", "user: content tower alone"
    assert (found("towers", both, "warm") > found("towers", content, "warm") + 0.02).all()
    assert (found("towers", both, "cold") < 0.1).all()
    assert (found("towers", content, "cold") > 0.4).all()
    for statistics in ("window", "constant"):
        assert (found("gates", f"sum, {statistics}", "recall") > found("gates", f"concat, {statistics}", "recall")).sum() >= 4
    shown, hidden = "sum, window, new_share 0.2", "sum, window"
    assert (found("gates", shown, "cold") > 0.5).all()
    assert (found("gates", hidden, "cold") < 0.1).all()
    assert (each("gates", "concat, others", "gate", "spearman") < -0.9).all()
    kind = f"sum: {study.LEAKS[1]}"
    assert (each("leaks", kind, "pretended", "test", "cold") < each("leaks", kind, "served", "test", "cold") - 0.2).all()
    assert all("know the future" in text for text in each("leaks", kind, "guard"))
    assert not any(each("leaks", kind, "guard on honest"))
    most = str(max(int(k) for k in stored["clusters"] if k.isdigit()))
    assert np.abs(each("clusters", most, "losses", "content") - each("clusters", "behaviour tower", "losses", "id")).max() < 0.1
    assert (found("clusters", most, "cold among cold") < 0.45).all()
    assert (found("clusters", "64", "cold among cold") > 0.7).all()
    plain, corrected = (found("losses", name, "popularity") for name in ("softmax", "softmax, log Q"))
    assert (plain < corrected - 5).all()
