"""MISSRec part by part, and what it carries from one shop to the next, on the bazaar.

    python benchmarks/transfer.py                  # trains, writes benchmarks/results/transfer.json, prints the tables
    python benchmarks/transfer.py --print          # prints the tables of that file again

The split is leave-one-out with new items: a user's story ends with the first cold item she took, if she took one, else with her last
purchase. That item is for test, the one before it for validation; cold items are in no training history. Every item is ranked but those
of the user's own history, @10. All models have vectors of 64 numbers and read the latest 20 items. MISSRec trains for eight epochs at most
and stops early on validation, so settings that learn slowly are behind.

Three parts, on three seeds:

- *parts*: MISSRec without IDs on the main domain, trained from scratch, with one part changed at a time; SASRec beside it. Each run is
  also judged by how often items were bought, and by whether the fusion follows how much the user cares for picture and words, which
  the bazaar knows. Dropout was chosen on validation with the first seed.
- *transfer*: MISSRec without IDs is pre-trained on the three small domains for the main one, on the main one for each of the others.
  Then it is trained on all of the domain's users, 30 % or 10 % of them, as a whole, its adapters only or λ only; beside it the same
  model from scratch. Users who were not trained on are judged too: their histories are read. *Untrained* is the pre-trained model
  as it comes, *random* the one from scratch before training.
- *hurts*: the same with the main domain's features in another order of columns, as another encoder would have them.

Work that was broken off goes on from the result's file; what is finished is not repeated. Delete the file to start anew.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict

from mmrec_teach.data import Dataset, Interactions, load
from mmrec_teach.data.bazaar import STRENGTH
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.long_tail import long_tail
from mmrec_teach.files import rounded, write_json
from mmrec_teach.models import MISSRec, Recommender, create
from mmrec_teach.training import fit

RESULT = Path(__file__).resolve().parent / "results" / "transfer.json"
SEEDS = (0, 1, 2)
K = 10
DIM = 64
SETTINGS = {"epochs": 8, "patience": 2, "metric": f"ndcg@{K}", "batch_size": 256, "lr": 3e-3}
SLOW = {"epochs": 200, "patience": 15, "batch_size": 512}
"""Of SASRec: its item vectors start without knowing anything, and it lingers at popularity for some epochs."""
SMALL = {"length": 20, "inner": 64}
"""Of MISSRec, for speed: the latest 20 items are read, and feed-forward networks are as wide as the vectors."""
DROPOUT = (0.2, 0.5)
MAIN = "bazaar"
FEWEST = 3
"""Warm purchases a user must have before the cold one that her story ends with."""
PARTS: dict[str, dict[str, Any]] = {
    "MISSRec without IDs": {},
    "with IDs": {"ids": True},
    "interests: k-means": {"interests": "kmeans"},
    "interests: every token": {"interests": "none"},
    "not de-duplicated": {"deduplicate": False},
    "fusion: mean": {"fusion": "mean"},
    "fusion: max": {"fusion": "max"},
    "picture only": {"modalities": "image"},
    "words only": {"modalities": "text"},
    "trained with negatives of the batch": {},
}
IN_BATCH = {"ce": 0.0, "seq_item": 1.0}
"""Weights of that last row: only what somebody took next is ever a wrong answer, so a cold item never is."""
SASREC = "SASRec"
SOURCES = {
    MAIN: ("bazaar/garden", "bazaar/kitchen", "bazaar/attic"),
    "bazaar/garden": (MAIN,),
    "bazaar/kitchen": (MAIN,),
    "bazaar/attic": (MAIN,),
}
"""Domain -> those that are pre-trained on."""
SHARES = (1.0, 0.3, 0.1)
"""Of a domain's users that are trained on."""
WAYS = {"from scratch": None, "all trained": "full", "adapters": "adapters", "λ only": "frozen"}


