"""AlignRec on the bazaar: encoder first or all at once? What each part is worth, and how much its numbers matter.

    python benchmarks/strategies.py                  # trains, writes benchmarks/results/strategies.json, prints the tables
    python benchmarks/strategies.py --print          # prints the tables of that file again

Three parts, all with vectors of 32 numbers, batches of 1,024 and step size 1e-2 (a tenth of it for a joint encoder):

- *settings*: the terms' weights, K', temperature, gate and fusion, one at a time around the setting of :data:`BASE`, with the stored
  encoder's vectors; one seed, judged on validation. BASE itself was chosen on validation too, with one seed.
- *ablations*: BASE without one of its parts, three seeds, on test.
- *strategies*: three seeds. Staged: h_enc is the stored pre-trained encoder's. Joint: the encoder is trained with the recommender,
  from the stored copy or from scratch, with or without its own terms. *Encoder alone* are the same steps with ``mim`` and ``mlm`` only.
  Every joint run has the same number of steps and fresh items. What survives of the encoder is measured after the last epoch;
  recall is that of the last epoch too, so that all rows have been trained alike.

The gradients are those that reach the encoder's parameters, each term times its weight, on one fixed batch.

Work that was broken off goes on from the result's file; what is finished is not repeated. Delete the file to start anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import numpy as np
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.evaluation.diagnostics import effective_rank, knn_overlap
from mmrec_teach.files import rounded, write_json
from mmrec_teach.models import AlignRec, create
from mmrec_teach.training import Trainer
from mmrec_teach.training.gradients import gradient_report
from mmrec_teach.training.pretrain import Encoder, pretrained

RESULT = Path(__file__).resolve().parent / "results" / "strategies.json"
SEEDS = (0, 1, 2)
DIM = 32
TRAINING = {"lr": 1e-2, "batch_size": 1024}
EPOCHS = 30
STRATEGY_EPOCHS = 24
LOOKS = (0, 1, 3, 8, 24)
"""Epochs after which a strategy is looked at: losses, recall on validation, gradients at the encoder."""
JOINT = {"strategy": "joint", "n_fresh": 32, "encoder_lr": 0.1}
BASE: dict[str, Any] = {"gate": "sigmoid", "reg": 1.0, "l2": 1e-2}
"""The setting all parts start from: what differs from the model's defaults."""
TRIED: dict[str, Sequence[Any]] = {
    "cca": (0.0, 0.003, 0.01, 0.03, 0.1),
    "uia": (0.0, 0.03, 0.1, 0.3),
    "reg": (0.0, 0.1, 0.3, 1.0, 3.0),
    "l2": (1e-4, 1e-3, 1e-2, 3e-2),
    "k": (2, 5, 10, 20),
    "temperature": (0.1, 0.2, 0.5),
    "gate": ("plain", "sigmoid", "none", "content"),
    "fusion": ("sum", "attention", "concat"),
}
SYMBOLS = {"cca": "α (cca)", "uia": "β (uia)", "reg": "λ (reg)", "k": "K'", "temperature": "τ"}
ABLATIONS: dict[str, dict[str, Any]] = {
    "AlignRec": {},
    "without CCA": {"cca": 0.0},
    "without UIA": {"uia": 0.0},
    "without REG": {"reg": 0.0},
    "without all three": {"cca": 0.0, "uia": 0.0, "reg": 0.0},
    "gate: plain MLP": {"gate": "plain"},
    "gate: none": {"gate": "none"},
    "gate: content without ID": {"gate": "content"},
    "fusion: attention": {"fusion": "attention"},
    "fusion: concat": {"fusion": "concat"},
    "features: image and text": {"features": ("image", "text")},
}
_OFF = {"mim": 0.0, "mlm": 0.0}
_ALONE = dict.fromkeys(("bpr", "cca", "uia", "reg", "l2"), 0.0)
STRATEGIES: dict[str, dict[str, Any]] = {
    "staged": {},
    "joint, from pre-trained": {**JOINT, "start": "pretrained"},
    "joint, from pre-trained, no mim, mlm": {**JOINT, "start": "pretrained", **_OFF},
    "encoder alone, from pre-trained": {**JOINT, "start": "pretrained", **_ALONE},
    "joint, from scratch": JOINT,
    "joint, from scratch, no mim, mlm": {**JOINT, **_OFF},
    "encoder alone, from scratch": {**JOINT, **_ALONE},
}
SURVIVES = (
    "mlm_accuracy",
    "mim_accuracy",
    "image_to_text@10",
    "text_to_image@10",
    "neighbours_category@10",
    "neighbours_hue@10",
    "neighbours_tone@10",
    "neighbours_spirit@10",
)


