"""What the small terms of pre-training are worth, and why kitchen gains least from what the main domain taught, on the bazaar.

    python benchmarks/pretraining.py            # trains, writes benchmarks/results/pretraining.json, prints the tables
    python benchmarks/pretraining.py --print    # prints the tables of that file again

Split, model and judgement are those of ``transfer.py``.

- *weights*: MISSRec without IDs is pre-trained on the three small domains with other weights of seq-seq and of diversity, two seeds.
  It goes to the main domain as it comes, and with its adapters trained on 10 % of the users. Beside that: how much alike the interests
  of one user are, and whether clusters of the main domain's tokens recover what is planted.
- *worlds*: the bazaar is generated anew with other seeds: the same rules and kinds of things, other items, users and visits. In each,
  MISSRec is pre-trained on the main domain and goes to garden, kitchen and attic. Was kitchen's loss kitchen's, or the dice's?
- *kinds*: how each kind of things of the small domains is told apart before and after, and how much it looks like one of the main domain.

Work that was broken off goes on from the result's file; what is finished is not repeated. Delete the file to start anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.interests import truth_of
from benchmarks.transfer import (
    DIM,
    DROPOUT,
    MAIN,
    SETTINGS,
    SMALL,
    K,
    cell,
    correlation,
    judged,
    markdown,
    shop,
    some_users,
    train,
)
from mmrec_teach.data import Dataset, bazaar, store
from mmrec_teach.data.union import union
from mmrec_teach.evaluation.recovery import recovery, token_table
from mmrec_teach.files import rounded, write_json
from mmrec_teach.models import MISSRec
from mmrec_teach.models.missrec import PRETRAINING, alikeness
from mmrec_teach.ops.clustering import dpc_knn

RESULT = Path(__file__).resolve().parent / "results" / "pretraining.json"
SEEDS = (0, 1)
SOURCES = ("bazaar/garden", "bazaar/kitchen", "bazaar/attic")
WEIGHTS: dict[str, dict[str, float]] = {
    "the paper's: seq-seq .001, diversity .0001": {},
    "seq-seq 0": {"seq_seq": 0.0},
    "seq-seq .1": {"seq_seq": 0.1},
    "diversity 0": {"diversity": 0.0},
    "diversity .01": {"diversity": 1e-2},
    "diversity 1": {"diversity": 1.0},
}
FEW = 0.1
"""Share of the target's users that the adapters are trained on."""
CLUSTERS = 24
"""Of the main domain's tokens: one for each of its 12 kinds and modality."""
WORLDS = tuple(bazaar.SEED + k for k in range(5))
"""Seeds of generated bazaars, the stored one first."""
WAYS = {"from scratch": None, "all trained": "full", "adapters": "adapters"}
DRAWS = (0, 1, 2)
"""Seeds of the few users, of initial values and of training in a world; pre-training has one."""
WORLD_EPOCHS = 5
"""Of pre-training in a world."""


# -- weights ---------------------------------------------------------------------------------------------------------------------
def options(seed: int) -> dict[str, Any]:
    """Return how every model of this study is made."""
    return {"ids": False, "dropout": DROPOUT[0], "dim": DIM, **SMALL, "seed": seed}


def alike(model: MISSRec, data: Dataset) -> dict[str, float]:
    """Return the mean squared cosine of two different interests of one user: the clusters' means, and what the encoder makes of them."""
    with torch.no_grad(), model.knowing("train", "valid"), model.evaluating():
        items, lengths = model.history(torch.arange(data.n_users))
        found = model.interests_in(items, lengths)
        _, z, known = model.read(items, lengths)
        before = F.pad(model.interest, (0, 0, 0, 1))[found]
        return {
            "interests": float(alikeness(before, found < len(model.interest))),
            "encoded": float(alikeness(z, known)),
        }


def recovered(model: MISSRec, data: Dataset) -> float:
    """Return the adjusted Rand index of clusters of the tokens with what is planted: kind and modality."""
    tokens = token_table(model)
    return recovery(dpc_knn(tokens.x, CLUSTERS).assignment, truth_of(tokens, data))["ari"]


