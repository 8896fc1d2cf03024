"""Is content used at all? Every multimodal model on the bazaar, with its items' own content and with something else in its place.

    python benchmarks/content_use.py            # trains, writes benchmarks/results/content_use.json, prints the tables
    python benchmarks/content_use.py --print    # prints the tables of that file again

Each model is trained on three seeds to early stopping, with a setting chosen on validation with its own features and the first
seed, then judged on test:

- *own*: trained and judged with its own features;
- *scoring*: the same trained weights, features replaced when scoring only (`with_features`); frozen item graphs made of the new
  features or, where the model has such graphs, also kept as they were;
- *training*: features replaced from the start, in training and scoring.

Replaced means shuffled among items, zero, or noise (`mmrec_teach.data.switches`). Of zeros all cosines are equal, and ties go
to the lower index: an item graph made of them links every item to the same few. Differences are paired by user, every user's
recall being the mean over seeds first. Work that was broken off goes on from its run folders; what is finished is not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.switches import Switches
from mmrec_teach.evaluation import Evaluation, evaluate, evaluate_scores
from mmrec_teach.evaluation.content_use import CHANGES, recall_by_user, with_features
from mmrec_teach.evaluation.statistics import paired_comparison
from mmrec_teach.files import write_json, write_text
from mmrec_teach.training.experiments import Run, RunConfig, data_key, run, split_names
from mmrec_teach.views.changes import change_dots

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "content_use.json"
SHOPS = {"all purchases": Switches(), "30 % of the training purchases": Switches(keep=0.3)}
SEEDS = (0, 1, 2)
SETTINGS = {"epochs": 200, "patience": 5, "metrics_every": 2, "batch_size": 1024, "lr": 5e-3, "metric": "recall@20"}
# fixed options; what is tried on validation: options and weights by name
MODELS: dict[str, tuple[dict[str, Any], dict[str, list[float]]]] = {
    "vbpr": ({"scaling": "unit"}, {"l2": [1e-3, 1e-2]}),
    "bm3": ({}, {"reg": [1e-3, 1e-2]}),
    "freedom": ({"image_weight": 0.5}, {"edge_dropout": [0.0, 0.8]}),
    # lesson 04's settings
    "lattice": ({}, {"l2": [1e-3]}),
    "dualgnn": ({}, {"l2": [1e-3]}),
    "grcn": ({}, {"l2": [1e-2]}),
    "mmgcn": ({}, {"l2": [1e-2]}),
}
EPOCHS = {"grcn": 60, "mmgcn": 60}
REFERENCE = {"lightgcn": ({}, {"l2": [1e-3, 1e-2]})}
WITH_ITEM_GRAPH = ("lattice", "freedom")
ITEMS = ("all", "cold", "cold among cold")


def configuration(data: Dataset, model: str, chosen: dict[str, float], seed: int) -> RunConfig:
    """Return what decides one run."""
    given = {"dim": 64, **(MODELS | REFERENCE)[model][0], **chosen}
    settings = SETTINGS | {"epochs": EPOCHS.get(model, SETTINGS["epochs"])}
    return RunConfig(data_key(data), model, *split_names(model, given), seed, settings)


def train(data: Dataset, model: str, chosen: dict[str, float], seed: int, out: Path) -> Run:
    """Train one model, or read it if it was trained before."""
    return run(data, configuration(data, model, chosen, seed), out, progress=False, device="cpu")


def choices_of(model: str) -> list[dict[str, float]]:
    """Return the settings that are tried on validation."""
    tried = (MODELS | REFERENCE)[model][1]
    return [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]


def study(model: str, data: Dataset, out: Path) -> dict[str, Any]:
    """Return one model's rows: how it does with its own content, and what each change does to that."""
    choices = choices_of(model)
    valid = [train(data, model, choice, SEEDS[0], out).metrics["valid"]["recall@20"] for choice in choices]
    chosen = choices[int(np.argmax(valid))]
    runs = [train(data, model, chosen, seed, out) for seed in SEEDS]
    own = [r.evaluation for r in runs]
    result = {
        "model": model,
        "options": runs[0].config.options,
        "weights": runs[0].config.weights,
        "tried": [{**choice, "valid": value} for choice, value in zip(choices, valid, strict=True)],
        "epochs": runs[0].config.settings["epochs"],
        "best_epochs": [r.metrics["best_epoch"] for r in runs],
        "own": {items: over_seeds([recall_by_user(e)[items] for e in own]) for items in ITEMS},
        "changes": [],
    }
    if model in REFERENCE:
        return result
    for features in CHANGES:
        others = [Switches(features=features, seed=seed).apply(data) for seed in SEEDS]
        for graphs in ("new", "kept") if model in WITH_ITEM_GRAPH else ("new",):
            changed = [
                evaluate(with_features(r.model, other, item_graphs=graphs), other, "test", ks=(10, 20))
                for r, other in zip(runs, others, strict=True)
            ]
            result["changes"].append(change("scoring", features, graphs, changed, own))
        anew = [train(other, model, chosen, seed, out) for seed, other in zip(SEEDS, others, strict=True)]
        told = change("training", features, "new", [r.evaluation for r in anew], own)
        result["changes"].append(told | {"best_epochs": [r.metrics["best_epoch"] for r in anew]})
    return result


