"""BM3's forms side by side: are frozen features and projecting only a batch's items as good as what the public code does?

    python benchmarks/bm3_forms.py bazaar          # some minutes on an idle core
    python benchmarks/bm3_forms.py bazaar tiktok   # TikTok takes longer; its folder is below $MMREC_TEACH_REAL_DATA
    python benchmarks/bm3_forms.py --print         # the tables again, from benchmarks/results/bm3_forms.json

Quality: feature tables frozen or trained (released), with no penalty, the paper's squared one, or the released one (``emb_norm``).
Each form trains to early stopping; its λ is chosen on validation with the first seed. Runs lie in ``--runs``: finished ones are
not repeated.

Cost: processor seconds of an epoch (not wall time: it also means something on a busy machine), medians on one thread, for both
kinds of table, projecting the batch's distinct items or, as the public code does, all items in every batch. Both give the same
numbers up to rounding (``tests/test_collapse.py``), so quality is not measured twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

# isort: split
import torch
from torch import Tensor

from mmrec_teach.data import Dataset, load
from mmrec_teach.files import write_json
from mmrec_teach.models import BM3
from mmrec_teach.ops.memory import keep_freed_memory
from mmrec_teach.training import Trainer
from mmrec_teach.training.experiments import compare_models

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "bm3_forms.json"
TABLES = {"frozen": False, "trained": True}
PENALTIES = {"none": ("squared", (0.0,)), "squared": ("squared", (0.001, 0.01)), "emb_norm": ("emb_norm", (0.01, 0.1))}


@dataclass(frozen=True)
class Study:
    """What is trained on one data set."""

    data: str
    dim: int
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    penalties: tuple[str, ...] = field(default=tuple(PENALTIES))


STUDIES = {
    "bazaar": Study(
        "bazaar", 32, (0, 1, 2), {"lr": 1e-2, "batch_size": 1024, "epochs": 300, "patience": 8, "metrics_every": 3}
    ),
    "tiktok": Study(
        "tiktok",
        64,
        (0,),
        {"lr": 5e-3, "batch_size": 2048, "epochs": 200, "patience": 5, "metrics_every": 3},
        ("none", "emb_norm"),
    ),
}


class ProjectAll(BM3):
    """BM3 that projects every item for every batch, as the public code does; the numbers are the same."""

    def __init__(self, data: Dataset, **options: Any):
        super().__init__(data, **options)
        some = self.modality.forward

        def whole(name: str, items: Tensor | None = None) -> Tensor:
            return some(name) if items is None else some(name)[items]

        self.modality.forward = whole


def open_data(name: str) -> Dataset:
    """Return an embedded data set, or one below the folder of real data."""
    if name == "bazaar":
        return load(name)
    from published import real_data

    return load(real_data() / name)


def quality(study: Study, data: Dataset, runs: str) -> list[dict[str, Any]]:
    """Train every form; return its table's row, which holds all values tried."""
    rows = []
    for tables, trainable in TABLES.items():
        for penalty in study.penalties:
            regularizer, strengths = PENALTIES[penalty]
            compared = compare_models(
                data,
                ["bm3"],
                seeds=study.seeds,
                given={"dim": study.dim, "trainable_features": trainable, "regularizer": regularizer},
                grid={"reg": strengths},
                settings=study.settings,
                out=runs,
                progress=False,
                device="cpu",
                report=lambda text: print(text, file=sys.stderr, flush=True),
            )
            model = BM3(data, dim=study.dim, trainable_features=trainable)
            rows.append({"tables": tables, "penalty": penalty, "parameters": sum(p.numel() for p in model.parameters())})
            rows[-1] |= compared["rows"][0]
    return rows


def cost(study: Study, data: Dataset, epochs: int = 5) -> list[dict[str, Any]]:
    """Return processor seconds of an epoch for frozen and trained tables, the batch's items and all."""
    keep_freed_memory()
    found = []
    for tables, trainable in TABLES.items():
        for projected, kind in {"batch": BM3, "all": ProjectAll}.items():
            model = kind(data, dim=study.dim, trainable_features=trainable)
            trainer = Trainer(model, data, batch_size=study.settings["batch_size"], device="cpu", metrics_every=0)
            seconds = []
            for _ in range(epochs + 1):  # the first warms up
                start = time.process_time()
                trainer.epoch()
                seconds.append(round(time.process_time() - start, 4))
            found.append({"tables": tables, "projected": projected, "cpu_seconds": seconds[1:]})
    return found


def table(name: str, result: Mapping[str, Any]) -> str:
    """Return a study's two tables as text."""
    n = len(result["rows"][0]["seeds"])
    lines = [
        f"{name}, {n} {'seed' if n == 1 else 'seeds'}",
        f"{'tables':<9}{'penalty':<10}{'λ':>7}{'valid':>8}{'test recall@20':>16}{'lowest to highest':>20}{'ndcg@20':>9}{'parameters':>12}",
    ]
    for row in result["rows"]:
        recall, strength = row["test"]["recall@20"], row["weights"].get("reg", 0.0)
        spread = f"{min(recall['values']):.4f} to {max(recall['values']):.4f}"
        lines.append(
            f"{row['tables']:<9}{row['penalty']:<10}{strength:>7g}{row['valid']['recall@20']['mean']:>8.4f}{recall['mean']:>16.4f}"
            f"{spread:>20}{row['test']['ndcg@20']['mean']:>9.4f}{row['parameters']:>12,}"
        )
    lines += ["", f"{'tables':<9}{'projected in a batch':<22}{'processor seconds an epoch':>26}"]
    words = {"batch": "the batch's items", "all": "all items"}
    for row in result["cost"]:
        lines.append(f"{row['tables']:<9}{words[row['projected']]:<22}{statistics.median(row['cpu_seconds']):>26.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=["bazaar"], help=f"which of: {', '.join(STUDIES)} (default bazaar)")
    parser.add_argument("--print", action="store_true", help="print the tables of the stored result; train nothing")
    parser.add_argument("--runs", default="runs/bm3_forms", help="where run folders go")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result's file")
    arguments = parser.parse_args()
    if arguments.print:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
        print("\n\n".join(table(name, study) for name, study in result["studies"].items()))
        return
    if unknown := set(arguments.studies) - set(STUDIES):
        parser.error(f"unknown study {sorted(unknown)[0]!r}; there are: {', '.join(STUDIES)}")
    torch.set_num_threads(1)
    result = {
        "command": " ".join(["python benchmarks/bm3_forms.py", *arguments.studies]),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": 1,
        },
        "studies": {},
    }
    for name in arguments.studies:
        study = STUDIES[name]
        data = open_data(study.data)
        result["studies"][name] = {
            "settings": {"dim": study.dim, **study.settings},
            "rows": quality(study, data, arguments.runs),
            "cost": cost(study, data),
        }
        print(table(name, result["studies"][name]), flush=True)
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
