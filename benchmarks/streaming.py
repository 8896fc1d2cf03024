"""Does content need more passes than IDs? One pass over the stream against many shuffled epochs, and who has learned what by then.

    python benchmarks/streaming.py             # about a quarter of an hour on one core; writes benchmarks/results/streaming.json
    python benchmarks/streaming.py --print     # the tables again, from that file
    python benchmarks/streaming.py --figure streaming.html   # and the pictures

On the bazaar and on ML-100K (where it is at hand), each user's purchases held out as the data are split. *Stream*: one pass, oldest
first, 20 windows, graphs and negatives of what had happened by then. *Stream, each window 5 times*: the same, five steps for one.
*1, 2, 5 epochs, many*: shuffled, many with early stopping. Each habit has its own step size of three, chosen on validation with
the first seed. Beside the whole model's recall stands that of its score's ID part and of its content part, each ranking alone; and BPR
is a model of IDs alone, VBPR without IDs one of content alone.

The encoder of pictures and captions is a study of its own: pre-trained for so many epochs over the items, its vectors judged as they are.
Work that was broken off goes on from `--out`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import numpy as np
import plotly.graph_objects as go
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import Evaluation, evaluate, evaluate_scores
from mmrec_teach.evaluation.content_use import recall_by_user
from mmrec_teach.evaluation.protocols import zero_shot
from mmrec_teach.files import rounded, write_json, write_text
from mmrec_teach.models import Recommender, create
from mmrec_teach.training import train
from mmrec_teach.training.pretrain import STORED, fit_encoder
from mmrec_teach.training.streaming import stream
from mmrec_teach.views import figures
from mmrec_teach.views.figures_production import streaming_curves

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "streaming.json"
SEEDS = (0, 1, 2)
RATES = (0.003, 0.01, 0.03)
WINDOWS, SHARES = 20, (0.1, 0.25, 0.5, 1.0)
EPOCHS, PATIENCE = 60, 5
EPOCH_HABITS = {"1 epoch": 1, "2 epochs": 2, "5 epochs": 5, "many": 0}
STREAM_HABITS = {"stream": 1, "stream, each window 5 times": 5}
HABITS = (*STREAM_HABITS, *EPOCH_HABITS)
CONTENT_ALONE = "vbpr without IDs"
# name -> model, options, weights
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {
    "bpr": ("bpr", {}, {"l2": 1e-2}),
    CONTENT_ALONE: ("vbpr", {"scaling": "unit", "item_bias": False}, {"l2": 1e-3}),
    "vbpr": ("vbpr", {"scaling": "unit"}, {"l2": 1e-3}),
    "lightgcn": ("lightgcn", {}, {"l2": 1e-3}),
    "alignrec": ("alignrec", {}, {}),
}
# data -> its models, interactions a step
STUDIES = {"bazaar": (tuple(MODELS), 64), "ml-100k": (("bpr", CONTENT_ALONE, "vbpr"), 512)}
ENCODER_EPOCHS, ENCODER_SEEDS = (1, 4, 16, 64), (0,)


def dataset(name: str) -> Dataset | None:
    """Return the data, None where they are not at hand."""
    if name == "bazaar":
        return load("bazaar")
    for candidate in (os.environ.get("MMREC_TEACH_REAL_DATA"), HERE.parent.parent / "shared" / "data"):
        if candidate and (Path(candidate) / name).is_dir():
            return load(Path(candidate) / name, split="user-time")
    return None


# -- one model ---------------------------------------------------------------------------------------------------------------
def judged(model: Recommender, data: Dataset) -> dict[str, Any]:
    """Return Recall@20 on valid, of the whole model and of each part alone, and on test by kind of item."""
    result = evaluate(model, data, "test", ks=(20,))
    by_user = recall_by_user(result)
    told: dict[str, Any] = {"valid": evaluate(model, data, "valid", ks=(20,)).mean("recall@20")}
    told |= {name: float(v.mean()) if len(v) else None for name, v in by_user.items()} | {"warm": warm(result)}
    if not model.parts_note and model.item_id.weight.requires_grad:
        for part in ("id", "content"):
            told[f"{part} part"] = alone(model, data, part)
    return told


def alone(model: Recommender, data: Dataset, part: str) -> float:
    """Return Recall@20 on valid of a part of the score, ranking alone."""
    with model.evaluating():
        return evaluate_scores(lambda users: model.parts(users)[part], data, "valid", ks=(20,)).mean("recall@20")


def warm(result: Evaluation) -> float:
    """Return the mean over users of the share of their warm items that is found."""
    rows, items = result.relevant
    warm = result.item_counts[items] > 0
    relevant, found = (np.bincount(rows[w], minlength=len(result)) for w in (warm, warm & (result.relevant_ranks > 0)))
    return float((found[relevant > 0] / relevant[relevant > 0]).mean())


def build(name: str, data: Dataset, seed: int) -> tuple[Recommender, dict[str, Any]]:
    """Return a model and its settings in training. Without IDs, their vectors are zero and stay so."""
    kind, options, weights = MODELS[name]
    model = create(kind, data, seed=seed, **options)
    if name == CONTENT_ALONE:
        for table in (model.user_id.weight, model.item_id.weight):
            table.requires_grad_(False).zero_()
    return model, {"weights": weights, "seed": seed, "device": "cpu"}


def streamed(name: str, data: Dataset, batch: int, seed: int, rate: float, repeats: int) -> dict[str, Any]:
    """Return what one pass left behind: judged at shares of the stream, and each window's verdict before it was learned from."""
    model, settings = build(name, data, seed)
    at, before = {}, []
    due = {int(np.ceil(share * WINDOWS)): share for share in SHARES}
    for record in stream(model, data, windows=WINDOWS, repeats=repeats, shares=(), batch_size=batch, lr=rate, **settings):
        before.append(record.before)
        if record.window in due:
            at[str(due[record.window])] = judged(model, data)
    progressive = {
        key: float(np.mean([b[key] for b in before[1:] if b and key in b]))
        for key in ("recall@20", "known", "new", "new items")
    }
    return {"rate": rate, "at": at, "progressive": progressive, "windows": before}