def weighed(given: Mapping[str, float], seed: int) -> dict[str, Any]:
    """Pre-train on the small domains with these weights, go to the main one, and tell what came of it."""
    sources, target = union([shop(name) for name in SOURCES]), shop(MAIN)
    model = MISSRec(sources, **options(seed))
    told: dict[str, Any] = {
        "pretraining": train(model, sources, seed, {**PRETRAINING, **given}),
        "alike": alike(model, sources),
    }
    untrained = MISSRec(target, **options(seed)).adopt(model)
    told |= {"untrained": _short(judged(untrained, target)), "ari": recovered(untrained, target)}
    few = MISSRec(target, tune="adapters", **options(seed)).adopt(model)
    few_told = train(few, some_users(target, FEW, seed), seed)
    return told | {"adapters": _short(judged(few, target)) | few_told, "alike, adapters": alike(few, target)}


def _short(told: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in told.items() if name not in ("tail", "care")}


# -- worlds ----------------------------------------------------------------------------------------------------------------------
@cache
def world(seed: int, kept: Path) -> dict[str, Dataset]:
    """Return the four shops of a bazaar generated with ``seed``, split as in ``transfer.py``."""
    if seed == bazaar.SEED:
        return {name: shop(name) for name in bazaar.DOMAINS}
    folder = kept / f"world-{seed}"
    if not (folder / store.CHECKSUMS).exists():
        store.regenerate(folder, seed)
    return {name: shop(store.dataset(name, store.read(name, folder))) for name in bazaar.DOMAINS}


def told_apart(model: MISSRec, data: Dataset) -> dict[str, Any]:
    """Return what a model knows of the users it is judged on, among the items that are not in their histories.

    Returns:
        ``kind``: of a thing of the kind of the item of test and a thing of another kind, how often the first is ahead; ``within``: of the
        item of test and another thing of its kind, the same; ``within, cold``: where that item is cold; ``by kind``: ``kind`` for each.
        Chance is .5.
    """
    users, items = torch.tensor(data.test.users), torch.tensor(data.test.items)
    kinds = torch.tensor(data.truth.item_interest)
    with torch.no_grad(), model.knowing("train", "valid"):
        score = model.score(users).double()
    seen = torch.zeros(data.n_users, data.n_items, dtype=torch.bool)
    for part in (data.train, data.valid):
        seen[part.users, part.items] = True
    open_ = ~seen[users]
    own = kinds[items][:, None] == kinds
    order = score.argsort(1).argsort(1).double()  # ties are rare: scores are cosines
    kind = torch.empty(len(users), dtype=torch.float64)
    for n, (row, mine, there) in enumerate(zip(order, own, open_, strict=True)):
        a, b = row[mine & there], row[~mine & there]
        kind[n] = (a[:, None] > b).double().mean()
    rivals = own & open_
    rivals.scatter_(1, items[:, None], False)
    behind = ((order < order.gather(1, items[:, None])) & rivals).sum(1) / rivals.sum(1).clamp_min(1)
    cold = torch.tensor(data.cold_items)[items]
    told = {"kind": float(kind.mean()), "within": float(behind.mean()), "within, cold": float(behind[cold].mean())}
    return told | {"by kind": [float(kind[kinds[items] == k].mean()) for k in range(int(kinds.max()) + 1)]}


def neighbours_of_own_kind(table: np.ndarray, has: np.ndarray, kind: np.ndarray, n: int = 10) -> float:
    """Return how many of an item's ``n`` closest ones, by cosine, are of its kind: 0 is chance, 1 all of them."""
    x = F.normalize(torch.from_numpy(table[has]).double(), dim=1)
    mine = torch.from_numpy(kind[has].copy())
    near = (x @ x.T).fill_diagonal_(-torch.inf).topk(n, 1).indices
    found = float((mine[near] == mine[:, None]).double().mean())
    same = mine[:, None] == mine
    chance = float((same.sum(1) - 1).double().mean() / (len(mine) - 1))
    return (found - chance) / (1 - chance)


def kind_tokens(model: MISSRec, data: Dataset, name: str) -> Tensor:
    """Return each kind's mean token of a modality, tokens and means at length 1, (kinds, d)."""
    kinds, m = torch.tensor(data.truth.item_interest), model.modality.names.index(name)
    tokens = F.normalize(model.token(name).detach(), dim=1)
    return torch.stack(
        [F.normalize(tokens[(kinds == k) & model.has[:, m]].mean(0), dim=0) for k in range(int(kinds.max()) + 1)]
    )


