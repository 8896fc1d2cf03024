"""Are planted interests recovered? DPC-KNN beside k-means with as many clusters, on features and on tokens that MISSRec has trained.

    python benchmarks/interests.py            # clusters and trains, writes benchmarks/results/interests.json, prints the tables
    python benchmarks/interests.py --print    # prints the tables of that file again

What the bazaar plants: a user's interests are kinds of things (12 categories in the main domain), and every item belongs to one. That is
the truth for a token, picture or words alike. The other planted attributes (hue, tone, pattern; spirit, making; feel, which nothing
shows) decide taste within a kind: a table says which of them clusters follow instead. Where tokens of both modalities are clustered
together, a cluster of pictures and one of words may each stand for a kind, so there the truth is kind and modality, 24 classes.

DPC-KNN has no seed: one figure. k-means (one start) and mini-batch k-means: mean over three seeds. MISSRec: three seeds, its
tokens before the first epoch and after some.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.evaluation.recovery import Tokens, recovery, token_table, tokens_of
from mmrec_teach.files import write_json
from mmrec_teach.models import create
from mmrec_teach.ops.clustering import density_peaks, dpc_knn, minibatch_kmeans
from mmrec_teach.training import train
from mmrec_teach.training.experiments import data_key

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "interests.json"
SEEDS = (0, 1, 2)
CLUSTERS = (6, 12, 24, 48, 96)
NEIGHBOURS = (2, 5, 10, 20, 40)
FEATURES = {"image": ("image",), "text": ("text",), "image and text": ("image", "text")}
METHODS = ("DPC-KNN", "DPC-KNN, along parents", "k-means", "mini-batch k-means")
FACTORS = ("hue", "tone", "pattern", "spirit", "making", "feel")
OPTIONS: dict[str, dict[str, Any]] = {
    "as in the article": {},
    "without the point itself": {"include_self": False},
    "the peak's delta of all points (released)": {"top": "all"},
    "equal densities: two peaks (released)": {"ties": "strict"},
}
MODEL = {"dim": 32, "length": 10, "inner": 64, "heads": 2, "dropout": 0.2, "scaling": "unit", "ids": False}
TRAINING = {"lr": 5e-3, "batch_size": 512, "metrics_every": 0}
EPOCHS = (0, 1, 3, 6, 12)
READ = ("tokens read", "interests read", "interests read at 24")


def clustered(x: Tensor, n: int, method: str, k: int = 5, **options: Any) -> list[np.ndarray]:
    """Return the assignments of one method, one for each seed if it has any."""
    if method.startswith("DPC"):
        assign = "parent" if "parents" in method else "nearest"
        return [dpc_knn(x, n, k, assign=assign, **options).assignment.numpy()]
    if method == "k-means":
        return [KMeans(n, n_init=1, random_state=seed).fit(x.numpy()).labels_ for seed in SEEDS]
    return [minibatch_kmeans(x, n, seed=seed).assignment.numpy() for seed in SEEDS]


def scored(found: list[np.ndarray], planted: np.ndarray) -> dict[str, Any]:
    """Return mean and values of each measure."""
    each = [recovery(one, planted) for one in found]
    return {name: {"mean": float(np.mean([e[name] for e in each])), "values": [e[name] for e in each]} for name in each[0]}


def truth_of(tokens: Tokens, data: Dataset) -> np.ndarray:
    """Return each token's class: its item's kind; where there are several modalities, kind and modality."""
    kind = data.truth.item_interest[tokens.items]
    return kind * len(tokens.names) + tokens.modality


def on_features(data: Dataset) -> dict[str, list[dict[str, Any]]]:
    """Return what is recovered from the features as they are."""
    out: dict[str, list[dict[str, Any]]] = {"clusters": [], "neighbours": [], "factors": [], "options": []}
    for name, modalities in FEATURES.items():
        for scaling in ("raw", "unit"):
            tokens = tokens_of(data, modalities, scaling)
            planted, where = truth_of(tokens, data), {"features": name, "scaling": scaling}
            for n in CLUSTERS:
                for method in METHODS:
                    found = clustered(tokens.x, n, method)
                    largest = int(max(np.bincount(one).max() for one in found))
                    row = {**where, "K": n, "method": method, "largest": largest, "tokens": len(tokens)}
                    out["clusters"].append(row | scored(found, planted))
                    if len(modalities) == 1 and scaling == "unit" and n == 12:
                        follows = {"kind": planted} | {f: data.truth.extra[f][tokens.items] for f in FACTORS}
                        told = {factor: scored(found, values)["ari"]["mean"] for factor, values in follows.items()}
                        out["factors"].append({**where, "K": n, "method": method, "ari": told})
            for k in NEIGHBOURS:
                for method in METHODS[:2]:
                    row = {**where, "K": 12, "k": k, "method": method}
                    out["neighbours"].append(row | scored(clustered(tokens.x, 12, method, k), planted))
            for option, given in OPTIONS.items():
                row = {**where, "K": 12, "k": 5, "option": option}
                out["options"].append(row | scored(clustered(tokens.x, 12, "DPC-KNN", **given), planted))
    return out


def on_trained(data: Dataset) -> list[dict[str, Any]]:
    """Return what is recovered from MISSRec's tokens before and after some epochs: at K = 24, and by its own interests."""
    rows = []
    for interests in ("dpc", "kmeans"):
        for seed in SEEDS:
            model = create("missrec", data, seed=seed, interests=interests, **MODEL)
            loop = train(model, data, seed=seed, epochs=max(EPOCHS), **TRAINING)
            for epoch in range(max(EPOCHS) + 1):
                if epoch:
                    next(loop)
                if epoch not in EPOCHS:
                    continue
                model.find_interests()
                tokens = token_table(model)
                kind, planted = data.truth.item_interest[tokens.items], truth_of(tokens, data)
                own = model.interest_of[model.has].numpy()
                row: dict[str, Any] = {"interests": interests, "seed": seed, "epoch": epoch, "K": len(model.interest)}
                row["own"] = recovery(own, kind) | {"modality": recovery(own, tokens.modality)["pairs"]}
                row["items"] = recovery(own, tokens.items)["pairs"]
                row["at 24"] = {m: scored(clustered(tokens.x, 24, m), planted) for m in METHODS} if interests == "dpc" else {}
                judged = evaluate(model, data, "test")
                row["recall@20"], row["cold"] = judged.mean("recall@20"), judged.cold()["recall@20"]
                row |= memory(model, data)
                rows.append(row)
                print(f"{interests}, seed {seed}, epoch {epoch}: pairs {row['own']['pairs']:.3f}", flush=True)
    return rows