# -- one run ---------------------------------------------------------------------------------------------------------------------
def shop() -> tuple[Dataset, np.ndarray]:
    """Return the bazaar with the stored encoder's vectors as table ``mmenc``, and these vectors."""
    data = load("bazaar")
    vectors = pretrained("bazaar").vectors(data)
    missing = {**data.missing, "mmenc": ~vectors.any(axis=1)}
    return data.with_features({**data.features, "mmenc": vectors}, missing), vectors


def trainer_of(data: Dataset, given: Mapping[str, Any], seed: int) -> Trainer:
    """Return a trainer of AlignRec with BASE and ``given``, options and weights mixed."""
    both = {**BASE, **given}
    weights = {k: v for k, v in both.items() if k in AlignRec.default_weights}
    model = create("alignrec", data, dim=DIM, seed=seed, **{k: v for k, v in both.items() if k not in weights})
    weights = model.check_weights(weights)
    return Trainer(model, data, weights=weights, seed=seed, device="cpu", metrics_every=0, **TRAINING)


def judged(model: torch.nn.Module, data: Dataset) -> dict[str, float]:
    """Return Recall@20 on validation; Recall@20 and NDCG@20 on test, of all and of cold items; the effective rank of h_mm."""
    valid, test = (evaluate(model, data, split, ks=(20,)) for split in ("valid", "test"))
    cold = test.cold()
    with model.evaluating():
        content = model.views()["item/content"]
    return {
        "valid": valid.mean("recall@20"),
        "recall": test.mean("recall@20"),
        "ndcg": test.mean("ndcg@20"),
        "cold": cold["recall@20"],
        "cold among cold": cold["recall_among_cold@20"],
        "rank of h_mm": effective_rank(content),
    }