# -- data ------------------------------------------------------------------------------------------------------------------------
def shop(domain: str | Dataset) -> Dataset:
    """Return a domain of the bazaar, split as said above."""
    data = load(domain) if isinstance(domain, str) else domain
    told = data.truth.extra
    events = Interactions(told["event_user"], told["event_item"], told["event_time"])  # by user, then time
    cold, part = told["cold"][events.items], np.full(len(events), -1)
    for mine in np.split(np.arange(len(events)), np.flatnonzero(np.diff(events.users)) + 1):
        warm_before = np.cumsum(~cold[mine])
        ends = mine[cold[mine] & (warm_before >= FEWEST)]
        story = mine[~cold[mine]]
        if len(ends):
            story = np.append(story[story < ends[0]], ends[0])
        part[story[:-2]], part[story[-2]], part[story[-1]] = 0, 1, 2
    splits = (events.select(part == k) for k in range(3))
    return data.with_splits(*splits, source="generated by mmrec_teach.data.bazaar; leave-one-out up to the first cold item")


def some_users(data: Dataset, share: float, seed: int) -> Dataset:
    """Return the data with the interactions of a share of the users only, drawn at random."""
    if share == 1:
        return data
    kept = np.zeros(data.n_users, dtype=bool)
    kept[np.random.default_rng(seed).permutation(data.n_users)[: round(share * data.n_users)]] = True
    return data.with_splits(*(part.select(kept[part.users]) for part in (data.train, data.valid, data.test)))


def reordered(data: Dataset) -> Dataset:
    """Return the data with the columns of every feature table in another order."""
    random = np.random.default_rng(0)
    tables = {name: table[:, random.permutation(table.shape[1])] for name, table in data.features.items()}
    return data.with_features(tables, data.missing)


# -- one run ---------------------------------------------------------------------------------------------------------------------
def train(
    model: Recommender, data: Dataset, seed: int, weights: Mapping[str, float] | None = None, **settings: Any
) -> dict[str, Any]:
    """Train with early stopping on ``data``; return the best value on validation, epochs and seconds."""
    start = time.perf_counter()
    done = fit(model, data, weights=weights, seed=seed, progress=False, device="cpu", **{**SETTINGS, **settings})
    seconds = time.perf_counter() - start
    return {"valid": done.best[SETTINGS["metric"]], "best_epoch": done.best_epoch, "seconds": seconds}


def judged(model: Recommender, data: Dataset) -> dict[str, Any]:
    """Return what test says: over all users, those who took a warm item and those who took a cold one, and the long-tail row."""
    test = evaluate(model, data, "test", ks=(K,))
    cold = test.cold(K)
    warm = np.ones(len(test.users), dtype=bool)
    warm[test.cold_rows] = False
    frame = long_tail({"": test}, k=K)
    hue, before = data.truth.extra["hue"], last_items(data)[test.users]
    return {
        "recall": test.mean(f"recall@{K}"),
        "ndcg": test.mean(f"ndcg@{K}"),
        "warm": float(test.per_user[f"recall@{K}"][warm].mean()),
        "cold": cold[f"recall@{K}"],
        "cold among cold": cold[f"recall_among_cold@{K}"],
        "cold shown": cold[f"share@{K}"],
        "same hue": float((hue[test.topk[:, :K]] == hue[before][:, None]).mean()),
        "tail": frame.drop(columns=["model", "run"]).iloc[0].to_dict(),
    } | ({"care": follows(model, data, test)} if isinstance(model, MISSRec) and len(model.modality.names) > 1 else {})


def last_items(data: Dataset) -> np.ndarray:
    """Return (U,) the item before each user's test item."""
    last = np.zeros(data.n_users, dtype=np.int64)
    last[data.valid.users] = data.valid.items
    return last


def hue_kept(data: Dataset) -> float:
    """Return the share of users whose test item has the hue of the item before."""
    hue = data.truth.extra["hue"]
    return float((hue[data.test.items] == hue[last_items(data)[data.test.users]]).mean())


