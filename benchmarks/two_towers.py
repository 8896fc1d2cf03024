"""Two towers on the bazaar: what each tower finds, what a gate adds, what leaked statistics pretend, and content as cluster ids.

    python benchmarks/two_towers.py                  # trains, writes benchmarks/results/two_towers.json, prints the tables
    python benchmarks/two_towers.py --parts gates    # one part only
    python benchmarks/two_towers.py --print          # prints the tables of that file again
    python benchmarks/two_towers.py --figure PAGE.html   # draws the clusters' curve of that file

Everything has the settings of :data:`MODEL` and :data:`TRAINING`; part *tried* says what else was tried on validation, with one
seed. Every run trains for the same number of epochs (part *clusters*: twice as many), is looked at after each, and is judged on
test as it was when best on validation. Losses are those of the last epoch.

- *towers*: the behaviour tower alone, the content tower alone, both with three weights of the triplet term; the query a user
  or one of her items.
- *gates*: none, concat and sum; fed by the shop-window counts, by counts of training, or by nothing. Five seeds.
- *leaks*: statistics that hold the held-out interactions, judged with them (what the numbers pretend) and, the same weights, with
  statistics that end before them (what users get).
- *clusters*: a content tower that reads the id of the item's cluster, at growing numbers of clusters.
- *losses*: in-batch softmax with and without the correction by log Q, and BPR with sampled negatives: whom they show.

Warm and cold are the shares of the judged interactions with such items that are found. All items are ranked, train and valid
masked.
Work that was broken off goes on from the result's file; what is finished is not repeated. Delete the file to start anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.bazaar import CUTOFF, DAY
from mmrec_teach.data.counts import check_counts, with_future
from mmrec_teach.errors import DataError
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation import metrics as m
from mmrec_teach.evaluation.long_tail import tail_items
from mmrec_teach.files import rounded, write_json, write_text
from mmrec_teach.models import TwoTower, create
from mmrec_teach.training import fit
from mmrec_teach.views.figures import PAGE_WIDTH
from mmrec_teach.views.figures_towers import cluster_curve, gate_table

RESULT = Path(__file__).resolve().parent / "results" / "two_towers.json"
SEEDS = (0, 1, 2)
MODEL: dict[str, Any] = {"dim": 32, "hidden": 64, "temperature": 0.2}
TRAINING: dict[str, Any] = {"lr": 5e-3, "batch_size": 1024, "epochs": 12, "metrics_every": 1}
K = 20
_ID, _CONTENT = {"content": 0.0, "triplet": 0.0}, {"id": 0.0, "triplet": 0.0}
TRIED: dict[str, Mapping[str, Any]] = {
    "as chosen": {},
    **{f"temperature={t}": {"temperature": t} for t in (0.1, 0.3)},
    **{f"lr={lr}": {"lr": lr} for lr in (2e-3, 1e-2)},
    **{f"l2={w}": {"l2": w} for w in (1e-2, 1.0)},
    "dim=64": {"dim": 64},
}
TOWERS: dict[str, Mapping[str, Any]] = {
    "behaviour tower alone": {"serve": "id", **_ID},
    "content tower alone": {"serve": "content", **_CONTENT},
    "both": {"triplet": 0.0},
    "both, triplet 0.1": {"triplet": 0.1},
    "both, triplet 1": {"triplet": 1.0},
}
QUERIES = {"user": {}, "trigger": {"query": "trigger"}}
GATES: dict[str, Mapping[str, Any]] = {
    "none": {"gate": "none"},
    "concat, window": {"gate": "concat", "statistics": "window"},
    "concat, others": {"gate": "concat", "statistics": "others"},
    "concat, constant": {"gate": "concat", "statistics": "constant"},
    "sum, window": {"gate": "sum", "statistics": "window"},
    "sum, others": {"gate": "sum", "statistics": "others"},
    "sum, constant": {"gate": "sum", "statistics": "constant"},
    "sum, window, new_share 0.2": {"gate": "sum", "statistics": "window", "new_share": 0.2},
    "sum, constant, new_share 0.2": {"gate": "sum", "statistics": "constant", "new_share": 0.2},
    "concat, window, new_share 0.2": {"gate": "concat", "statistics": "window", "new_share": 0.2},
}
GATE_SEEDS = (0, 1, 2, 3, 4)
LEAKS = ("window and held-out", "interactions of all splits")
CLUSTERS = (4, 16, 64, 256)  # and every item its own
CLUSTER_EPOCHS = 24
LOSSES: dict[str, Mapping[str, Any]] = {
    "softmax, log Q": {"logq": True},
    "softmax": {"logq": False},
    "bpr": {"loss": "bpr"},
}
PARTS = ("tried", "towers", "gates", "leaks", "clusters", "losses")


# -- one run ---------------------------------------------------------------------------------------------------------------------
def train(data: Dataset, given: Mapping[str, Any], seed: int) -> tuple[TwoTower, dict[str, Any]]:
    """Train once with options, weights and settings mixed in ``given``; return the model at its best and how training went."""
    weights = {k: v for k, v in given.items() if k in TwoTower.default_weights}
    settings = TRAINING | {k: v for k, v in given.items() if k in TRAINING}
    options = MODEL | {k: v for k, v in given.items() if k not in weights and k not in settings}
    model = create("two-tower", data, seed=seed, **options)
    told = fit(
        model,
        data,
        weights=weights,
        seed=seed,
        metric=f"recall@{K}",
        ks=(K,),
        progress=False,
        device="cpu",
        patience=10**6,
        **settings,
    )
    last = told.history[-1].losses
    return model, {"valid": told.best[f"recall@{K}"], "best epoch": told.best_epoch, "losses": dict(last)}


def judged(result: Evaluation) -> dict[str, float]:
    """Return what is found, and whom it shows."""
    found = (result.relevant_ranks > 0) & (result.relevant_ranks <= K)
    cold = (result.item_counts == 0)[result.relevant[1]]
    shown = m.exposure(result.topk, result.n_items, K)
    return {
        "recall": result.mean(f"recall@{K}"),
        "ndcg": result.mean(f"ndcg@{K}"),
        "warm": float(found[~cold].mean()),
        "cold": float(found[cold].mean()),
        "cold among cold": result.cold()[f"recall_among_cold@{K}"],
        "reach": float((shown > 0).mean()),
        "cold share": float(shown[result.item_counts == 0].sum() / shown.sum()),
        "tail share": float(shown[tail_items(result.item_counts)].sum() / shown.sum()),
        "popularity": float((shown * result.item_counts).sum() / shown.sum()),
    }


def test(model: TwoTower, data: Dataset) -> dict[str, float]:
    """Return :func:`judged` on test."""
    return judged(evaluate(model, data, "test", ks=(K,)))


def once(data: Dataset, given: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train once; return ``valid``, ``best epoch``, ``losses`` of the last epoch, ``test`` and, of a gate, its values by bucket."""
    model, told = train(data, given, seed)
    told["test"] = test(model, data)
    if given.get("gate", "sum") != "none":
        told["gate"] = gate_of(model, data)
    return told


