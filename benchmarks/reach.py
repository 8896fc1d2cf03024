"""Whom do the lists reach? Long tail and new items on the bazaar, before and after content and IDs are aligned, over three seeds.

    python benchmarks/reach.py            # some minutes on one core; writes benchmarks/results/reach.json
    python benchmarks/reach.py --print    # the tables again, from that file
    python benchmarks/reach.py --figure reach.html   # and the picture

Every model trains to early stopping on validation, scoring as published. BM3 is then also asked with stand-ins
(``serve="content_for_new"``: items without training interactions get a vector made of their content; ``"content"``: all items do), on the
same weights. ``align`` pulls content to IDs, ``mask`` content to itself: at 0 a term is not there.

Lists of 20 (and 10) for all test users, train and valid masked. *Head*: the fifth of the catalogue that was bought most; *new*: no training
interaction; *tail*: the rest. The bazaar has no creators: exposure is told by frequency and by category. *Distance*: half the sum of
differences between the categories' shares of places and of test purchases (0: lists show what is bought). Work that was broken off goes on
from `--out`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import numpy as np
import plotly.graph_objects as go
import torch
from torch.nn import functional as F

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.content_use import recall_by_user
from mmrec_teach.evaluation.long_tail import tail_items
from mmrec_teach.evaluation.metrics import exposure
from mmrec_teach.files import rounded, write_json, write_text
from mmrec_teach.models import BM3, create
from mmrec_teach.training import fit
from mmrec_teach.views import figures
from mmrec_teach.views.figures_production import reach_bars

RESULT = Path(__file__).resolve().parent / "results" / "reach.json"
SEEDS = (0, 1, 2)
SETTINGS = {"epochs": 200, "patience": 5, "metrics_every": 2, "batch_size": 1024, "lr": 5e-3}
SERVES = ("id", "content_for_new", "content")
SCALES = (0.8, 1.2)
"""Lengths of stand-ins that are tried beside 1, for BM3 as it comes."""
KINDS = ("head", "tail", "new")


@dataclass(frozen=True)
class Variant:
    """A model, its settings, and how it is asked."""

    name: str
    model: str
    weights: Mapping[str, float]
    options: Mapping[str, Any] = field(default_factory=dict)


def _bm3(align: float, mask: float) -> Variant:
    return Variant(f"BM3, align {align:g}, mask {mask:g}", "bm3", {"reg": 1e-3, "align": align, "mask": mask})


DEFAULT = _bm3(2.0, 2.0)
VARIANTS = (
    Variant("LightGCN", "lightgcn", {"l2": 1e-3}),
    Variant("VBPR", "vbpr", {"l2": 1e-3}, {"scaling": "unit"}),
    *(Variant(f"AlignRec, cca {cca:g}", "alignrec", {"cca": cca}) for cca in (0.0, 0.01, 0.1)),
    _bm3(0.0, 0.0),
    _bm3(0.0, 2.0),
    _bm3(0.02, 2.0),
    _bm3(0.2, 2.0),
    _bm3(2.0, 0.0),
    DEFAULT,
)


# -- measuring -----------------------------------------------------------------------------------------------------------------
def kinds(data: Dataset) -> dict[str, np.ndarray]:
    """Return (I,) bool for each kind of item."""
    tail = tail_items(data.item_counts)
    return {"head": ~tail, "tail": tail & ~data.cold_items, "new": data.cold_items}


def reached(result: Evaluation, data: Dataset) -> dict[str, Any]:
    """Return what the lists find and whom they show."""
    by_user = {name: float(values.mean()) for name, values in recall_by_user(result).items()}
    told: dict[str, Any] = {"recall": by_user}
    for k in (10, 20):
        shown = exposure(result.topk, result.n_items, k)
        told[f"reach@{k}"] = {"all": float((shown > 0).mean())}
        told[f"reach@{k}"] |= {name: float((shown[rows] > 0).mean()) for name, rows in kinds(data).items()}
        told[f"places@{k}"] = {name: float(shown[rows].sum() / shown.sum()) for name, rows in kinds(data).items()}
    buckets = result.by_frequency(k=20)
    told["buckets"] = {b: float(s) for b, s in zip(buckets["bucket"], buckets["share"], strict=True)}
    category = data.items["category"].to_numpy()
    names, of = np.unique(category, return_inverse=True)
    places = np.bincount(of, weights=shown) / shown.sum()
    bought = np.bincount(of[result.relevant[1]], minlength=len(names)) / result.relevant.shape[1]
    new = np.bincount(of, weights=np.where(data.cold_items, shown, 0.0))
    told["categories"] = {
        "distance": float(np.abs(places - bought).sum() / 2),
        "least": float((places / bought).min()),
        "most": float((places / bought).max()),
        "with new items shown": int((new > 0).sum()),
        "all": len(names),
    }
    return told


def exchange(model: BM3) -> dict[str, float]:
    """Return how near warm items' stand-ins are to their own predicted vectors.

    ``own``: mean cosine with the item's own; ``other``: with another item's; ``nearest``: share of stand-ins whose own vector is
    nearest of all; ``in ten``: among the ten nearest.
    """
    with model.evaluating():
        there = model.clicked & model.modality.has.any(1)
        own, stand = (F.normalize(t[there], dim=1) for t in (model.predicted()[1], model.stand_ins()))
        cosine = stand @ own.T
    rank = (cosine > cosine.diagonal()[:, None]).sum(1)
    n = len(cosine)
    return {
        "own": float(cosine.diagonal().mean()),
        "other": float((cosine.sum() - cosine.trace()) / (n * (n - 1))),
        "nearest": float((rank == 0).float().mean()),
        "in ten": float((rank < 10).float().mean()),
    }


def study(variant: Variant, data: Dataset, seed: int) -> dict[str, Any]:
    """Train one variant with one seed and ask it in every way it knows."""
    model = create(variant.model, data, seed=seed, **variant.options)
    done = fit(model, data, weights=dict(variant.weights), seed=seed, progress=False, device="cpu", **SETTINGS)
    told: dict[str, Any] = {"epoch": done.best_epoch, "served": {}}
    if not isinstance(model, BM3):
        told["served"]["as it is"] = reached(evaluate(model, data, "test", ks=(10, 20)), data)
        return told
    for serve in SERVES:
        for scale in (1.0, *(SCALES if variant is DEFAULT and serve == "content_for_new" else ())):
            model.serve, model.new_scale = serve, scale  # training does not read them
            name = serve if scale == 1.0 else f"{serve}, {scale:g} times as long"
            told["served"][name] = reached(evaluate(model, data, "test", ks=(10, 20)), data)
    return told | {"exchange": exchange(model)}


def measure(out: Path) -> dict[str, Any]:
    """Run what is not in ``out`` yet; the result grows by one variant at a time."""
    torch.set_num_threads(1)
    data = load("bazaar")
    shop = kinds(data)
    judged = data.test.items
    report: dict[str, Any] = {
        "command": "python benchmarks/reach.py",
        "machine": {"system": platform.system(), "processor": platform.machine(), "torch": torch.__version__, "threads": 1},
        "data": data.name,
        "settings": SETTINGS,
        "seeds": list(SEEDS),
        "items": {name: int(rows.sum()) for name, rows in shop.items()},
        "purchases": {name: float(rows[judged].mean()) for name, rows in shop.items()},
        "variants": {},
    }
    for variant in VARIANTS:
        runs = []
        for seed in SEEDS:
            file = out / f"{variant.name.replace(', ', '_').replace(' ', '-')}-{seed}.json"
            if not file.is_file():
                write_json(file, study(variant, data, seed))
            runs.append(json.loads(file.read_text(encoding="utf-8")))
        about = {"model": variant.model, "options": dict(variant.options), "weights": dict(variant.weights)}
        report["variants"][variant.name] = rounded(about | {"runs": runs})
        write_json(RESULT, report)
        print(f"{variant.name}: done", flush=True)
    return report


# -- showing it ------------------------------------------------------------------------------------------------------------------
def mean(runs: Sequence[Mapping[str, Any]], served: str, *keys: str) -> float:
    """Return the mean over seeds of one number."""
    values = []
    for run in runs:
        value: Any = run["served"][served]
        for key in keys:
            value = value[key]
        values.append(value)
    return statistics.fmean(values)


def asked(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (variant, how it is asked, label) of every row."""
    rows = []
    for name, entry in report["variants"].items():
        for served in entry["runs"][0]["served"]:
            rows.append((name, served, name if served in ("as it is", "id") else f"{name}; {WORDS.get(served, served)}"))
    return rows