def over_seeds(by_user: list[np.ndarray]) -> dict[str, Any]:
    """Return the mean over users and seeds, and every seed's."""
    values = [float(v.mean()) for v in by_user]
    return {"mean": float(np.mean(values)), "values": values}


def change(when: str, features: str, graphs: str, changed: list[Evaluation], own: list[Evaluation]) -> dict[str, Any]:
    """Return one change: recall over seeds, and its difference to the model's own, paired by user."""
    result: dict[str, Any] = {"when": when, "features": features, "item_graphs": graphs}
    for items in ITEMS:
        new, old = ([recall_by_user(e)[items] for e in side] for side in (changed, own))
        told = paired_comparison("recall@20", np.mean(new, axis=0), np.mean(old, axis=0))
        result[items] = over_seeds(new) | {
            "difference": told.difference,
            "low": told.low,
            "high": told.high,
            "p_value": told.p_value,
            "by_seed": [float((a - b).mean()) for a, b in zip(new, old, strict=True)],
        }
    return result


def measure(names: list[str], few: bool, out: Path, result: Path | None) -> dict[str, Any]:
    """Train and judge ``names``; ``result`` gets what is finished, model by model."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "command": "python benchmarks/content_use.py"
        + (" --few" if few else "")
        + ("" if names == [*REFERENCE, *MODELS] else f" --models {','.join(names)} --save"),
        "torch": torch.__version__,
        "threads": 1,
        "machine": platform.machine(),
        "metric": "recall@20",
        "split": "test, train and valid masked",
        "seeds": list(SEEDS),
        "settings": SETTINGS,
        "shops": [],
    }
    shops = {name: switches.apply(load("bazaar")) for name, switches in list(SHOPS.items())[: 2 if few else 1]}
    for name, data in shops.items():
        cold = evaluate_scores(np.zeros(data.n_items), data, "test", ks=(20,)).cold()
        shop = {
            "shop": name,
            "switches": SHOPS[name].to_json(),
            "data": data_key(data),
            "cold": {k: cold[k] for k in ("items", "users", "relevant", "chance_among_cold@20")},
            "models": [],
        }
        report["shops"].append(shop)
    for shop in report["shops"]:
        for model in names:
            data = shops[shop["shop"]]
            kept = out / "studies" / f"{configuration(data, model, choices_of(model)[0], SEEDS[0]).folder}.json"
            if not kept.is_file():
                write_json(kept, study(model, data, out))
            shop["models"].append(json.loads(kept.read_text(encoding="utf-8")))
            print(f"{shop['shop']}, {model}: done", flush=True)
            if result is not None:
                write_json(result, report)
    return report


# -- the tables -----------------------------------------------------------------------------------------------------------
def as_markdown(report: dict[str, Any], digits: int = 3) -> str:
    """Return the tables: for every shop and kind of item one, a row for each model."""
    parts = []
    for shop in report["shops"]:
        cold = shop["cold"]
        for items in ITEMS:
            title = f"{shop['shop']}, Recall@20 on test, {WORDS[items]}"
            if items != "all":
                title += f" ({cold['items']} cold items, {cold['users']} users)"
            if items == "cold among cold":
                title += f"; random order: {_number(cold['chance_among_cold@20'], digits)}"
            lines = [
                f"**{title}**",
                "",
                "| model | own | " + " | ".join(f"{w}: {f}" for w in ("scoring", "training") for f in CHANGES) + " |",
                "|" + "---|" * 8,
            ]
            for model in shop["models"]:
                own = _number(model["own"][items]["mean"], digits)
                for graphs in ("new", "kept"):
                    told = [c for c in model["changes"] if c["item_graphs"] == graphs]
                    if graphs == "kept" and not told:
                        continue
                    cells = {(c["when"], c["features"]): _cell(c[items], digits) for c in told}
                    row = [cells.get((w, f), "") for w in ("scoring", "training") for f in CHANGES]
                    label = model["model"] + (", item graph kept" if graphs == "kept" else "")
                    lines.append(f"| {label} | {own} | " + " | ".join(row) + " |")
            parts.append("\n".join(lines))
    return "\n\n".join([*parts, LEGEND])


def changes(shop: dict[str, Any]) -> pd.DataFrame:
    """Return one shop's differences as :func:`~mmrec_teach.views.changes.change_dots` draws them."""
    return pd.DataFrame(
        [
            {
                "model": model["model"] + (", item graph kept" if told["item_graphs"] == "kept" else ""),
                "change": f"{told['when']}: {told['features']}",
                "panel": WORDS[items],
                **{name: told[items][name] for name in ("difference", "low", "high")},
            }
            for model in shop["models"]
            for told in sorted(model["changes"], key=lambda t: (t["item_graphs"] == "kept", t["when"]))
            for items in ITEMS
        ]
    )