def favour(model: MISSRec, data: Dataset) -> list[float]:
    """Return how much more than the mean item a kind's items score, over all users who are judged."""
    kinds = torch.tensor(data.truth.item_interest)
    with torch.no_grad(), model.knowing("train", "valid"):
        score = model.score(torch.tensor(data.test.users)).mean(0)
    return [float(score[kinds == k].mean() - score.mean()) for k in range(int(kinds.max()) + 1)]


def from_main(number: int, kept: Path) -> tuple[MISSRec, dict[str, Any] | None]:
    """Return what was pre-trained on the main domain of a world, and what was told of that (None where it was kept from before)."""
    data, path, told = world(number, kept)[MAIN], kept / f"world-{number}.pt", None
    main = MISSRec(data, **options(0))
    if path.exists():
        main.load_state_dict(torch.load(path, weights_only=True))
    else:
        told = train(main, data, 0, PRETRAINING, epochs=WORLD_EPOCHS)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(main.state_dict(), path)
    return main, told


def seen(number: int, kept: Path) -> dict[str, Any]:
    """Tell of every kind of the small domains how well it is told apart, favoured, and known from the main one."""
    main, _ = from_main(number, kept)
    shops, told = world(number, kept), {}
    known = {m: kind_tokens(main, shops[MAIN], m) for m in main.modality.names}
    for name in SOURCES:
        data = shops[name]
        moved, random = MISSRec(data, **options(0)).adopt(main), MISSRec(data, **options(0))
        told[name] = {
            "kinds": [str(kind) for kind in data.truth.extra["interest_names"]],
            "told apart": {said: told_apart(m, data)["by kind"] for said, m in (("untrained", moved), ("random", random))},
            "favour": {said: favour(m, data) for said, m in (("untrained", moved), ("random", random))},
            "like": {m: (kind_tokens(moved, data, m) @ known[m].T).amax(1).tolist() for m in known},
        }
    return told


def visited(number: int, kept: Path) -> dict[str, Any]:
    """Pre-train on the main domain of a world, go to its small ones, and tell how it was there."""
    shops = world(number, kept)
    main, done = from_main(number, kept)
    told: dict[str, Any] = {"pretraining": done}
    for name in SOURCES:
        data = shops[name]
        moved, random = MISSRec(data, **options(0)).adopt(main), MISSRec(data, **options(0))
        entry: dict[str, Any] = {
            said: _short(judged(model, data)) | told_apart(model, data)
            for said, model in (("untrained", moved), ("random", random))
        }
        kind, has = data.truth.item_interest, {m: ~data.missing[m] for m in data.modalities}
        entry["own kind"] = {m: neighbours_of_own_kind(data.features[m], has[m], kind) for m in data.modalities}
        entry["own kind, adapted"] = {
            m: neighbours_of_own_kind(moved.token(m).detach().numpy(), has[m], kind) for m in moved.modality.names
        }
        for way, tune in WAYS.items():
            entry[way] = {}
            for draw in DRAWS:
                model = MISSRec(data, **({"tune": tune} if tune else {}), **options(draw))
                model = model.adopt(main) if tune else model
                done = train(model, some_users(data, FEW, draw), draw)
                entry[way][str(draw)] = _short(judged(model, data)) | done
        told[name] = entry
    return told