def in_epochs(name: str, data: Dataset, batch: int, seed: int, rate: float, epochs: int) -> dict[str, Any]:
    """Return what shuffled epochs left behind: judged after each of the habits' counts, and at the best epoch."""
    model, settings = build(name, data, seed)
    at, best, kept = {}, (0, -1.0), {}
    for record in train(model, data, epochs=epochs, batch_size=batch, lr=rate, ks=(20,), **settings):
        if record.metrics["recall@20"] > best[1]:
            best, kept = (record.epoch, record.metrics["recall@20"]), {k: v.clone() for k, v in model.state_dict().items()}
        if record.epoch in EPOCH_HABITS.values():
            at[f"{record.epoch} epoch{'s' * (record.epoch > 1)}"] = judged(model, data)
        if record.epoch >= best[0] + PATIENCE and record.epoch >= 5:
            break
    model.load_state_dict(kept)
    return {"rate": rate, "at": at | {"many": judged(model, data) | {"epoch": best[0]}}}


def study(name: str, data: Dataset, batch: int, keep: Callable[[str, Callable[[], Any]], Any]) -> dict[str, Any]:
    """Return one model's habits: the step size of each, and what each seed found with it."""

    def one(kind: str, seed: int, rate: float) -> dict[str, Any]:
        if kind in STREAM_HABITS:
            return keep(f"{name}-{kind}-{seed}-{rate}", lambda: streamed(name, data, batch, seed, rate, STREAM_HABITS[kind]))
        epochs = EPOCHS if kind == "many" else EPOCH_HABITS[kind]
        # a habit is the beginning of a longer run: with the first seed all rates are run to the end
        longest = EPOCHS if seed == SEEDS[0] else max(epochs, 5)
        return keep(f"{name}-epochs-{seed}-{rate}-{longest}", lambda: in_epochs(name, data, batch, seed, rate, longest))

    def last(kind: str, told: dict[str, Any]) -> dict[str, Any]:
        return told["at"]["1.0" if kind in STREAM_HABITS else kind]

    habits = {}
    for kind in HABITS:
        tried = {rate: last(kind, one(kind, SEEDS[0], rate))["valid"] for rate in RATES}
        rate = max(tried, key=tried.__getitem__)
        runs = [one(kind, seed, rate) for seed in SEEDS]
        habits[kind] = {"rate": rate, "tried": tried, "seeds": [last(kind, run) for run in runs]}
        if kind in STREAM_HABITS:
            habits[kind] |= {"curve": [run["at"] for run in runs], "progressive": [run["progressive"] for run in runs]}
        if kind == "stream":
            habits[kind]["windows"] = [run["windows"] for run in runs]
    return habits