WORDS = {"all": "all items", "cold": "cold items among all", "cold among cold": "cold items among themselves"}
LEGEND = (
    "Differences to the model's own, paired by user over the mean of the seeds. "
    "`=` not one user's recall changed; in brackets: the 95 % interval over users includes 0."
)


def _cell(told: dict[str, Any], digits: int) -> str:
    if not any(told["by_seed"]) and told["low"] == told["high"] == 0:
        return "="
    text = f"{told['difference']:+.{digits}f}".replace("0.", ".", 1)
    return f"({text})" if told["low"] <= 0 <= told["high"] else text


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def main() -> None:
    """Run the study, or print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the result file, train nothing")
    parser.add_argument("--few", action="store_true", help="also with 30 %% of the training purchases: a third longer")
    parser.add_argument("--models", help="only these, separated by commas; writes no result unless asked to")
    parser.add_argument("--save", action="store_true", help="write the result with --models too")
    parser.add_argument("--out", type=Path, default=Path("runs/content_use"), help="where run folders go (default %(default)s)")
    parser.add_argument("--html", type=Path, help="write pictures of the tables to this page")
    given = parser.parse_args()
    if given.print:
        report = json.loads(RESULT.read_text(encoding="utf-8"))
    else:
        names = given.models.split(",") if given.models else [*REFERENCE, *MODELS]
        report = measure(names, given.few, given.out, RESULT if given.save or not given.models else None)
    print(as_markdown(report))
    if given.html:
        pages = []
        for shop in report["shops"]:
            figure = change_dots(changes(shop), x_title="Recall@20 less its own")
            pages.append(f"<h1>{shop['shop']}</h1>" + figure.to_html(full_html=False, include_plotlyjs=not pages))
        write_text(given.html, "<!doctype html><meta charset='utf-8'>" + "".join(pages))


if __name__ == "__main__":
    main()
