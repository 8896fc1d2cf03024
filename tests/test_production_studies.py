"""The studies of reach and of one pass: what their stored results say, and that the page shows what they print."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import reach
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