def encoders(data: Dataset, keep: Callable[[str, Callable[[], Any]], Any]) -> dict[str, Any]:
    """Return how the vectors of the encoder are judged after so many epochs over the items, each budget with its own schedule."""

    def one(epochs: int, seed: int) -> float:
        settings = STORED | {"epochs": epochs, "seed": seed, "device": "cpu"}
        encoder = fit_encoder(data, held_out=[data.cold_items], progress=False, **settings)
        return zero_shot(encoder.vectors(data), data).recall(20)

    stored = np.concatenate([data.features[name] for name in data.modalities], axis=1)
    return {
        "epochs": list(ENCODER_EPOCHS),
        "seeds": list(ENCODER_SEEDS),
        "zero-shot": [[keep(f"encoder-{seed}-{n}", lambda: one(n, seed)) for n in ENCODER_EPOCHS] for seed in ENCODER_SEEDS],  # noqa: B023
        "chance": zero_shot(stored, data).chance(20),
        "features": zero_shot(stored, data).recall(20),
    }


def measure(out: Path, result: Path | None, few: bool) -> dict[str, Any]:
    """Run everything that is not in ``out`` yet."""

    def keep(folder: str) -> Callable[[str, Callable[[], Any]], Any]:
        def kept(name: str, make: Callable[[], Any]) -> Any:
            file = out / folder / f"{name.replace(' ', '_').replace(',', '')}.json"
            if not file.is_file():
                write_json(file, make())
            return json.loads(file.read_text(encoding="utf-8"))

        return kept

    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "command": "python benchmarks/streaming.py",
        "machine": {"system": platform.system(), "processor": platform.machine(), "torch": torch.__version__, "threads": 1},
        "seeds": list(SEEDS),
        "settings": {"rates": list(RATES), "windows": WINDOWS, "epochs": EPOCHS, "patience": PATIENCE},
        "models": {name: {"model": kind, "options": options, "weights": w} for name, (kind, options, w) in MODELS.items()},
        "data": {},
    }
    for place, (names, batch) in STUDIES.items():
        data = dataset(place)
        if data is None or (few and place != "bazaar"):
            continue
        entry = report["data"][place] = {"train": len(data.train), "batch_size": batch, "source": data.source, "models": {}}
        for name in names:
            entry["models"][name] = rounded(study(name, data, batch, keep(place)))
            print(f"{place}, {name}: done", flush=True)
            if result is not None:
                write_json(result, report)
    report["encoder"] = rounded(encoders(load("bazaar"), keep("encoder")))
    if result is not None:
        write_json(result, report)
    return report