def follows(model: MISSRec, data: Dataset, test: Evaluation) -> dict[str, float]:
    """Return whether what the model makes of a user follows how much she cares for pictures.

    Returns:
        Spearman's correlations over users with the planted care: of the picture's share in s, for the item of test and on average over the
        first K of the list (items that have both modalities); of how much closer h is to the picture than to the words, before λ;
        and of care as a ridge regression reads it from h, held out. ``sharpness`` is λ.
    """
    image, text = (model.modality.names.index(m) for m in ("image", "text"))
    care = data.truth.care[test.users, 0]
    target = np.empty(data.n_users, dtype=np.int64)
    target[data.test.users] = data.test.items
    items = {"test item": target[test.users][:, None], f"first {K}": test.topk[:, :K]}
    with torch.no_grad(), model.knowing("train", "valid"), model.evaluating():
        h = model.encode(*model.history(torch.from_numpy(test.users)))
        cosines = torch.einsum("bd,mid->bim", h, model.candidates())
        share = model.shares(cosines)[..., image].numpy()
        nearer = (cosines[..., image] - cosines[..., text]).numpy()
    both = model.has.all(1).numpy()
    told = {"sharpness": model.sharpness.item() if hasattr(model, "sharpness") else math.nan}
    rows = np.arange(len(care))[:, None]
    for name, listed in items.items():
        known = both[listed]
        some = known.any(1)
        for what, table in (("share", share), ("nearer", nearer)):
            mean = (table[rows, listed] * known).sum(1)[some] / known.sum(1)[some]
            told[f"{what}, {name}"] = correlation(mean, care[some])
    read = cross_val_predict(RidgeCV(np.logspace(-3, 3, 13)), h.numpy(), care, cv=5)
    return told | {"read from h": correlation(read, care)}


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's ρ, NaN where one side is the same for everybody."""
    return math.nan if np.ptp(a) < 1e-6 else float(spearmanr(a, b).statistic)


def care_in_histories(data: Dataset) -> float:
    """Return what a history tells of care to one who knows the user's tastes: whether rather its pictures or its words are to them."""
    told, users, items = data.truth.extra, data.train.users, data.train.items

    def appeal(*factors: str) -> np.ndarray:
        every = sum(STRENGTH[f] * told[f"taste_{f}"][:, told[f]] for f in factors)  # (U, I)
        sums = np.bincount(users, (every - every.mean(1, keepdims=True))[users, items], minlength=data.n_users)
        return sums / np.maximum(data.user_counts, 1)

    return correlation(appeal("tone", "pattern") - appeal("spirit", "making"), data.truth.care[:, 0])


