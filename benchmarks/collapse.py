"""When does learning without negatives collapse? BM3 and BUIR on the bazaar, whole and with parts taken away, over three seeds.

    python benchmarks/collapse.py             # about twenty minutes on one core; writes benchmarks/results/collapse.json
    python benchmarks/collapse.py --print     # the table again, from that file
    python benchmarks/collapse.py --figure collapse.html   # and the pictures

Every variant trains for 90 epochs with the settings of lesson 05 (Adam 1e-2, batches of 1,024, 32 numbers a vector), which were
chosen on validation for the whole models. No early stopping: it would hide what a collapse does. At chosen epochs we
measure the warm items' vectors before any predictor: effective rank, mean cosine, mean length, and Recall@20 on validation.
Recall@20 on test is that of the last epoch; beside it that of the measured epoch which is best on validation.

What counts as collapsed is :func:`verdict`; the table says from which epoch on it holds, and for how many seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import plotly.graph_objects as go
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.evaluation.diagnostics import Table, effective_rank, mean_cosine
from mmrec_teach.files import write_json, write_text
from mmrec_teach.models import Recommender, create
from mmrec_teach.training import train
from mmrec_teach.views import figures

RESULT = Path(__file__).resolve().parent / "results" / "collapse.json"
EPOCHS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 45, 60, 75, 90)
SEEDS = (0, 1, 2)
TRAINING = {"lr": 1e-2, "batch_size": 1024}
DIM = 32
ONE_WAY = 0.9  # mean cosine: two vectors are less than 26 degrees apart on average
FEW_DIRECTIONS = 0.2  # share of the effective rank before training


@dataclass(frozen=True)
class Variant:
    """A model with parts taken away, how often it is measured, and whether it stands in the picture."""

    name: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    epochs: tuple[int, ...] = EPOCHS
    drawn: bool = True


_FREE, _BARE = {"stop_gradient": False}, {"predictor": False}
_NONE, _SOME = {"reg": 0.0}, {"reg": 0.01}
VARIANTS = (
    Variant("BM3", "bm3", {}, _NONE),
    Variant("BM3, no stop-gradient", "bm3", _FREE, _NONE),
    Variant("BM3, no predictor", "bm3", _BARE, _NONE),
    Variant("BM3, no stop-gradient, no predictor", "bm3", _FREE | _BARE, _NONE),
    Variant("BM3, no dropout", "bm3", {"dropout": 0.0}, _NONE),
    Variant("BM3, no dropout, no predictor", "bm3", {"dropout": 0.0} | _BARE, _NONE),
    Variant("BM3, penalty", "bm3", {}, _SOME, drawn=False),
    Variant("BM3, penalty, no stop-gradient", "bm3", _FREE, _SOME, drawn=False),
    Variant("BM3, penalty, no predictor", "bm3", _BARE, _SOME, drawn=False),
    Variant("BUIR", "buir"),
    Variant("BUIR, no slow copy", "buir", {"momentum": 0.0}),
    # after 90 epochs it is still on its way
    Variant("BUIR, no predictor", "buir", _BARE, epochs=(*EPOCHS, 120, 180, 240)),
    Variant("BUIR, no slow copy, no predictor", "buir", {"momentum": 0.0} | _BARE),
    Variant("BUIR, no edge dropout", "buir", {"edge_dropout": 0.0}),
    Variant("BUIR, frozen target", "buir", {"momentum": 1.0}),
    Variant("BUIR, penalty, no predictor", "buir", _BARE, {"l2": 0.01}, drawn=False),
)


# -- what counts as collapsed ------------------------------------------------------------------------------------------------
def verdict(rank: float, cosine: float, rank_at_start: float) -> str:
    """Return ``"one way"``, ``"few directions"`` or ``""`` (not collapsed), a judgement of directions and nothing else.

    ``"one way"``: the mean cosine of all pairs is above .9, two vectors are on average less than 26 degrees apart.
    ``"few directions"``: the effective rank is below a fifth of the one before training, though the vectors do not all point one way
    (they may lie on both sides of a line, or in a plane).

    Both bounds are far off what healthy tables show: shops have popular kinds, so some cosine above 0, and some loss of rank
    in training, are no collapse. Nor is a bad recall, which has other causes; and a table that passes here may be useless all the same.
    A table of zeros (NaN) has no direction left: ``"few directions"``.

    Args:
        rank: effective rank, not centred.
        cosine: mean cosine.
        rank_at_start: effective rank of the same table before training.
    """
    if cosine > ONE_WAY:
        return "one way"
    return "" if rank >= FEW_DIRECTIONS * rank_at_start else "few directions"


def since(verdicts: Sequence[str], epochs: Sequence[int] = EPOCHS) -> int | None:
    """Return the first measured epoch from which every later one is collapsed, None if the last is not."""
    healthy = [place for place, word in enumerate(verdicts) if not word]
    first = healthy[-1] + 1 if healthy else 0
    return epochs[first] if first < len(verdicts) else None


# -- measuring -----------------------------------------------------------------------------------------------------------------
def measured(table: Table) -> dict[str, float]:
    """Return ``rank``, ``cosine`` and ``length`` (mean norm) of a table (n, d)."""
    table = torch.as_tensor(table).detach()
    return {"rank": effective_rank(table), "cosine": mean_cosine(table), "length": float(table.norm(dim=1).mean())}


def study(variant: Variant, data: Dataset, seed: int, epochs: Sequence[int] = EPOCHS) -> dict[str, Any]:
    """Train one variant with one seed.

    Args:
        variant, data, seed: what to train.
        epochs: when to measure, ascending; the last one ends training.

    Returns:
        ``curves``: rank, cosine, length, recall (validation) and loss (``rec``, NaN before training), one number per entry of
        ``epochs``; ``test`` and ``test_at_best``, Recall@20 after the last epoch and after the one best on validation, ``best_epoch``.
    """
    model = create(variant.model, data, dim=DIM, seed=seed, **variant.options)
    warm = torch.from_numpy(~data.cold_items)
    curves: dict[str, list[float]] = {name: [] for name in ("rank", "cosine", "length", "recall", "loss")}
    best = test = test_at_best = -math.inf
    best_epoch = 0

    def look(epoch: int, loss: float) -> None:
        nonlocal best, best_epoch, test_at_best
        with model.evaluating():
            numbers = measured(model.views()["item/online"][warm])
        numbers |= {"recall": recall(model, data, "valid"), "loss": loss}
        for name, value in numbers.items():
            curves[name].append(value)
        if numbers["recall"] > best:
            best, best_epoch, test_at_best = numbers["recall"], epoch, recall(model, data, "test")

    if 0 in epochs:
        look(0, math.nan)
    settings = {"weights": dict(variant.weights), "seed": seed, "metrics_every": 0, "device": "cpu", **TRAINING}
    for record in train(model, data, epochs=max(epochs), **settings):
        if record.epoch in epochs:
            look(record.epoch, record.losses["rec"])
    test = recall(model, data, "test")
    return {"curves": curves, "test": test, "best_epoch": best_epoch, "test_at_best": test_at_best}


def recall(model: Recommender, data: Dataset, split: str) -> float:
    """Return Recall@20."""
    return evaluate(model, data, split, ks=(20,)).mean("recall@20")


# -- the study -------------------------------------------------------------------------------------------------------------------
def run(out: Path) -> dict[str, Any]:
    """Run every variant with every seed; the file grows by one variant at a time."""
    data = load("bazaar")
    popular = create("popularity", data)
    result: dict[str, Any] = {
        "command": "python benchmarks/collapse.py",
        "machine": {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
        | {"torch": torch.__version__, "threads": torch.get_num_threads()},
        "data": data.name,
        "settings": {"dim": DIM, **TRAINING, "seeds": list(SEEDS)},
        "rule": {"one way": ONE_WAY, "few directions": FEW_DIRECTIONS},
        "popularity": {split: _round(recall(popular, data, split)) for split in ("valid", "test")},
        "variants": {},
    }
    for variant in VARIANTS:
        runs = [study(variant, data, seed, variant.epochs) for seed in SEEDS]
        result["variants"][variant.name] = summary(variant, runs)
        write_json(out, result)
        print(line(variant.name, result["variants"][variant.name]), flush=True)
    return result


def summary(variant: Variant, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is kept of a variant: what it is, and one list per curve and number over seeds."""
    return {
        "model": variant.model,
        "options": dict(variant.options),
        "weights": dict(variant.weights),
        "epochs": list(variant.epochs),
        "curves": {name: [_round(run["curves"][name]) for run in runs] for name in runs[0]["curves"]},
        **{name: [_round(run[name]) for run in runs] for name in ("test", "best_epoch", "test_at_best")},
    }