# -- the study -------------------------------------------------------------------------------------------------------------------
def run(out: Path, parts: Sequence[str], seeds: Sequence[int], worlds: Sequence[int], kept: Path) -> dict[str, Any]:
    """Run what is not in the file yet; the file grows by one run at a time."""
    result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    result |= {
        "command": "python benchmarks/pretraining.py",
        "machine": {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
        | {"torch": torch.__version__, "threads": torch.get_num_threads()},
        "settings": {"dim": DIM, **SETTINGS},
        "weights told": {name: {**PRETRAINING, **given} for name, given in WEIGHTS.items()},
    }

    def fill(part: str, name: str, key: str, make: Callable[[], dict[str, Any]]) -> None:
        entry = result.setdefault(part, {}).setdefault(name, {})
        if key not in entry:
            start = time.process_time()
            entry[key] = rounded(make())
            write_json(out, result)
            print(f"{part}, {name}, {key}: {time.process_time() - start:.0f} s of the processor", flush=True)

    if "weights" in parts:
        for seed in seeds:
            for name, given in WEIGHTS.items():
                fill("weights", name, str(seed), lambda g=given, s=seed: weighed(g, s))
    if "worlds" in parts:
        for number in worlds:
            fill("worlds", "worlds", str(number), lambda n=number: visited(n, kept))
    if "kinds" in parts:
        for number in worlds:
            fill("worlds", "kinds", str(number), lambda n=number: seen(n, kept))
    return result


# -- showing it ------------------------------------------------------------------------------------------------------------------
def weights_table(result: Mapping[str, Any]) -> str:
    """Return what the weights change."""
    columns = (("untrained", "recall"), ("untrained", "ndcg"), ("adapters", "recall"), ("adapters", "ndcg"))
    lines = [
        [
            name,
            str(len(entry)),
            cell(entry, "pretraining", "valid"),
            *(cell(entry, *path, spread=path[1] == "ndcg") for path in columns),
            cell(entry, "alike", "interests"),
            cell(entry, "alike", "encoded"),
            cell(entry, "alike, adapters", "encoded"),
            cell(entry, "ari", spread=True),
        ]
        for name, entry in result["weights"].items()
    ]
    heads = ["", "seeds", "sources: valid ndcg", "untrained: recall", "ndcg", "adapters: recall", "ndcg"]
    return markdown([*heads, "alike: interests", "encoded", "encoded, adapters", "ARI"], lines)


def worlds_table(result: Mapping[str, Any]) -> str:
    """Return what pre-training was worth in every world and shop."""
    lines = []
    for number, told in result["worlds"]["worlds"].items():
        for name in SOURCES:
            one = told[name]
            lines.append([number if name == SOURCES[0] else "", name.partition("/")[2], *_gains(one)])
    for name in SOURCES:
        every = np.array([_gain_values(told[name]) for told in result["worlds"]["worlds"].values()])
        means, low, high = every.mean(0), every.min(0), every.max(0)
        cells = [f"{_signed(m)} ({_signed(a)} to {_signed(b)})" for m, a, b in zip(means, low, high, strict=True)]
        lines.append(["all" if name == SOURCES[0] else "", name.partition("/")[2], *cells])
    return markdown(["world", "shop", *GAINS], lines)


GAINS = ("untrained: recall", "warm", "cold", "kind", "within", "within, cold", "10 %: all trained", "adapters")


def _gain_values(one: Mapping[str, Any]) -> list[float]:
    """Return what pre-training adds, in the order of :data:`GAINS`."""
    first = [one["untrained"][c] - one["random"][c] for c in ("recall", "warm", "cold", "kind", "within", "within, cold")]

    def mean(way: str) -> float:
        return statistics.fmean(done["recall"] for done in one[way].values())

    return [*first, *(mean(way) - mean("from scratch") for way in ("all trained", "adapters"))]


def _gains(one: Mapping[str, Any]) -> list[str]:
    return [_signed(value) for value in _gain_values(one)]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("0.", ".", 1)


def kinds_table(result: Mapping[str, Any]) -> str:
    """Return, by shop and over the worlds, how well kinds and styles are told apart before any training."""
    lines = []
    for name in SOURCES:
        every = [told[name] for told in result["worlds"]["worlds"].values()]

        def mean(*path: str, every: list[dict] = every) -> str:
            values = every
            for step in path:
                values = [one[step] for one in values]
            return _number(statistics.fmean(values))

        columns = [(said, what) for what in ("kind", "within", "within, cold") for said in ("random", "untrained")]
        near = [(where, m) for m in ("image", "text") for where in ("own kind", "own kind, adapted")]
        lines.append([name.partition("/")[2], *(mean(*path) for path in (*columns, *near))])
    heads = ["kind: random", "pre-trained", "within: random", "pre-trained", "within, cold: random", "pre-trained"]
    return markdown(["", *heads, "own kind near: pictures", "adapted", "words", "adapted"], lines)


def seen_table(result: Mapping[str, Any]) -> str:
    """Return every kind of the small domains, over worlds, by what pre-training adds to telling it apart."""
    lines = []
    for name in SOURCES:
        every = [told[name] for told in result["worlds"]["kinds"].values()]
        apart = {said: np.array([one["told apart"][said] for one in every]) for said in ("random", "untrained")}
        favoured = np.array([one["favour"]["untrained"] for one in every]).mean(0)
        like = {m: np.array([one["like"][m] for one in every]) for m in ("image", "text")}
        gain = apart["untrained"] - apart["random"]
        for k, kind in enumerate(every[0]["kinds"]):
            spread = f"{_signed(gain[:, k].mean())} ({_signed(gain[:, k].min())} to {_signed(gain[:, k].max())})"
            cells = [_number(apart[said][:, k].mean()) for said in apart] + [spread, _signed(favoured[k])]
            lines.append([f"{kind} ({name.partition('/')[2]})", *cells, *(_number(like[m][:, k].mean()) for m in like)])
    heads = ["", "told apart: random", "pre-trained", "gain (over worlds)", "favour", "like: pictures", "like: words"]
    return markdown(heads, lines)


def with_likeness(result: Mapping[str, Any]) -> dict[str, float]:
    """Return Spearman's ρ, over kinds and worlds, of what pre-training adds to telling a kind apart with how much it looks like a known
    one, by modality; and how many kinds those are."""
    shops = [told[name] for told in result["worlds"]["kinds"].values() for name in SOURCES]
    gain = np.concatenate([np.subtract(one["told apart"]["untrained"], one["told apart"]["random"]) for one in shops])
    like = {m: np.concatenate([one["like"][m] for one in shops]) for m in ("image", "text")}
    return {m: correlation(values, gain) for m, values in like.items()} | {"kinds": len(gain)}


def tables(result: Mapping[str, Any]) -> str:
    """Return all tables; parts that have not been run yet are left out."""
    shown: list[str] = []
    if result.get("weights"):
        shown += [
            "**Pre-trained on garden, kitchen and attic with other weights, brought to the main domain** (means over seeds, "
            f"@{K}; adapters: on {FEW:.0%} of the users; alike: mean squared cosine of two interests of one user; ARI: {CLUSTERS} "
            "clusters of the main domain's tokens, untrained)",
            weights_table(result),
        ]
    if result.get("worlds", {}).get("worlds"):
        shown += [
            "**What pre-training on the main domain adds in each shop, in bazaars generated with other seeds** (differences of recall "
            f"and of shares, @{K}; the last two: on {FEW:.0%} of the users, means of {len(DRAWS)} draws)",
            worlds_table(result),
            "**What is told apart before any training** (means over worlds; chance is .5; near: how many of the ten closest items are "
            "of the same kind, 0 is chance, 1 all)",
            kinds_table(result),
        ]
    if result.get("worlds", {}).get("kinds"):
        rho = with_likeness(result)
        shown += [
            "**The kinds of the small domains as the pre-trained model sees them** (means over worlds; told apart as above; favour: how "
            "much more than the mean item its items score; like: cosine with the most similar kind of the main domain, mean tokens; "
            f"Spearman's ρ of the gain with it, over {rho['kinds']} kinds: pictures {_number(rho['image'], 2)}, words "
            f"{_number(rho['text'], 2)})",
            seen_table(result),
        ]
    return "\n\n".join(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the stored result; train nothing")
    parser.add_argument("--parts", default="weights,worlds,kinds", help="which parts to run")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which seeds of the weights to run")
    parser.add_argument("--worlds", default=",".join(map(str, WORLDS)), help="which worlds to run")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result's file")
    parser.add_argument("--kept", type=Path, default=Path("runs/pretraining"), help="where generated worlds go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.print:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    else:
        seeds, worlds = ([int(n) for n in text.split(",")] for text in (arguments.seeds, arguments.worlds))
        result = run(arguments.out, arguments.parts.split(","), seeds, worlds, arguments.kept)
    print(tables(result))


if __name__ == "__main__":
    main()