def gate_of(model: TwoTower, data: Dataset) -> dict[str, Any]:
    """Return a gate's values by popularity and by age, and its rank correlation with popularity among warm items."""
    with model.evaluating():
        g = model.gates().numpy()
    warm = ~data.cold_items
    order = pd.Series(g[warm]).corr(pd.Series(data.item_counts[warm]), method="spearman") if np.ptp(g[warm]) > 1e-6 else 0.0
    by = {"popularity": gate_table(g, data.item_counts), "age": gate_table(g, age(data), zero="not yet")}
    return {"spearman": float(order)} | {name: table.to_dict("list") for name, table in by.items()}


def age(data: Dataset) -> np.ndarray:
    """Return for how many days (I,) each item of the bazaar had been in the shop at the end of the counts; 0: it came later."""
    return np.maximum(CUTOFF - data.items["launched"].to_numpy(), 0) / DAY


# -- leaks -----------------------------------------------------------------------------------------------------------------------
def leaky(data: Dataset, kind: str) -> tuple[Dataset, Dataset]:
    """Return the data with statistics that know the future, and with the same kind of statistics that do not."""
    if kind == LEAKS[0]:
        return with_future(data), data
    every = sum(np.bincount(data.split(s).items, minlength=data.n_items) for s in ("train", "valid", "test"))
    return replace(data, exposures=every, clicks=every), replace(data, exposures=data.item_counts, clicks=data.item_counts)