# -- showing it ------------------------------------------------------------------------------------------------------------------
def mean(seeds: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Return the mean over seeds; None where there is nothing to judge."""
    values = [seed.get(key) for seed in seeds]
    return None if None in values else statistics.fmean(values)


def share(habits: Mapping[str, Any], kind: str, key: str) -> float | None:
    """Return a habit's validation recall as a share of that of many epochs, mean of the seeds' shares."""
    pairs = [(a.get(key), b.get(key)) for a, b in zip(habits[kind]["seeds"], habits["many"]["seeds"], strict=True)]
    return None if any(None in pair for pair in pairs) else statistics.fmean(a / b for a, b in pairs)


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the tables."""
    parts = []
    for place, entry in report["data"].items():
        size = f"{entry['train']:,} training interactions, {entry['batch_size']} a step"
        lines = [
            f"**{place}, {size}: Recall@20 on test, and on valid as a share of many epochs'**",
            "",
            "| model | habit | step size | all | warm | cold | cold among cold | whole | ID part | content part |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for model, habits in entry["models"].items():
            for kind in HABITS:
                seeds = habits[kind]["seeds"]
                label = kind if kind != "many" else f"many ({mean(seeds, 'epoch'):.0f} epochs)"
                cells = [_number(mean(seeds, key)) for key in ("all", "warm", "cold", "cold among cold")]
                cells += [_percent(share(habits, kind, key)) for key in ("valid", "id part", "content part")]
                lines.append(f"| {model} | {label} | {habits[kind]['rate']} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
        lines = [
            f"**{place}: windows of the stream judged before they are learned from, means of windows 2 to {WINDOWS}**",
            "",
            "| model | Recall@20 | found of items known | found of first sales | first sales |",
            "|---|---|---|---|---|",
        ]
        for model, habits in entry["models"].items():
            told = habits["stream"]["progressive"]
            cells = [_number(mean(told, key)) for key in ("recall@20", "known", "new")] + [_percent(mean(told, "new items"))]
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    if encoder := report.get("encoder"):
        means = np.mean(encoder["zero-shot"], axis=0)
        lines = [
            "**the encoder's vectors on the bazaar, zero-shot Recall@20 after so many epochs over the items**",
            "",
            "| " + " | ".join(["chance", *(str(n) for n in encoder["epochs"]), "the stored features"]) + " |",
            "|" + "---|" * (len(means) + 2),
            "| " + " | ".join(_number(v) for v in (encoder["chance"], *means, encoder["features"])) + " |",
        ]
        parts.append("\n".join(lines))
    seeds = f"{len(report['seeds'])} seeds (of the encoder {len(report['encoder']['seeds'])})"
    return "\n\n".join([*parts, f"Means of {seeds}; step sizes chosen on validation with the first."])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".removeprefix("0")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def curves(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, as :func:`streaming_curves` draws them, each model's recall on valid after so many passes, as a share of many epochs'.

    Up to one pass that is the stream, from there on shuffled epochs, each count with its own step size.
    """
    told = {}
    counts = {kind: n for kind, n in EPOCH_HABITS.items() if n > 1}
    for model, habits in entry["models"].items():
        many = habits["many"]["seeds"]
        last = max(1.2 * max(counts.values()), statistics.fmean(seed["epoch"] for seed in many))
        values = [
            [curve[str(s)]["valid"] / many[n]["valid"] for s in SHARES]
            + [habits[kind]["seeds"][n]["valid"] / many[n]["valid"] for kind in counts]
            + [1.0]
            for n, curve in enumerate(habits["stream"]["curve"])
        ]
        told[model] = {"passes": [*SHARES, *counts.values(), last], "values": values}
    return told


def pictures(report: Mapping[str, Any]) -> list[go.Figure]:
    """Return a figure for each data set, and one of the encoder."""
    drawn = []
    for place, entry in report["data"].items():
        ids, content = (share(entry["models"][name], "stream", "valid") for name in ("bpr", CONTENT_ALONE))
        title = f"{place}: one pass over the stream brings content {content:.0%} of what many epochs bring, IDs {ids:.0%}"
        drawn.append(streaming_curves(curves(entry), y_title="Recall@20 on valid, share of many epochs'", title=title))
    if encoder := report.get("encoder"):
        table = [[v / row[-1] for v in row] for row in encoder["zero-shot"]]
        first = np.mean(table, axis=0)[0]
        title = f"The encoder needs many passes: one over the items brings {first:.0%} of what {encoder['epochs'][-1]} bring"
        drawn.append(
            streaming_curves(
                {"encoder's vectors": {"passes": encoder["epochs"], "values": table}},
                x_title="passes over the items",
                y_title="zero-shot Recall@20, share of the last",
                title=title,
            )
        )
    return drawn


def main() -> None:
    """Run the study, or print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the result file, train nothing")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the stored result as a page; train nothing")
    parser.add_argument("--few", action="store_true", help="the bazaar alone; writes no result")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/streaming"), help="where finished work goes (default %(default)s)"
    )
    given = parser.parse_args()
    if given.print or given.figure:
        report = json.loads(RESULT.read_text(encoding="utf-8"))
    else:
        report = measure(given.out, None if given.few else RESULT, given.few)
    if given.figure:
        write_text(given.figure, figures.page("One pass or many", pictures(report), as_markdown(report)))
    print(as_markdown(report))


if __name__ == "__main__":
    main()
