"""Do AlignRec's protocols, which train nothing, put feature sets in the order that trained recommenders do? And who serves the tail?

    python benchmarks/judge_features.py            # trains, writes benchmarks/results/judge_features.json, prints the tables
    python benchmarks/judge_features.py --print    # prints the tables of that file again

Feature sets of the bazaar, each an item table whose rows have length 1, are judged by zero-shot and item-CF
(`mmrec_teach.evaluation.protocols`), which read the training and validation split only, and then handed to models that use
content: the same setting for all sets, chosen on validation with one of them (picture and words joined) and the first seed,
trained on three seeds to early stopping, judged on test. Agreement is Kendall's τ over the sets, with a bootstrap over the judged
users and items. Once over all sets, and once without those that hold nothing (shuffled, noise): telling something from nothing is
easy.

Mask-modality: half of the items lose their picture, or their words, by both protocols and in the final recommendation (the trained
weights, features gone when scoring).

The long-tail table trains each model on the data set's own tables. Finished runs are read and not repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmrec_teach.cli.judge import encoder_for
from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import Evaluation, evaluate, feature_sets, protocols
from mmrec_teach.evaluation.content_use import recall_by_user, with_features
from mmrec_teach.evaluation.feature_sets import FeatureSet, joined, unit_rows, with_table
from mmrec_teach.evaluation.long_tail import long_tail
from mmrec_teach.files import write_json
from mmrec_teach.training.experiments import Run, RunConfig, data_key, run, split_names

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "judge_features.json"
SEEDS = (0, 1, 2)
SETTINGS = {"epochs": 200, "patience": 5, "metrics_every": 2, "batch_size": 1024, "lr": 5e-3, "metric": "recall@20"}
CHOSEN_WITH = "joined, unit"
EMPTY = ("shuffled", "noise")  # hold nothing of the items
ITEMS = ("all", "cold")
# fixed options, and what is tried on validation
MODELS: dict[str, tuple[dict[str, Any], list[dict[str, float]]]] = {
    "vbpr": ({"scaling": "unit"}, [{"l2": 1e-3}, {"l2": 1e-2}]),
    "freedom": ({}, [{"edge_dropout": 0.0}, {"edge_dropout": 0.8}]),
    "alignrec": ({}, [{"cca": 0.01}, {"cca": 0.1}]),
}
TAIL = {
    "popularity": {},
    "lightgcn": {"l2": 1e-3},
    "bm3": {"reg": 1e-3},
    "vbpr": {"scaling": "unit", "l2": 1e-3},
    "alignrec": {},
}
HIDDEN = 0.5


def sets_of(data: Dataset) -> dict[str, FeatureSet]:
    """Return the feature sets on trial, by name."""
    both = joined(data)
    half = protocols.hidden(data, "text", 0.5)
    category = np.unique(data.items["category"].astype(str), return_inverse=True)[1]
    sets: dict[str, FeatureSet] = {
        "image": joined(data, "image"),
        "text": joined(data, "text"),
        CHOSEN_WITH: both,
        "joined, raw": joined(data, scaling="raw"),
        "joined, one each": partial(_one_each, data, half),
        "aligned (CCA)": feature_sets.aligned(data),
        "category": np.eye(category.max() + 1)[category],
    }
    if (encoder := encoder_for("bazaar", None)) is not None:
        sets["mmenc"] = partial(_encoded, encoder, data)
    return sets | {
        "shuffled": feature_sets.shuffled(both, data.n_items),
        "noise": feature_sets.noise(both, data.n_items),
    }


def _one_each(data: Dataset, without_words: np.ndarray, hide: feature_sets.Hide | None = None) -> np.ndarray:
    hide = hide or {}
    nobody = np.zeros(data.n_items, dtype=bool)
    return joined(data)({"image": ~without_words | hide.get("image", nobody), "text": without_words | hide.get("text", nobody)})


def _encoded(encoder: Any, data: Dataset, hide: feature_sets.Hide | None = None) -> np.ndarray:
    return encoder.vectors(data, hide=hide)


def train(data: Dataset, model: str, given: dict[str, Any], seed: int, out: Path) -> Run:
    """Train one model, or read it if it was trained before."""
    config = RunConfig(data_key(data), model, *split_names(model, {"dim": 64, **given}), seed, SETTINGS)
    return run(data, config, out, progress=False, device="cpu")


# -- what is measured -----------------------------------------------------------------------------------------------------------
def judged(sets: dict[str, FeatureSet], data: Dataset) -> tuple[list[dict[str, Any]], dict[str, list[np.ndarray]]]:
    """Return each set's row under the protocols, and by protocol the hits the numbers come from."""
    rows, hits = [], {name: [] for name in protocols.PROTOCOLS}
    for name, features in sets.items():
        table = unit_rows(feature_sets.table_of(features, data.n_items))
        row: dict[str, Any] = {"features": name, "dim": table.shape[1], "empty": int((~table.any(1)).sum())}
        for protocol, judge in protocols.PROTOCOLS.items():
            told = judge(table, data)
            hits[protocol].append(told.found())
            row[protocol] = {"recall@20": told.recall(), "interval": list(told.interval()), "chance": told.chance()}
        rows.append(row)
    return rows, hits


