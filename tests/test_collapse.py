"""The studies of collapse and of BM3's forms: what counts as collapsed, and what the stored results say."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import bm3_forms, collapse
from mmrec_teach.models import BM3, Batch
from mmrec_teach.views import figures

ROOT = Path(__file__).resolve().parent.parent
N, D = 600, 32


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def kinds() -> torch.Tensor:
    """Eight clusters, one for each category, with little in them that differs."""
    return normal(8, D).repeat(N // 8, 1) + 0.2 * normal(N, D)


TABLES = {
    "spread out": (normal(N, D), ""),
    "tiny vectors, spread out": (1e-6 * normal(N, D), ""),
    "popular direction": (normal(N, D) + 1.0, ""),  # mean cosine one half
    "eight kinds": (kinds(), ""),
    "one vector": (torch.ones(N, D), "one way"),
    "one vector and noise": (torch.ones(N, D) + 0.2 * normal(N, D), "one way"),
    "one way, all lengths": (normal(N, 1).exp() * torch.ones(N, D), "one way"),
    "both ways on a line": (normal(N, 1) * torch.ones(N, D), "few directions"),
    "a plane": (normal(N, 2) @ normal(2, D), "few directions"),
    "nothing": (torch.zeros(N, D), "few directions"),
}


# -- what counts -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TABLES)
def test_verdict_on_tables_whose_state_is_known(name):
    table, expected = TABLES[name]
    start = collapse.measured(normal(N, D))["rank"]
    found = collapse.measured(table)
    assert collapse.verdict(found["rank"], found["cosine"], start) == expected


def test_verdict_is_cautious_at_its_bounds():
    assert collapse.verdict(30.0, 0.9, 30.0) == ""
    assert collapse.verdict(30.0, 0.901, 30.0) == "one way"
    assert collapse.verdict(6.0, 0.0, 30.0) == ""
    assert collapse.verdict(5.9, 0.0, 30.0) == "few directions"


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["", "", ""], None), (["", "x", "x"], 3), (["x", "", "x"], 9), (["x", "x", ""], None), (["x"] * 3, 0)],
)
def test_since_is_where_it_falls_for_good(words, expected):
    assert collapse.since(words, (0, 3, 9)) == expected


def test_measured_lengths_are_means():
    assert collapse.measured(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))["length"] == 3.0


# -- the study of collapse -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(collapse.RESULT.read_text(encoding="utf-8"))


def test_the_stored_study_is_the_one_the_file_describes(stored, bazaar):
    assert list(stored["variants"]) == [v.name for v in collapse.VARIANTS]
    for variant in collapse.VARIANTS:
        entry = stored["variants"][variant.name]
        assert (entry["model"], entry["options"], entry["weights"]) == (variant.model, variant.options, variant.weights)
        assert tuple(entry["epochs"]) == variant.epochs
        for curve in entry["curves"].values():
            assert [len(seed) for seed in curve] == [len(variant.epochs)] * len(collapse.SEEDS)
    variant = collapse.VARIANTS[1]
    again = collapse.study(variant, bazaar, 0, (0, 1))
    for name, curve in again["curves"].items():
        first = 1 if name == "loss" else 0  # before training there is none
        kept = stored["variants"][variant.name]["curves"][name][0]
        assert curve[first:] == pytest.approx(kept[first:2], rel=0.02), name
    assert math.isnan(again["curves"]["loss"][0])
    assert again["best_epoch"] == 1
    assert again["test"] == again["test_at_best"]


def test_the_command_prints_and_draws_without_training(stored, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(collapse, "study", None)
    page = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["collapse.py", "--figure", str(page)])
    collapse.main()
    printed = capsys.readouterr().out
    assert printed.count("\n") > len(collapse.VARIANTS)
    assert "BUIR, no slow copy, no predictor" in printed
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure") == 2
    assert "BM3 stands on" in text
    drawings = collapse.pictures(stored)
    assert [d.layout.title.text for d in drawings] == list(collapse.TAKEAWAYS.values())
    assert all("effective rank" in figures.alt_text(d) for d in drawings)


FALLEN = {
    "BM3, no stop-gradient",
    "BM3, no predictor",
    "BM3, no stop-gradient, no predictor",
    "BM3, no dropout, no predictor",
    "BM3, penalty, no stop-gradient",
    "BM3, penalty, no predictor",
    "BUIR, no predictor",
    "BUIR, no slow copy, no predictor",
}


@pytest.mark.parametrize(("one_way", "few"), [(0.9, 0.2), (0.8, 0.1), (0.95, 0.3)])
def test_who_collapses_does_not_hang_on_the_bounds(stored, monkeypatch, one_way, few):
    monkeypatch.setattr(collapse, "ONE_WAY", one_way)
    monkeypatch.setattr(collapse, "FEW_DIRECTIONS", few)
    for name, entry in stored["variants"].items():
        if name == "BUIR, penalty, no predictor":
            continue  # on its way when training ends
        assert {bool(words[-1]) for words in collapse.verdicts(entry)} == {name in FALLEN}, name


def test_what_the_study_found(stored):
    def ends(name: str, key: str) -> list[float]:
        entry = stored["variants"][name]
        return entry[key] if key in entry else [seed[-1] for seed in entry["curves"][key]]

    popular = stored["popularity"]["test"]
    for whole, parts in (("BM3", [n for n in FALLEN if "BM3, no" in n]), ("BUIR", ["BUIR, no slow copy, no predictor"])):
        for name in parts:
            assert max(ends(name, "loss")) < min(ends(whole, "loss")), "the loss is better for those that collapse"
            assert all(abs(recall - popular) < 0.02 for recall in ends(name, "test")), name
    for name in ("BM3, penalty, no stop-gradient", "BM3, penalty, no predictor"):
        assert max(ends(name, "test")) < 0.02, "a penalty on lengths saves no direction and takes what is left, popularity"
    early = [min(stored["variants"][name]["test_at_best"]) for name in ("BM3, no predictor", "BUIR, no predictor")]
    assert min(early) > 4 * popular, "stopping early hides a collapse that is to come"
    assert min(ends("BM3, no dropout", "test")) > min(ends("BM3", "test")) - 0.01
    assert min(ends("BUIR, frozen target", "rank")) > max(ends("BUIR", "rank"))
    assert max(ends("BUIR, frozen target", "test")) < popular, "not collapsed, and of no use"


# -- the study of BM3's forms --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("trainable", [False, True])
def test_projecting_all_items_gives_the_same_numbers(tiny, trainable):
    some, whole = (kind(tiny, dim=8, trainable_features=trainable, seed=3).train() for kind in (BM3, bm3_forms.ProjectAll))
    batch = Batch(*(torch.from_numpy(ids[:20].copy()) for ids in (tiny.train.users, tiny.train.items)))
    terms = [model.losses(batch) for model in (some, whole)]
    for name, value in terms[0].items():
        torch.testing.assert_close(value, terms[1][name])
    for model, found in zip((some, whole), terms, strict=True):
        model.total(found, model.default_weights).backward()
    for ours, theirs in zip(some.parameters(), whole.parameters(), strict=True):
        assert float(ours.grad.abs().max()) > 0
        torch.testing.assert_close(ours.grad, theirs.grad)