def _round(value: Any) -> Any:
    """Four significant digits; NaN, which JSON does not know, becomes None."""
    if isinstance(value, list):
        return [_round(v) for v in value]
    return value if isinstance(value, int) else float(f"{value:.4g}") if math.isfinite(value) else None


# -- showing it ------------------------------------------------------------------------------------------------------------------
def verdicts(entry: Mapping[str, Any]) -> list[list[str]]:
    """Return the verdict of each seed and measured epoch of a variant."""
    ranks, cosines = entry["curves"]["rank"], entry["curves"]["cosine"]
    return [
        [verdict(r, c, rank[0]) for r, c in zip(rank, cosine, strict=True)] for rank, cosine in zip(ranks, cosines, strict=True)
    ]


def line(name: str, entry: Mapping[str, Any]) -> str:
    """Return one variant's line of the table: means over seeds after the last epoch."""
    last = {k: statistics.fmean(seed[-1] for seed in v) for k, v in entry["curves"].items()}
    test, loss = entry["test"], round(last["loss"], 3) + 0.0  # no "-0.000"
    numbers = f"{last['rank']:>6.1f}{last['cosine']:>8.2f}{last['length']:>8.2f}{loss:>7.3f}{statistics.fmean(test):>7.3f}"
    spread = f"{min(test):.3f} to {max(test):.3f}"
    best = statistics.fmean(entry["test_at_best"])
    return f"{name:<36}{entry['epochs'][-1]:>6}  {fallen(entry):<28}{numbers}{spread:>16}{best:>9.3f}"


