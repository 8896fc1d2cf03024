"""The studies of reach and of one pass: what their stored results say, and that the page shows what they print."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import reach, streaming
from mmrec_teach.models import BM3
from mmrec_teach.views.figures import alt_text

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def report(name: str) -> dict[str, Any]:
    """What a study found."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def page() -> str:
    return (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")


# -- reach ----------------------------------------------------------------------------------------------------------------
def bm3(align: float, mask: float, served: str, *keys: str) -> list[float]:
    """One number of every seed."""
    values = []
    for run in report("reach")["variants"][f"BM3, align {align:g}, mask {mask:g}"]["runs"]:
        value = run["served"][served]
        for key in keys:
            value = value[key]
        values.append(value)
    return values


def test_as_published_no_seed_reaches_a_new_item():
    for align, mask in ((0, 0), (0, 2), (2, 0), (2, 2)):
        assert set(bm3(align, mask, "id", "reach@20", "new")) == {0.0}


def test_content_stands_in_for_clicks_only_where_it_is_aligned():
    for mask in (0, 2):
        aligned, bare = (bm3(align, mask, "content_for_new", "recall", "cold") for align in (2, 0))
        assert min(aligned) > 0.3
        assert max(bare) < 0.02
        assert min(bm3(2, mask, "content_for_new", "reach@20", "new")) > 0.95
        before = bm3(2, mask, "id", "recall", "all")
        after = bm3(2, mask, "content_for_new", "recall", "all")
        assert all(a > b for a, b in zip(after, before, strict=True)), "nobody pays for it"


def test_longer_stand_ins_get_more_places():
    names = ("content_for_new, 0.8 times as long", "content_for_new", "content_for_new, 1.2 times as long")
    short, same, long = (bm3(2, 2, name, "places@20", "new") for name in names)
    assert max(short) < min(same)
    assert max(same) < min(long)


def test_the_page_shows_the_tables_of_reach():
    assert reach.as_markdown(report("reach")) in page()


def test_the_picture_of_reach_says_what_the_file_holds():
    figure = reach.picture(report("reach"))
    assert "100% of the new items are" in figure.layout.title.text
    assert "BM3 as published: new items reached 0.0%" in alt_text(figure)


def test_exchange_tells_a_perfect_stand_in_from_none(tiny):
    model = BM3(tiny, dim=8)
    model.stand_ins = lambda: model.predicted()[1]
    told = reach.exchange(model)
    assert told["own"] == pytest.approx(1.0)
    assert told["other"] < 0.9
    assert (told["nearest"], told["in ten"]) == (1.0, 1.0)
    model.stand_ins = lambda: torch.flip(model.predicted()[1], [0])
    assert reach.exchange(model)["nearest"] < 0.2


# -- one pass -------------------------------------------------------------------------------------------------------------
def share(model: str, kind: str, place: str = "bazaar") -> list[float]:
    """Validation recall as a share of many epochs', of every seed."""
    habits = report("streaming")["data"][place]["models"][model]
    return [a["valid"] / b["valid"] for a, b in zip(habits[kind]["seeds"], habits["many"]["seeds"], strict=True)]


def test_one_pass_teaches_given_content_sooner_than_ids_and_a_graph_soonest():
    ids, content, graph = (share(name, "stream") for name in ("bpr", streaming.CONTENT_ALONE, "lightgcn"))
    assert max(ids) < 0.6 < min(content)
    assert max(content) < min(graph)
    assert max(share("bpr", "stream", "ml-100k")) < 0.5


def test_going_through_each_window_five_times_brings_most_of_it_back():
    for model in ("bpr", streaming.CONTENT_ALONE, "vbpr", "lightgcn"):
        assert min(share(model, "stream, each window 5 times")) > 0.8


def test_only_content_finds_first_sales():
    models = report("streaming")["data"]["bazaar"]["models"]
    new = {name: [told["new"] for told in habits["stream"]["progressive"]] for name, habits in models.items()}
    assert max(new["lightgcn"] + new["bpr"]) < 0.03
    assert min(new["vbpr"] + new[streaming.CONTENT_ALONE]) > 0.1


def test_the_encoder_is_not_done_after_one_pass_over_the_items():
    told = report("streaming")["encoder"]
    for seed in told["zero-shot"]:
        assert seed[0] < 0.6 * seed[-1]


def test_the_page_shows_the_tables_of_one_pass():
    assert streaming.as_markdown(report("streaming")) in page()


def test_the_pictures_of_one_pass_draw_every_model():
    drawn = streaming.pictures(report("streaming"))
    entries = report("streaming")["data"]
    assert len(drawn) == len(entries) + 1
    for figure, entry in zip(drawn, entries.values(), strict=False):
        assert [trace.name for trace in figure.data if trace.name] == list(entry["models"])


def test_a_model_without_ids_learns_none(bazaar):
    model, _ = streaming.build(streaming.CONTENT_ALONE, bazaar, 0)
    assert not model.item_id.weight.any()
    assert not any(
        p is model.item_id.weight or p is model.user_id.weight for g in model.parameter_groups(0.1) for p in g["params"]
    )