# -- the study -------------------------------------------------------------------------------------------------------------------
def run(out: Path, parts: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Run what is not in the file yet; the file grows by one run at a time."""
    result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    result |= {
        "command": "python benchmarks/transfer.py",
        "machine": {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
        | {"torch": torch.__version__, "threads": torch.get_num_threads()},
        "settings": {"dim": DIM, **SETTINGS},
    }

    def fill(part: str, name: str, seed: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        entry = result.setdefault(part, {}).setdefault(name, {})
        if str(seed) not in entry:
            entry[str(seed)] = rounded(make())
            write_json(out, result)
            print(
                part,
                name,
                seed,
                json.dumps({k: v for k, v in entry[str(seed)].items() if k not in ("tail", "care")}),
                flush=True,
            )
        return entry[str(seed)]

    data = shop(MAIN)
    result["data"] = {"name": MAIN, "users": data.n_users, "items": data.n_items, "cold": int(data.cold_items.sum())}
    result["same hue"] = {name: rounded(hue_kept(shop(name))) for name in SOURCES}
    if "parts" in parts:
        frame = long_tail({"": evaluate(create("popularity", data), data, "test", ks=(K,))}, k=K)
        result["buckets"] = {k: list(v) for k, v in frame.attrs["buckets"].items()}
        result["care in histories"] = rounded(care_in_histories(data))
        chosen = {}
        for name, fixed in ((SASREC, {"loss": "ce", "length": 20}), ("MISSRec without IDs", {"ids": False, **SMALL})):
            tried = {
                p: fill("tried", f"{name}, dropout {p}", 0, lambda n=name, f=fixed, p=p: one(data, n, {**f, "dropout": p}, 0))
                for p in DROPOUT
            }
            chosen[name] = {**fixed, "dropout": max(tried, key=lambda p: tried[p]["valid"])}
        result["chosen"] = chosen
        for seed in seeds:
            for name, given in {SASREC: {}, **PARTS}.items():
                settings = {**chosen[SASREC if name == SASREC else "MISSRec without IDs"], **given}
                again = result["tried"].get(f"{name}, dropout {settings['dropout']}", {}).get(str(seed))  # trained already
                fill("parts", name, seed, lambda n=name, g=settings, s=seed, a=again: a or one(data, n, g, s))
    if "transfer" in parts or "hurts" in parts:
        for seed in seeds:
            for target in SOURCES:
                move(target, seed, parts, fill, Path("runs/transfer"))
    return result


def move(target: str, seed: int, parts: Sequence[str], fill: Callable[..., Any], kept: Path) -> None:
    """Pre-train on the domain's sources and bring that to ``target`` in every way."""
    from mmrec_teach.data.union import union
    from mmrec_teach.models.missrec import PRETRAINING

    data = shop(target)
    options = {"ids": False, "dropout": DROPOUT[0], "dim": DIM, **SMALL, "seed": seed}
    path = kept / f"from-{'-'.join(SOURCES[target]).replace('/', '-')}-{seed}.pt"

    def source() -> MISSRec:
        others = union([shop(name) for name in SOURCES[target]])
        model = MISSRec(others, **options)
        if path.exists():
            model.load_state_dict(torch.load(path, weights_only=True))
        else:
            told = train(model, others, seed, PRETRAINING)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), path)
            fill("pretrained", "+".join(SOURCES[target]), seed, lambda: told)
        return model

    def moved(to: Dataset, way: str | None, share: float) -> dict[str, Any]:
        model = MISSRec(to, **options) if way is None else MISSRec(to, tune=way, **options)
        if way is not None:
            model.adopt(source())
        trained, every = model.trained_share()
        told = train(model, some_users(to, share, seed), seed)
        return told | judged(model, to) | {"trained": trained, "of": every}

    def untrained(to: Dataset, adopt: bool) -> dict[str, Any]:
        model = MISSRec(to, **options)
        if adopt:
            model.adopt(source())
        return judged(model, to)

    def row(part: str, name: str, to: Dataset, shares: Sequence[float]) -> None:
        fill(part, f"{name}, popularity", seed, lambda: judged(create("popularity", to), to))
        fill(part, f"{name}, untrained", seed, lambda: untrained(to, True))
        fill(part, f"{name}, random", seed, lambda: untrained(to, False))
        for share in shares:
            for said, way in WAYS.items():
                if said == "λ only" and share < 1:
                    continue  # it learns nothing from everybody either
                fill(part, f"{name}, {said}, {share:.0%}", seed, lambda w=way, s=share: moved(to, w, s))

    if "transfer" in parts:
        row("transfer", target, data, SHARES if target == MAIN else SHARES[::2])
    if "hurts" in parts and target == MAIN:
        row("hurts", target, reordered(data), SHARES[:1])