def fallen(entry: Mapping[str, Any]) -> str:
    """Return whether, how and from which epoch on a variant's seeds are collapsed."""
    words = verdicts(entry)
    firsts = [since(word, entry["epochs"]) for word in words]
    down = [first for first in firsts if first is not None]
    if not down:
        return "no"
    kinds = " / ".join(dict.fromkeys(word[-1] for word in words if word[-1]))
    when = f"{min(down)}" if min(down) == max(down) else f"{min(down)} to {max(down)}"
    return f"{'' if len(down) == len(firsts) else f'{len(down)} of {len(firsts)}: '}{kinds}, from {when}"


def table(result: Mapping[str, Any]) -> str:
    """Return the whole table; below it what else is to be known."""
    numbers = f"{'rank':>6}{'cosine':>8}{'length':>8}{'loss':>7}{'test':>7}"
    head = f"{'variant':<36}{'epochs':>6}  {'collapsed':<28}{numbers}{'seeds':>16}{'at best':>9}"
    notes = (
        f"Means of {len(result['settings']['seeds'])} seeds after the last epoch; loss is rec, test Recall@20 (popularity: "
        f"{result['popularity']['test']:.3f}),\nat best: the same at the epoch that is best on validation. Collapsed: mean cosine above "
        f"{result['rule']['one way']} (one way),\nor effective rank below {result['rule']['few directions']:.0%} of the untrained one."
    )
    return "\n".join([head, *(line(name, entry) for name, entry in result["variants"].items()), "", notes])


MEASURES = {"effective rank": "rank", "mean cosine": "cosine", "recall@20, validation": "recall"}
TAKEAWAYS = {
    "bm3": "BM3 stands on its stop-gradient and its predictor; dropout can go",
    "buir": "BUIR stands on its predictor; the slow copy only delays",
}


def pictures(result: Mapping[str, Any]) -> list[go.Figure]:
    """Return one figure for each model: its variants over training."""
    drawn = {variant.name: variant.model for variant in VARIANTS if variant.drawn}
    shown = []
    for model, title in TAKEAWAYS.items():
        curves = {
            name.partition(", ")[2] or f"{name}, whole": {"epochs": entry["epochs"]}
            | {label: entry["curves"][key] for label, key in MEASURES.items()}
            for name, entry in result["variants"].items()
            if drawn.get(name) == model
        }
        reference = {"recall@20, validation": ("popularity", result["popularity"]["valid"])}
        shown.append(figures.collapse_curves(curves, reference=reference, title=title))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the table of the stored result; train nothing")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the stored result as a page; train nothing")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result's file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.print or arguments.figure:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    else:
        result = run(arguments.out)
    if arguments.figure:
        write_text(arguments.figure, figures.page("Collapse of BM3 and BUIR on the bazaar", pictures(result), table(result)))
    print(table(result))


if __name__ == "__main__":
    main()