def finals(model: str, sets: dict[str, FeatureSet], data: Dataset, out: Path) -> dict[str, Any]:
    """Train one model on every set. Returns its rows, and by kind of item the recall by user (mean over seeds) of each set."""
    fixed, choices = MODELS[model]
    shops = {name: with_table(data, unit_rows(feature_sets.table_of(f, data.n_items))) for name, f in sets.items()}
    valid = [
        train(shops[CHOSEN_WITH], model, fixed | choice, SEEDS[0], out).metrics["valid"]["recall@20"] for choice in choices
    ]
    given = fixed | choices[int(np.argmax(valid))]
    rows, by_user, first = [], {items: [] for items in ITEMS}, []
    for name, shop in shops.items():
        runs = [train(shop, model, given, seed, out) for seed in SEEDS]
        recall = [recall_by_user(r.evaluation) for r in runs]
        row: dict[str, Any] = {"features": name, "best_epochs": [r.metrics["best_epoch"] for r in runs]}
        for items in ITEMS:
            values = [float(r[items].mean()) for r in recall]
            row[items] = {"mean": float(np.mean(values)), "values": values}
            by_user[items].append(np.mean([r[items] for r in recall], axis=0))
        rows.append(row)
        if name == CHOSEN_WITH:
            first = runs
        print(f"{model} on {name}: {row['all']['mean']:.4f}", flush=True)
    return {
        "model": model,
        "given": given,
        "tried": [{**choice, "valid": value} for choice, value in zip(choices, valid, strict=True)],
        "rows": rows,
        "by_user": by_user,
        "masked": [masked_final(data, sets[CHOSEN_WITH], first, modality) for modality in data.modalities],
    }


def masked_final(data: Dataset, features: FeatureSet, runs: list[Run], modality: str) -> dict[str, Any]:
    """Return what the trained models lose when half of the items lose a modality."""
    drops = []
    for seed, trained in zip(SEEDS, runs, strict=True):

        def judge(table: np.ndarray, trained: Run = trained) -> np.ndarray:
            other = with_table(data, unit_rows(table))
            return evaluate(with_features(trained.model, other), other, "test", ks=(10, 20)).per_user["recall@20"]

        frame = protocols.mask_modality(features, data, judge, modalities=(modality,), shares=(HIDDEN,), seeds=(seed,))
        drops.append(float(frame["drop"].iloc[0]))
    return {"modality": modality, "drop": float(np.mean(drops)), "values": drops}


def agreement(names: list[str], hits: dict[str, list[np.ndarray]], final: dict[str, Any]) -> list[dict[str, Any]]:
    """Return τ between each protocol and one model's final recall, over all sets and over those that hold something."""
    rows = []
    for protocol, found in hits.items():
        for items in ITEMS:
            for over in ("all sets", "sets with content"):
                kept = [n for n, name in enumerate(names) if over == "all sets" or name not in EMPTY]
                told = protocols.rank_agreement([found[n] for n in kept], [final["by_user"][items][n] for n in kept])
                rows.append({"protocol": protocol, "model": final["model"], "items": items, "over": over, **told})
    return rows


def tails(data: Dataset, out: Path) -> dict[str, Any]:
    """Return the long-tail table of models on the data set's own tables."""
    evaluations: dict[str, list[Evaluation]] = {}
    for model, given in TAIL.items():
        seeds = SEEDS if model != "popularity" else SEEDS[:1]
        evaluations[model] = [train(data, model, given, seed, out).evaluation for seed in seeds]
        print(f"long tail, {model}: done", flush=True)
    frame = long_tail(evaluations)
    grouped = frame.drop(columns="run").groupby("model", sort=False)
    rows = []
    for model, part in grouped:
        columns = part.drop(columns="model")
        rows.append({"model": model, "mean": columns.mean().to_dict(), "runs": columns.to_dict("records")})
    return {"rows": rows, **{k: v for k, v in frame.attrs.items() if k != "buckets"}, "buckets": frame.attrs["buckets"]}