def staged(data: Dataset, given: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Train once with a finished encoder; return :func:`judged`."""
    trainer = trainer_of(data, given, seed)
    for _ in range(EPOCHS):
        trainer.epoch()
    return judged(trainer.model, data)


@contextmanager
def only(model: torch.nn.Module, part: torch.nn.Module) -> Iterator[None]:
    """Let gradients reach ``part`` alone."""
    inside = set(part.parameters())
    others = [p for p in model.parameters() if p.requires_grad and p not in inside]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def strategy(data: Dataset, vectors: np.ndarray, given: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train once with a strategy.

    Returns:
        ``test``: :func:`judged`. ``survives``: what the encoder can do in the end, see :data:`SURVIVES`, and ``overlap``, the share of
        its ten nearest items an item has in common with the pre-trained vectors. ``looks``: one entry per epoch of
        :data:`LOOKS`: ``valid`` recall, ``losses`` of that epoch and, where an encoder is trained, ``norms`` and ``cosines``.
    """
    trainer = trainer_of(data, given, seed)
    model, looks = trainer.model, []
    batch = trainer.examples(TRAINING["batch_size"])

    def look(epoch: int, losses: Mapping[str, float]) -> None:
        entry: dict[str, Any] = {"epoch": epoch, "losses": dict(losses)}
        entry["valid"] = evaluate(model, data, "valid", ks=(20,)).mean("recall@20")
        if model.joint:
            with only(model, model.encoder):
                report = gradient_report(model.train(), batch, trainer.weights)
            entry["norms"] = dict(report.norms)
            entry["cosines"] = {f"{a}, {b}": value for (a, b), value in report.cosines.items()}
        looks.append(entry)

    look(0, {})
    for epoch in range(1, STRATEGY_EPOCHS + 1):
        record = trainer.epoch()
        if epoch in LOOKS:
            look(epoch, record.losses)
    encoder = pretrained("bazaar")
    if model.joint:
        live = model.encoder
        encoder = Encoder(live.mmenc, live.tokens.tokenizer, live.centre.numpy())
    quality = encoder.quality(data, seed=0)
    survives = {name: quality[name] for name in SURVIVES}
    survives["overlap"] = knn_overlap(encoder.vectors(data), vectors, 10)
    return {"test": judged(model, data), "survives": survives, "looks": looks}


# -- the study -------------------------------------------------------------------------------------------------------------------
def run(out: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Run what is not in the file yet; the file grows by one run at a time."""
    data, vectors = shop()
    about = {
        "command": "python benchmarks/strategies.py",
        "machine": {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
        | {"torch": torch.__version__, "threads": torch.get_num_threads()},
        "data": data.name,
        "settings": {
            "dim": DIM,
            **TRAINING,
            "epochs": EPOCHS,
            "strategy_epochs": STRATEGY_EPOCHS,
            "seeds": list(SEEDS),
            "base": BASE,
        },
    }
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    result: dict[str, Any] = {**about, **{part: kept.get(part, {}) for part in ("tried", "ablations", "strategies")}}

    def fill(part: str, name: str, seed: int, make: Any) -> None:
        entry = result[part].setdefault(name, {})
        if str(seed) not in entry:
            entry[str(seed)] = rounded(make())
            write_json(out, result)
            print(part, name, seed, flush=True)

    if "settings" in parts:
        for name, values in TRIED.items():
            for value in values:
                fill("tried", f"{name}={value}", 0, lambda n=name, v=value: staged(data, {n: v}, 0))
    for seed in SEEDS:
        if "ablations" in parts:
            fill("ablations", "LightGCN", seed, lambda s=seed: plain(data, s))
            for name, given in ABLATIONS.items():
                fill("ablations", name, seed, lambda g=given, s=seed: staged(data, g, s))
        if "strategies" in parts:
            for name, given in STRATEGIES.items():
                fill("strategies", name, seed, lambda g=given, s=seed: strategy(data, vectors, g, s))
    return result


def plain(data: Dataset, seed: int) -> dict[str, float]:
    """Train LightGCN alike; return what :func:`judged` does, without content."""
    model = create("lightgcn", data, dim=DIM, seed=seed)
    trainer = Trainer(model, data, seed=seed, device="cpu", metrics_every=0, **TRAINING)
    for _ in range(EPOCHS):
        trainer.epoch()
    valid, test = (evaluate(model, data, split, ks=(20,)) for split in ("valid", "test"))
    cold = {"cold": test.cold()["recall@20"], "cold among cold": test.cold()["recall_among_cold@20"]}
    return {"valid": valid.mean("recall@20"), "recall": test.mean("recall@20"), "ndcg": test.mean("ndcg@20"), **cold}


# -- showing it ------------------------------------------------------------------------------------------------------------------
def mean_of(entry: Mapping[str, Any], *path: str) -> float:
    """Return the mean over seeds of a number in a variant's entry."""
    found = list(entry.values())
    for name in path:
        found = [one[name] for one in found]
    return statistics.fmean(found)


def spread_of(entry: Mapping[str, Any], *path: str) -> float:
    """Return the largest less the smallest of the seeds' numbers."""
    found = list(entry.values())
    for name in path:
        found = [one[name] for one in found]
    return max(found) - min(found)


def _short(value: float | None, digits: int = 3) -> str:
    if value is None:
        return ""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def strategies_table(result: Mapping[str, Any]) -> str:
    """Return what each strategy ends with, and what is left of the encoder."""
    columns = {
        "recall": ("test", "recall"),
        "seeds": None,
        "ndcg": ("test", "ndcg"),
        "cold": ("test", "cold"),
        "mlm": ("survives", "mlm_accuracy"),
        "mim": ("survives", "mim_accuracy"),
        "image→text": ("survives", "image_to_text@10"),
        "text→image": ("survives", "text_to_image@10"),
        "same neighbours": ("survives", "overlap"),
        "category": ("survives", "neighbours_category@10"),
        "tone": ("survives", "neighbours_tone@10"),
        "spirit": ("survives", "neighbours_spirit@10"),
    }
    lines = []
    for name, entry in result["strategies"].items():
        alone = name.startswith("encoder alone")
        cells = [name]
        for path in columns.values():
            if alone and (path is None or path[0] == "test"):
                cells.append("")
            elif path is None:
                cells.append(f"±{_short(spread_of(entry, 'test', 'recall') / 2)}")
            else:
                cells.append(_short(mean_of(entry, *path)))
        lines.append(cells)
    return _markdown(["strategy", *columns], lines)


def at(entry: Mapping[str, Any], epoch: int, *path: str) -> float | None:
    """Return the mean over seeds of a number after ``epoch``; None where it was not measured."""
    found = []
    for one in entry.values():
        value: Any = next(look for look in one["looks"] if look["epoch"] == epoch)
        for name in path:
            value = value.get(name) if value is not None else None
        if value is None:
            return None
        found.append(value)
    return statistics.fmean(found)


def _digits(value: float | None) -> str:
    """Two digits of a number whose size says more than its decimals."""
    return "" if value is None else f"{value:.2g}"


def gradients_table(result: Mapping[str, Any]) -> str:
    """Return what pulls at the encoder early and late, and which terms pull against each other."""
    lines = []
    pairs = ("bpr, mim", "bpr, mlm", "cca, mlm", "mim, mlm")
    for name, entry in result["strategies"].items():
        if not name.startswith("joint"):
            continue
        for epoch in (LOOKS[0], LOOKS[2], LOOKS[-1]):
            norms = [_digits(at(entry, epoch, "norms", term)) for term in ("bpr", "cca", "uia", "mim", "mlm")]
            angles = [_short(at(entry, epoch, "cosines", pair), 2) for pair in pairs]
            lines.append([name, str(epoch), *norms, *angles])
    head = ["strategy", "epochs", "bpr", "cca", "uia", "mim", "mlm", *(f"cos {p.replace(', ', '·')}" for p in pairs)]
    return _markdown(head, lines)


def speed_table(result: Mapping[str, Any]) -> str:
    """Return how far recommendation and the encoder's own terms have come, of all the way to the last epoch."""
    lines = []
    for name, entry in result["strategies"].items():
        for epoch in LOOKS[1:]:
            recall = at(entry, epoch, "valid")
            mim, mlm = (at(entry, epoch, "losses", term) for term in ("mim", "mlm"))
            cells = [_short(recall) if not name.startswith("encoder alone") else "", _short(mim, 2), _short(mlm, 2)]
            lines.append([name, str(epoch), *cells])
    return _markdown(["strategy", "epochs", "recall@20, validation", "mim", "mlm"], lines)


def ablations_table(result: Mapping[str, Any]) -> str:
    """Return what each part is worth."""
    names = ("valid", "recall", "ndcg", "cold", "cold among cold", "rank of h_mm")
    lines = []
    for name, entry in result["ablations"].items():
        has = [n for n in names if n in next(iter(entry.values()))]
        cells = {n: _short(mean_of(entry, n), 1 if n.startswith("rank") else 3) for n in has}
        spread = f"±{_short(spread_of(entry, 'recall') / 2)}"
        lines.append([name, cells["valid"], cells["recall"], spread, *(cells.get(n, "") for n in names[2:])])
    return _markdown(["", "validation", "recall", "seeds", *names[2:]], lines)


def settings_table(result: Mapping[str, Any]) -> str:
    """Return what was tried, on validation; the setting of BASE is marked."""
    lines = []
    defaults = {**AlignRec.default_weights, "k": 10, "temperature": 0.2, "gate": "plain", "fusion": "sum"} | BASE
    for name, values in TRIED.items():
        cells = []
        for value in values:
            entry = result["tried"][f"{name}={value}"]["0"]
            told = f"{value}: {_short(entry['valid'])} ({_short(entry['cold'])})"
            cells.append(f"**{told}**" if value == defaults[name] else told)
        lines.append([SYMBOLS.get(name, name), ", ".join(cells)])
    return _markdown(["", "Recall@20 on validation (of cold items, on test)"], lines)


def tables(result: Mapping[str, Any]) -> str:
    """Return all tables; parts that have not been run yet are left out."""
    seeds = len(result["settings"]["seeds"])
    parts = []
    if result["strategies"]:
        parts += [
            f"**what each strategy ends with** (mean of {seeds} seeds, @20 on test; of the encoder: @10)",
            strategies_table(result),
            "**gradients at the encoder** (norms of weight × term, and cosines between terms)",
            gradients_table(result),
            "**learning speed**",
            speed_table(result),
        ]
    if result["ablations"]:
        parts += [f"**parts** (mean of {seeds} seeds, @20)", ablations_table(result)]
    if result["tried"]:
        parts += ["**settings** (one seed)", settings_table(result)]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables of the stored result; train nothing")
    parser.add_argument("--parts", default="settings,ablations,strategies", help="which parts to run")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result's file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.print:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    else:
        result = run(arguments.out, arguments.parts.split(","))
    print(tables(result))


if __name__ == "__main__":
    main()