def memory(model: Any, data: Dataset) -> dict[str, float]:
    """Return how many tokens a user's history has, and how many distinct interests, on average, at K of the model and at K = 24."""
    items, lengths = model.history(torch.arange(data.n_users))
    there = torch.arange(items.shape[1]) < lengths[:, None]
    read = (model.has[items] & there[..., None]).sum((1, 2)).double().mean()
    tokens = token_table(model)
    out = {"tokens read": float(read), "interests read": _distinct(model.interest_of, len(model.interest), items, there)}
    few = torch.full_like(model.interest_of, 24)
    few[model.has] = dpc_knn(tokens.x, 24).assignment
    return out | {"interests read at 24": _distinct(few, 24, items, there)}


def _distinct(interest_of: Tensor, none: int, items: Tensor, there: Tensor) -> float:
    seen = torch.zeros(len(items), none + 1, dtype=torch.bool)
    seen.scatter_(1, interest_of[items].masked_fill(~there[..., None], none).flatten(1), True)
    return float(seen[:, :none].sum(1).double().mean())


def measure(result: Path | None) -> dict[str, Any]:
    """Cluster, train, compare."""
    torch.set_num_threads(1)
    data = load("bazaar")
    report: dict[str, Any] = {
        "command": "python benchmarks/interests.py",
        "torch": torch.__version__,
        "threads": 1,
        "machine": platform.machine(),
        "data": data_key(data),
        "seeds": list(SEEDS),
        "model": MODEL,
        "training": TRAINING,
        "classes": int(data.truth.item_interest.max()) + 1,
        **on_features(data),
        "trained": on_trained(data),
    }
    density = density_peaks(tokens_of(data, None, "raw").x).density
    report["raw densities"] = {
        name: [
            float(v) for v in density[torch.from_numpy(tokens_of(data).modality == m)].quantile(torch.tensor([0.1, 0.5, 0.9]))
        ]
        for m, name in enumerate(data.modalities)
    }
    if result is not None:
        write_json(result, report)
    return report