def guarded(data: Dataset) -> str:
    """Return what the guard says of the data; "" where it lets them pass."""
    try:
        check_counts(data)
    except DataError as error:
        return str(error)
    return ""


def leak(data: Dataset, kind: str, gate: str, new_share: float, seed: int) -> dict[str, Any]:
    """Train with leaked statistics; judge with them and, the same weights, without; train and judge without them."""
    future, honest = leaky(data, kind)
    given = {"gate": gate, "statistics": "window", "new_share": new_share}
    told: dict[str, Any] = {"guard": guarded(future), "guard on honest": guarded(honest)}
    model, fitted = train(future, {**given, "allow_leak": True}, seed)
    told["pretended"] = fitted | {"test": test(model, future)}
    served = create("two-tower", honest, **(model.options | {"allow_leak": False}))
    served.load_state_dict(model.state_dict())
    told["served"] = {"test": test(served, honest)}
    told["honest"] = once(honest, given, seed)
    return told


# -- the study -------------------------------------------------------------------------------------------------------------------
def clusters_of(data: Dataset) -> dict[str, Mapping[str, Any]]:
    """Return the runs of part *clusters*: :data:`CLUSTERS`, every item with content its own, and both towers as they are."""
    has = np.any([table.any(1) for table in data.features.values()], axis=0)
    content, behaviour = TOWERS["content tower alone"], TOWERS["behaviour tower alone"]
    runs = {str(k): content | {"clusters": k} for k in (*CLUSTERS, int(has.sum()))}
    return runs | {"content tower": content, "behaviour tower": behaviour}