def one(data: Dataset, name: str, given: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train one model of the parts and judge it."""
    model = create("sasrec" if name == SASREC else "missrec", data, dim=DIM, seed=seed, **given)
    weights = IN_BATCH if name.endswith("of the batch") else None
    return train(model, data, seed, weights, **(SLOW if name == SASREC else {})) | judged(model, data)


# -- showing it ------------------------------------------------------------------------------------------------------------------
def values_of(entry: Mapping[str, Any], *path: str) -> list[float]:
    """Return a number of every seed, seeds without it left out."""
    found = list(entry.values())
    for name in path:
        found = [one[name] for one in found if one.get(name) is not None]
    return found


def cell(entry: Mapping[str, Any], *path: str, spread: bool = False, digits: int = 3) -> str:
    found = values_of(entry, *path)
    if not found:
        return ""
    text = _short(statistics.fmean(found), digits)
    return f"{text} ±{_short((max(found) - min(found)) / 2, digits)}" if spread and len(found) > 1 else text


def _short(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def parts_table(result: Mapping[str, Any]) -> str:
    """Return what each part is worth."""
    columns = ("ndcg", "warm", "cold", "cold among cold")
    lines = [
        [
            name,
            str(len(entry)),
            cell(entry, "recall", spread=True),
            *(cell(entry, c) for c in columns),
            cell(entry, "care", "sharpness", digits=1),
            cell(entry, "best_epoch", digits=0),
        ]
        for name, entry in result["parts"].items()
    ]
    return markdown(["", "seeds", "recall", *columns, "λ", "epochs"], lines)


def tail_table(result: Mapping[str, Any]) -> str:
    """Return recall by how often items were bought in training."""
    names = [name for name in (SASREC, "with IDs", "MISSRec without IDs") if name in result["parts"]]
    reach = (f"reach@{K}", f"tail share@{K}")
    lines = [
        [name, *(cell(result["parts"][name], "tail", c) for c in (*(f"found {b}" for b in result["buckets"]), *reach))]
        for name in names
    ]
    heads = [f"{b} ({items} items, {asked})" for b, (items, asked) in result["buckets"].items()]
    return markdown(["", *heads, "reach", "tail share"], lines)


def care_table(result: Mapping[str, Any]) -> str:
    """Return whether the fusion follows the planted care."""
    columns = ("share, test item", f"share, first {K}", "nearer, test item", f"nearer, first {K}", "read from h")
    lines = [
        [name, cell(entry, "care", "sharpness", digits=1), *(cell(entry, "care", c, spread=True, digits=2) for c in columns)]
        for name, entry in result["parts"].items()
        if values_of(entry, "care")
    ]
    return markdown(["", "λ", *columns], lines)


def ways_table(result: Mapping[str, Any], part: str, name: str) -> str:
    """Return what every way of training reaches on one domain, by the share of its users that are trained on."""
    entries, lines = result[part], []
    for way in ("random", "popularity", "untrained"):
        if entry := entries.get(f"{name}, {way}"):
            lines.append([way, "0", "", str(len(entry)), *_ends(entry), ""])
    for share in SHARES:
        for way in WAYS:
            if entry := entries.get(f"{name}, {way}, {share:.0%}"):
                part_trained = values_of(entry, "trained")[0] / values_of(entry, "of")[0]
                lines.append(
                    [
                        way,
                        f"{share:.0%}",
                        f"{part_trained:.1%}",
                        str(len(entry)),
                        *_ends(entry),
                        cell(entry, "best_epoch", digits=0),
                    ]
                )
    return markdown([name, "users", "trained", "seeds", "recall", "ndcg", "warm", "cold", "same hue", "epochs"], lines)


def _ends(entry: Mapping[str, Any]) -> list[str]:
    return [cell(entry, "recall", spread=True), *(cell(entry, c) for c in ("ndcg", "warm", "cold", "same hue"))]


def tables(result: Mapping[str, Any]) -> str:
    """Return all tables; parts that have not been run yet are left out."""
    shown: list[str] = []
    if result.get("parts"):
        data = result["data"]
        shown += [
            f"**MISSRec, one part changed at a time** ({data['users']:,} users, {data['items']} items, {data['cold']} of them cold; "
            f"means over seeds, @{K})",
            parts_table(result),
            f"**by buyers in training** (share of test purchases found in the first {K}; items, test purchases)",
            tail_table(result),
            "**does the fusion follow the user?** (Spearman's ρ with the planted care for pictures; a history tells one who knows the "
            f"tastes {_short(result['care in histories'], 2)})",
            care_table(result),
        ]
    for part in ("transfer", "hurts"):
        for name, others in SOURCES.items():
            if any(key.startswith(f"{name}, ") for key in result.get(part, {})):
                other_order = ", features in another order of columns" if part == "hurts" else ""
                shown += [
                    f"**{name}{other_order}: pre-trained on {', '.join(others)}** (means over seeds, @{K}; the item of test has the "
                    f"hue of the one before for {_short(result['same hue'][name])} of the users)",
                    ways_table(result, part, name),
                ]
    return "\n\n".join(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the stored result; train nothing")
    parser.add_argument("--parts", default="parts,transfer,hurts", help="which parts to run")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which seeds to run")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result's file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.print:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    else:
        result = run(arguments.out, arguments.parts.split(","), [int(s) for s in arguments.seeds.split(",")])
    print(tables(result))


if __name__ == "__main__":
    main()