# -- the tables -----------------------------------------------------------------------------------------------------------------
def as_markdown(report: dict[str, Any]) -> str:
    """Return the tables."""
    lines = [
        f"**Planted interests recovered: ARI (NMI) with K clusters, k = 5; k-means: mean of {len(report['seeds'])} seeds**",
        "",
    ]
    shown = (12, 24, 48)
    lines += ["| features | scaling | method | " + " | ".join(f"K = {n}" for n in shown) + " | largest cluster at 12 |"]
    lines += ["|---|---|---|" + "---:|" * (len(shown) + 1)]
    for name in FEATURES:
        for scaling in ("raw", "unit"):
            for method in METHODS:
                part = {
                    row["K"]: row
                    for row in report["clusters"]
                    if (row["features"], row["scaling"], row["method"]) == (name, scaling, method)
                }
                cells = [f"{_n(part[n]['ari']['mean'])} ({_n(part[n]['nmi']['mean'])})" for n in shown]
                lines.append(
                    f"| {name} | {scaling} | {method} | "
                    + " | ".join(cells)
                    + f" | {part[12]['largest']} of {part[12]['tokens']} |"
                )
    lines += ["", "**DPC-KNN over k: ARI at K = 12**", ""]
    lines += ["| features | scaling | points join | " + " | ".join(f"k = {k}" for k in NEIGHBOURS) + " |"]
    lines += ["|---|---|---|" + "---:|" * len(NEIGHBOURS)]
    for name in FEATURES:
        for scaling in ("raw", "unit"):
            for method, how in zip(METHODS[:2], ("nearest centre", "along parents"), strict=True):
                part = [
                    row["ari"]["mean"]
                    for row in report["neighbours"]
                    if (row["features"], row["scaling"], row["method"]) == (name, scaling, method)
                ]
                lines.append(f"| {name} | {scaling} | {how} | " + " | ".join(_n(v) for v in part) + " |")
    lines += ["", "**What clusters follow: ARI with each planted attribute, K = 12, rows at length 1**", ""]
    factors = ("kind", *FACTORS)
    lines += ["| features | method | " + " | ".join(factors) + " |", "|---|---|" + "---:|" * len(factors)]
    for row in report["factors"]:
        lines.append(f"| {row['features']} | {row['method']} | " + " | ".join(_n(row["ari"][f]) for f in factors) + " |")
    lines += ["", "**Where forms of DPC-KNN differ: ARI at K = 12, k = 5**", ""]
    columns = [(name, scaling) for name in FEATURES for scaling in ("raw", "unit")]
    lines += ["| form | " + " | ".join(f"{n}, {s}" for n, s in columns) + " |", "|---|" + "---:|" * len(columns)]
    for option in OPTIONS:
        part = {(r["features"], r["scaling"]): r["ari"]["mean"] for r in report["options"] if r["option"] == option}
        lines.append(f"| {option} | " + " | ".join(_n(part[c]) for c in columns) + " |")
    return "\n".join(lines) + "\n\n" + trained_markdown(report)


def trained_markdown(report: dict[str, Any]) -> str:
    """Return the tables of trained tokens."""
    rows = report["trained"]
    lines = [
        "**MISSRec's tokens, pictures and words together: ARI with kind and modality (24 classes) at K = 24**",
        "",
        "| epochs | " + " | ".join(METHODS) + " |",
        "|---:|" + "---:|" * len(METHODS),
    ]
    for epoch in EPOCHS:
        part = [row["at 24"] for row in rows if row["interests"] == "dpc" and row["epoch"] == epoch]
        cells = []
        for method in METHODS:
            values = [p[method]["ari"]["mean"] for p in part]
            cells.append(f"{_n(np.mean(values))} ({_n(min(values))} to {_n(max(values))})")
        lines.append(f"| {epoch} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"**The model's own interests, K = half of the tokens ({rows[0]['K']}): of two tokens of one interest, how often both have one …**",
        "",
        "| interests | epochs | kind | modality | tokens read | interests read | interests read at K = 24 | Recall@20 | cold |",
        "|---|---:|" + "---:|" * 7,
    ]
    for interests, name in (("dpc", "DPC-KNN"), ("kmeans", "mini-batch k-means")):
        for epoch in EPOCHS:
            part = [row for row in rows if (row["interests"], row["epoch"]) == (interests, epoch)]
            values = [
                [
                    row["own"]["pairs"],
                    row["own"]["modality"],
                    *(row[name] for name in READ),
                    row["recall@20"],
                    row["cold"],
                ]
                for row in part
            ]
            mean = np.mean(values, axis=0)
            cells = [_n(v) for v in mean[:2]] + [f"{v:.1f}" for v in mean[2:5]] + [_n(v) for v in mean[5:]]
            lines.append(f"| {name} | {epoch} | " + " | ".join(cells) + " |")
    chance = rows[0]["own"]["chance"]
    lines += [
        "",
        f"Any two tokens: one kind in {_n(chance)} of the cases. Means of {len(report['seeds'])} seeds; in brackets their range.",
    ]
    return "\n".join(lines)


def _n(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def main() -> None:
    """Run the study, or print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the result file, train nothing")
    given = parser.parse_args()
    report = json.loads(RESULT.read_text(encoding="utf-8")) if given.print else measure(RESULT)
    print(as_markdown(report))


if __name__ == "__main__":
    main()