WORDS = {
    "content_for_new": "content for new",
    "content": "content for all",
    **{f"content_for_new, {s:g} times as long": f"content for new, {s:g} times as long" for s in SCALES},
}


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the tables."""
    parts = [_main(report), _exposure(report), _exchange(report)]
    items, bought = report["items"], report["purchases"]
    shop = ", ".join(f"{name} {items[name]} items with {bought[name]:.0%} of the test purchases" for name in KINDS)
    return "\n\n".join([*parts, f"Means of {len(report['seeds'])} seeds, lists of 20 unless said. {shop}."])


def _main(report: Mapping[str, Any]) -> str:
    heads = ["all", "cold", "cold among cold", "reach@10", "reach@20", *(f"{k} reached" for k in KINDS), "places for new"]
    lines = ["**Recall@20 on test, and whom the lists reach**", "", "| model | " + " | ".join(heads) + " |"]
    lines.append("|" + "---|" * (len(heads) + 1))
    for name, served, label in asked(report):
        runs = report["variants"][name]["runs"]
        cells = [f"{mean(runs, served, 'recall', key):.3f}".removeprefix("0") for key in ("all", "cold", "cold among cold")]
        cells += [_percent(mean(runs, served, f"reach@{k}", "all")) for k in (10, 20)]
        cells += [_percent(mean(runs, served, "reach@20", kind)) for kind in KINDS]
        cells.append(_percent(mean(runs, served, "places@20", "new")))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _exposure(report: Mapping[str, Any]) -> str:
    first = next(iter(report["variants"].values()))["runs"][0]["served"]["as it is"]
    buckets = list(first["buckets"])
    heads = [*buckets, "distance", "least", "most", "categories with new items shown"]
    lines = [
        "**Places in lists by how often an item was bought in training, and by category**",
        "",
        "| model | " + " | ".join(heads) + " |",
    ]
    lines.append("|" + "---|" * (len(heads) + 1))
    bare = [variant.name for variant in VARIANTS if variant.model == "bm3" and variant is not DEFAULT]
    for name, served, label in asked(report):
        if name in bare or served == "content":
            continue
        runs = report["variants"][name]["runs"]
        cells = [_percent(mean(runs, served, "buckets", bucket)) for bucket in buckets]
        cells += [f"{mean(runs, served, 'categories', key):.2f}" for key in ("distance", "least", "most")]
        cells.append(f"{mean(runs, served, 'categories', 'with new items shown'):.0f} of {first['categories']['all']}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "*least*, *most*: the category with the smallest and the largest share of places over its share of purchases.",
    ]
    return "\n".join(lines)


def _exchange(report: Mapping[str, Any]) -> str:
    lines = [
        "**BM3: is an item's stand-in, made of its content, where its own vector is?** Warm items, cosines.",
        "",
        "| model | with its own | with another's | own is nearest | own among ten | all items served by content: Recall@20 |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in report["variants"].items():
        if "exchange" not in entry["runs"][0]:
            continue
        told = {
            key: statistics.fmean(run["exchange"][key] for run in entry["runs"])
            for key in ("own", "other", "nearest", "in ten")
        }
        cells = [f"{told[key]:.2f}" for key in ("own", "other")] + [_percent(told[key]) for key in ("nearest", "in ten")]
        cells.append(f"{mean(entry['runs'], 'content', 'recall', 'all'):.3f}".removeprefix("0"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(value: float) -> str:
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"


def picture(report: Mapping[str, Any]) -> go.Figure:
    """Return bars of whom BM3 reaches before and after alignment, beside LightGCN and AlignRec."""
    bare, whole = _bm3(0.0, 2.0).name, DEFAULT.name
    shown = (
        ("LightGCN", "as it is", "LightGCN"),
        (whole, "id", "BM3 as published"),
        (bare, "content_for_new", "BM3, content for new, not aligned"),
        (whole, "content_for_new", "BM3, content for new, aligned"),
        ("AlignRec, cca 0", "as it is", "AlignRec, cca 0"),
        ("AlignRec, cca 0.1", "as it is", "AlignRec, cca 0.1"),
    )
    measures = {
        "new items reached": ("reach@20", "new"),
        "their share of places": ("places@20", "new"),
        "tail items reached": ("reach@20", "tail"),
        "recall@20, all": ("recall", "all"),
    }

    def values(name: str, served: str, keys: tuple[str, str]) -> list[float]:
        return [run["served"][served][keys[0]][keys[1]] for run in report["variants"][name]["runs"]]

    reach = {label: {m: values(name, served, keys) for m, keys in measures.items()} for name, served, label in shown}
    new = {label: statistics.fmean(told["new items reached"]) for label, told in reach.items()}
    title = (
        f"Content stands in for clicks only where the two are aligned: {new['BM3, content for new, aligned']:.0%} of the new items "
        f"are reached, {new['BM3, content for new, not aligned']:.0%} without alignment, {new['BM3 as published']:.0%} as published"
    )
    return reach_bars(reach, title=title)


def main() -> None:
    """Run the study, or print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the result file, train nothing")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the stored result as a page; train nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/reach"), help="where finished work goes (default %(default)s)")
    given = parser.parse_args()
    report = json.loads(RESULT.read_text(encoding="utf-8")) if given.print or given.figure else measure(given.out)
    if given.figure:
        write_text(given.figure, figures.page("Whom the lists reach", [picture(report)], as_markdown(report)))
    print(as_markdown(report))


if __name__ == "__main__":
    main()