def run(out: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Run what is not in the file yet; the file grows by one run at a time."""
    data = load("bazaar")
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    result: dict[str, Any] = {
        "command": "python benchmarks/two_towers.py",
        "machine": {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
        | {"torch": torch.__version__, "threads": torch.get_num_threads()},
        "data": data.name,
        "items": {"all": data.n_items, "cold": int(data.cold_items.sum()), "interactions": len(data.train)},
        "settings": {"model": MODEL, "training": TRAINING},
        **{part: kept.get(part, {}) for part in PARTS},
    }

    def fill(part: str, name: str, seed: int, make: Any) -> None:
        if part in parts and str(seed) not in (entry := result[part].setdefault(name, {})):
            entry[str(seed)] = rounded(make())
            write_json(out, result)
            print(part, name, seed, flush=True)

    for name, given in TRIED.items():
        fill("tried", name, 0, lambda g=given: once(data, g, 0))
    for seed in GATE_SEEDS:
        for name, given in GATES.items():
            fill("gates", name, seed, lambda g=given, s=seed: once(data, g, s))
        if seed not in SEEDS:
            continue
        for query, asks in QUERIES.items():
            for name, given in TOWERS.items():
                one = {"gate": "none", **asks, **given}
                fill("towers", f"{query}: {name}", seed, lambda g=one, s=seed: once(data, g, s))
        for name, given in clusters_of(data).items():
            one = {"gate": "none", "epochs": CLUSTER_EPOCHS, **given}
            fill("clusters", name, seed, lambda g=one, s=seed: once(data, g, s))
        for kind in LEAKS:
            for gate in ("sum", "concat"):
                fill("leaks", f"{gate}: {kind}", seed, lambda k=kind, g=gate, s=seed: leak(data, k, g, 0.2, s))
        for name, given in LOSSES.items():
            one = {"gate": "none", "triplet": 0.0, **given}
            fill("losses", name, seed, lambda g=one, s=seed: once(data, g, s))
    return result


# -- showing it ------------------------------------------------------------------------------------------------------------------
def values(entry: Mapping[str, Any], *path: str) -> list[float]:
    """Return each seed's number."""
    found: list[Any] = list(entry.values())
    for name in path:
        found = [one[name] for one in found]
    return found


def _short(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _cell(entry: Mapping[str, Any], *path: str, digits: int = 3) -> str:
    """The mean over seeds."""
    return _short(statistics.fmean(values(entry, *path)), digits)


def _spread(entry: Mapping[str, Any], *path: str) -> str:
    """The mean over seeds, and half of their range."""
    found = values(entry, *path)
    return f"{_short(statistics.fmean(found))} ±{_short((max(found) - min(found)) / 2)}"


def _markdown(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join([f"**{title}**", "", *(f"| {' | '.join(row)} |" for row in rows)])


def _found(entry: Mapping[str, Any], *path: str) -> list[str]:
    """The cells of a table's columns: valid is not among them."""
    head = _spread(entry, *path, "test", "recall")
    return [head, *(_cell(entry, *path, "test", name) for name in ("warm", "cold", "cold among cold", "reach", "tail share"))]


FOUND = ("recall@20", "warm", "cold", "cold among cold", "reach", "tail share")


def tables(result: Mapping[str, Any]) -> str:
    """Return all tables of what there is."""
    makers = (tried_table, towers_table, gates_table, values_table, leaks_table, clusters_table, losses_table)
    needs = ("tried", "towers", "gates", "gates", "leaks", "clusters", "losses")
    return "\n\n".join(make(result) for make, part in zip(makers, needs, strict=True) if result[part])


def tried_table(result: Mapping[str, Any]) -> str:
    """Return what was tried on validation."""
    lines = [[name, _cell(entry, "valid"), _cell(entry, "best epoch", digits=0)] for name, entry in result["tried"].items()]
    return _markdown("tried on validation, gate sum, one seed", ["", "valid recall@20", "best epoch"], lines)


def towers_table(result: Mapping[str, Any]) -> str:
    """Return what each tower finds."""
    lines = [[name, *_found(entry), _cell(entry, "best epoch", digits=0)] for name, entry in result["towers"].items()]
    return _markdown(f"towers, {_seeds(result['towers'])} seeds", ["query: towers", *FOUND, "best epoch"], lines)


def gates_table(result: Mapping[str, Any]) -> str:
    """Return what gates find, and each one's difference to the sum of the same statistics by seed."""
    lines = []
    for name, entry in result["gates"].items():
        other = result["gates"].get(name.replace("concat", "sum"), {})
        gaps = [other[s]["test"]["recall"] - entry[s]["test"]["recall"] for s in entry if s in other]
        gap = f"{statistics.fmean(gaps):+.3f} ({sum(g > 0 for g in gaps)} of {len(gaps)})" if name.startswith("concat") else ""
        lines.append([name, *_found(entry), gap])
    title = f"gates, {_seeds(result['gates'])} seeds; the last column is sum less concat, and on how many seeds sum is ahead"
    return _markdown(title, ["gate", *FOUND, "sum − concat"], lines)


def values_table(result: Mapping[str, Any]) -> str:
    """Return the gates' values by buckets."""
    parts = []
    for by, axis in (("popularity", "training interactions"), ("age", "days in the shop")):
        lines, head = [], []
        for name, entry in result["gates"].items():
            if "none" in name or "constant" in name:
                continue
            buckets = next(iter(entry.values()))["gate"][by]
            head = [f"{b} ({n})" for b, n in zip(buckets["bucket"], buckets["items"], strict=True)]
            medians = np.mean(values(entry, "gate", by, "median"), axis=0)
            cells = [name, *(_short(v, 2) for v in medians)]
            lines.append([*cells, _cell(entry, "gate", "spearman", digits=2)] if by == "popularity" else cells)
        head = ["gate", *head, *(["ρ, warm items"] if by == "popularity" else [])]
        parts.append(_markdown(f"median gate value (the weight of content) by {axis} (items)", head, lines))
    fixed = {name: entry for name, entry in result["gates"].items() if "constant" in name}
    told = [
        f"{name}: {_short(statistics.fmean(v[0] for v in values(e, 'gate', 'popularity', 'median')), 2)}"
        for name, e in fixed.items()
    ]
    return "\n\n".join(parts) + "\n\nWithout statistics: " + "; ".join(told)


def leaks_table(result: Mapping[str, Any]) -> str:
    """Return what leaked statistics pretend."""
    lines = []
    for name, entry in result["leaks"].items():
        refused = "yes" if all(values(entry, "guard")) else "NO"
        for how, label in (("pretended", "judged with them"), ("served", "served without"), ("honest", "never leaked")):
            lines.append([f"{name}, {label}", *_found(entry, how), refused if how == "pretended" else ""])
    return _markdown(f"leaked statistics, {_seeds(result['leaks'])} seeds", ["", *FOUND, "guard refuses"], lines)


def clusters_table(result: Mapping[str, Any]) -> str:
    """Return loss and recall by the number of clusters, and how much of the way to the behaviour tower's loss is gone."""
    entries = result["clusters"]
    loss = {name: statistics.fmean(values(entry, "losses", _term(name))) for name, entry in entries.items()}
    start, goal = loss[str(CLUSTERS[0])], loss["behaviour tower"]
    lines = []
    for name, entry in entries.items():
        label = f"{int(name):,} clusters" if name.isdigit() else name
        gone = f"{(start - loss[name]) / (start - goal):.0%}"
        lines.append([label, _spread(entry, "losses", _term(name)), gone, *_found(entry), _cell(entry, "best epoch", digits=0)])
    head = ["content tower reads", "training loss", "of the way", *FOUND, "best epoch"]
    return _markdown(f"cluster ids for content, {_seeds(entries)} seeds", head, lines)


def _term(name: str) -> str:
    return "id" if name == "behaviour tower" else "content"


def losses_table(result: Mapping[str, Any]) -> str:
    """Return whom each loss shows."""
    lines = [
        [name, *_found(entry), _cell(entry, "test", "cold share"), _cell(entry, "test", "popularity", digits=1)]
        for name, entry in result["losses"].items()
    ]
    head = ["loss", *FOUND, "cold share", "buyers of what is shown"]
    return _markdown(f"losses, both towers, no gate, {_seeds(result['losses'])} seeds", head, lines)


def _seeds(part: Mapping[str, Any]) -> int:
    return min(len(entry) for entry in part.values())


def curve(result: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Return what :func:`~mmrec_teach.views.figures_towers.cluster_curve` draws: clusters, and both towers beside them."""
    rows = [
        {
            "name": name,
            "loss": one["losses"][_term(name)],
            "recall": one["test"]["warm"],
            "cold": one["test"]["cold among cold"],
        }
        for name, entry in result["clusters"].items()
        for one in entry.values()
    ]
    table = pd.DataFrame(rows)
    numbered = table["name"].str.isdigit()
    beside = table[~numbered].groupby("name")[["loss", "recall", "cold"]].mean()
    order = ["behaviour tower", "content tower"]
    points = table[numbered].assign(clusters=table["name"][numbered].astype(int)).drop(columns="name")
    return points, {name: beside.loc[name].to_dict() for name in order}


def picture(result: Mapping[str, Any]) -> go.Figure:
    """Return the clusters' curve: loss, warm items found, cold ones found among cold ones."""
    points, beside = curve(result)
    ids = points.loc[points["clusters"] == points["clusters"].max(), "cold"].mean()
    title = f"As many leaves as items are IDs by another name: new items are found as by chance ({ids:.2f})"
    measures = {"loss": "training loss", "recall": "found@20, warm", "cold": "found@20, cold among cold"}
    return cluster_curve(points, beside, measures=measures, title=title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the stored result; train nothing")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the stored result as a page; train nothing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which parts (default all)")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result's file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.print or arguments.figure:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    else:
        result = run(arguments.out, arguments.parts)
    if arguments.figure:
        write_text(arguments.figure, picture(result).update_layout(width=PAGE_WIDTH).to_html())
    print(tables(result))


if __name__ == "__main__":
    main()