def measure(out: Path, result: Path | None) -> dict[str, Any]:
    """Judge, train, compare."""
    torch.set_num_threads(1)
    data = load("bazaar")
    sets = sets_of(data)
    rows, hits = judged(sets, data)
    report: dict[str, Any] = {
        "command": "python benchmarks/judge_features.py",
        "torch": torch.__version__,
        "threads": 1,
        "machine": platform.machine(),
        "data": data_key(data),
        "seeds": list(SEEDS),
        "settings": SETTINGS,
        "sets": rows,
        "masked": [
            {
                "judge": protocol,
                "modality": modality,
                "drop": float(
                    protocols.mask_modality(
                        sets[CHOSEN_WITH], data, protocol, modalities=(modality,), shares=(HIDDEN,), seeds=SEEDS
                    )["drop"].mean()
                ),
            }
            for protocol in protocols.PROTOCOLS
            for modality in data.modalities
        ],
        "models": [],
        "agreement": [],
    }
    for model in MODELS:
        final = finals(model, sets, data, out)
        report["agreement"] += agreement(list(sets), hits, final)
        report["models"].append({k: v for k, v in final.items() if k != "by_user"})
    report["long_tail"] = tails(data, out)
    if result is not None:
        write_json(result, report)
    return report


# -- the tables -----------------------------------------------------------------------------------------------------------------
def as_markdown(report: dict[str, Any]) -> str:
    """Return the tables."""
    models = report["models"]
    lines = [
        "**Feature sets of the bazaar: judged without training (Recall@20), and by models trained on them (test Recall@20)**",
        "",
        "| features | size | zero-shot | item-CF | "
        + " | ".join(f"{m['model']}: {w}" for m in models for w in ("all items", "cold items"))
        + " |",
        "|---|" + "---:|" * (3 + 2 * len(models)),
    ]
    for n, row in enumerate(report["sets"]):
        cells = [
            f"{_n(row[p]['recall@20'])} ± {_n((row[p]['interval'][1] - row[p]['interval'][0]) / 2)}"
            for p in ("zero-shot", "item-cf")
        ]
        cells += [_n(m["rows"][n][items]["mean"]) for m in models for items in ITEMS]
        lines.append(f"| {row['features']} | {row['dim']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "**Kendall's τ between a protocol and the final Recall@20 (95 % interval; pairs of sets in the same order)**",
        "",
    ]
    lines += [
        "| protocol | sets | " + " | ".join(f"{m['model']}: {w}" for m in models for w in ("all items", "cold items")) + " |"
    ]
    lines += ["|---|---|" + "---:|" * (2 * len(models))]
    for protocol in protocols.PROTOCOLS:
        for over in ("all sets", "sets with content"):
            told = {(a["model"], a["items"]): a for a in report["agreement"] if (a["protocol"], a["over"]) == (protocol, over)}
            cells = [
                f"{_n(a['tau'], 2)} ({_n(a['low'], 2)} to {_n(a['high'], 2)}; {a['agreeing']} of {a['pairs']})"
                for m in models
                for items in ITEMS
                for a in [told[m["model"], items]]
            ]
            lines.append(f"| {protocol} | {over} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"**What is lost when {HIDDEN:.0%} of the items lose a modality (picture and words joined, unit length)**",
        "",
    ]
    lines += ["| modality | zero-shot | item-CF | " + " | ".join(f"{m['model']}, final" for m in models) + " |"]
    lines += ["|---|" + "---:|" * (2 + len(models))]
    for modality in dict.fromkeys(m["modality"] for m in report["masked"]):
        drops = [m["drop"] for m in report["masked"] if m["modality"] == modality]
        drops += [d["drop"] for m in models for d in m["masked"] if d["modality"] == modality]
        lines.append(f"| {modality} | " + " | ".join(_n(d) for d in drops) + " |")
    return "\n".join(lines) + "\n\n" + tail_markdown(report["long_tail"])


def tail_markdown(told: dict[str, Any]) -> str:
    """Return the long-tail table."""
    buckets = [f"{label} ({items} items, {relevant})" for label, (items, relevant) in told["buckets"].items()]
    lines = [
        "**The long tail: share of test purchases found in the first 20, by buyers in training (items, test purchases); reach and "
        "exposure**",
        "",
        "| model | Recall@20 | " + " | ".join(buckets) + " | reach | tail reach | tail share |",
        "|---|" + "---:|" * (4 + len(buckets)),
    ]
    for row in told["rows"]:
        lines.append(f"| {row['model']} | " + " | ".join(_n(v) for v in row["mean"].values()) + " |")
    lines += [
        "",
        f"Reach: items in at least one list. Tail: the {told['tail items']:.0%} of the items that are bought least, with "
        f"{told['tail purchases']:.0%} of the test purchases; tail share: of all places in lists. Means of {len(SEEDS)} seeds.",
    ]
    return "\n".join(lines)


def _n(value: float, digits: int = 3) -> str:
    if value != value:
        return "n/a"
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def main() -> None:
    """Run the study, or print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the result file, train nothing")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/judge_features"), help="where run folders go (default %(default)s)"
    )
    given = parser.parse_args()
    report = json.loads(RESULT.read_text(encoding="utf-8")) if given.print else measure(given.out, RESULT)
    print(as_markdown(report))


if __name__ == "__main__":
    main()
