"""Models that read histories on real data: the next item, all items ranked, epochs and settings chosen on validation.

    python benchmarks/sequences.py scientific       # trains, writes benchmarks/results/scientific.json, prints the tables
    python benchmarks/sequences.py scientific --print    # prints the tables of that file again
    python benchmarks/sequences.py ml-100k          # the same for ML-100K, by time

Each study is a few `mmrec-teach compare` commands, printed and kept in the JSON: a model may stand in the table with two settings, and
some wait longer before they stop. The second table judges the same runs with nothing masked, as sequence models are published. Runs
that were broken off go on from their checkpoints; finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmrec_teach.cli import main
from mmrec_teach.cli.train import as_markdown
from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.files import write_json
from mmrec_teach.training.experiments import RunConfig, read_comparison, run

HERE = Path(__file__).resolve().parent
UNMASKED = (10, 50)
"""Cut-offs at which test is judged once more with nothing masked."""


@dataclass(frozen=True)
class Study:
    """One table: the data (a folder below the real data sets), how they are split, and the commands whose rows it has."""

    data: str
    commands: tuple[str, ...]
    split: str | None = None
    notes: tuple[str, ...] = ()


# SASRec waits longer: its item vectors start without knowing anything, and it lingers at popularity for some epochs. The content
# models' feed-forward networks are as wide as SASRec's.
COMMON = "--metric ndcg@10 --batch-size 512 --lr 0.002"
CONTENT = f"{COMMON} --patience 5 --options inner=64"
# MISSRec reads every prefix, 97,171 of them in ML-100K: more than a minute of a processor for an epoch.
SHORT = f"{COMMON} --seeds 1 --epochs 3 --patience 2 --options inner=64,length=20"
STUDIES = {
    "scientific": Study(
        "scientific",
        (
            f"--models popularity,item-knn,sasrec {COMMON} --seeds 3 --patience 30 --grid sasrec.loss=bce,ce --grid sasrec.dropout=0.2,0.5",
            f"--models unisrec {CONTENT} --seeds 3 --grid dropout=0.2,0.5",
            f"--models missrec {CONTENT} --seeds 3 --options missrec.ids=false,dropout=0.2",
            f"--models missrec {CONTENT} --seeds 3 --options missrec.ids=true,dropout=0.2",
        ),
        notes=(
            "The published numbers of Scientific stand on the whole of it; this is the part whose items have a picture and a text, "
            "so they are not comparable.",
        ),
    ),
    "ml-100k": Study(
        "ml-100k",
        (
            f"--models popularity,item-knn,sasrec {COMMON} --seeds 3 --patience 10 --options sasrec.loss=ce --grid sasrec.dropout=0.2,0.5",
            f"--models unisrec {CONTENT} --seeds 1 --options dropout=0.2",
            f"--models missrec {SHORT} --options missrec.ids=false,dropout=0.2",
            f"--models missrec {SHORT} --options missrec.ids=true,dropout=0.2",
        ),
        split="leave-one-out",
        notes=(
            "By time: a user's last film is for test, the one before for validation. SASRec and UniSRec read the latest 50 films, MISSRec "
            "the latest 20, and it had three epochs only.",
        ),
    ),
}


def real_data() -> Path:
    """Return the folder of real data sets."""
    for candidate in (os.environ.get("MMREC_TEACH_REAL_DATA"), HERE.parent.parent / "shared" / "data"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    raise SystemExit("The real data sets are not at hand: set MMREC_TEACH_REAL_DATA to their folder.")


def run_study(name: str, out: Path) -> dict[str, Any]:
    """Run one study; write and return its table, with the commands and the machine."""
    study, result = STUDIES[name], HERE / "results" / f"{name}.json"
    place, split = str(real_data() / study.data), f" --split {study.split}" if study.split else ""
    commands, tables = [], []
    for words in study.commands:
        commands.append(f"mmrec-teach compare --data $MMREC_TEACH_REAL_DATA/{study.data}{split} {words}")
        print(commands[-1], flush=True)
        given = [
            "compare",
            "--data",
            place,
            *split.split(),
            *words.split(),
            "--quiet",
            "--out",
            str(out),
            "--json",
            str(result),
        ]
        if main(given):
            raise SystemExit(1)
        tables.append(json.loads(result.read_text(encoding="utf-8")))
    table = tables[0] | {"rows": [row for one in tables for row in one["rows"]], "pairs": []}  # pairs are of one command each
    table["left_out"] = {model: why for one in tables for model, why in one["left_out"].items()}
    data = load(place, **({"split": study.split} if study.split else {}))
    for row in table["rows"]:
        row["test_unmasked"] = unmasked(row, data, out)
    table["notes"] += study.notes
    table["made_by"] = {
        "command": f"python benchmarks/sequences.py {name}",
        "commands": commands,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    write_json(result, table)
    return table


def unmasked(row: dict[str, Any], data: Dataset, out: Path) -> dict[str, Any]:
    """Judge a row's finished runs on test with nothing masked; return metric -> mean, std and values over seeds."""
    means = []
    for folder in row["folders"]:
        config = RunConfig(**json.loads((out / data.name / folder / "config.json").read_text(encoding="utf-8")))
        means.append(evaluate(run(data, config, out, progress=False).model, data, "test", ks=UNMASKED, mask=()).means())
    told = {}
    for metric in (f"{kind}@{k}" for k in UNMASKED for kind in ("recall", "ndcg")):
        values = [one[metric] for one in means]
        std = statistics.stdev(values) if len(values) > 1 else None
        told[metric] = {"mean": statistics.fmean(values), "std": std, "values": values}
    return told


def unmasked_table(table: dict[str, Any]) -> str:
    """Return test with nothing masked as Markdown."""
    metrics = list(table["rows"][0]["test_unmasked"])
    lines = [f"| test, nothing masked | {' | '.join(metrics)} |", "|---|" + "---:|" * len(metrics)]
    for row in table["rows"]:
        setting = ", ".join(f"{k}={v}" for k, v in {**row["options"], **row["weights"]}.items())
        cells = [
            f"{told['mean']:.4f}" + (f" ±{told['std']:.3f}" if told["std"] is not None else "")
            for told in row["test_unmasked"].values()
        ]
        lines.append(f"| {row['model']}{f' ({setting})' if setting else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tables(table: dict[str, Any]) -> str:
    """Return both tables of a study as Markdown."""
    return f"{as_markdown(table)}\n\n{unmasked_table(table)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", choices=STUDIES, metavar="STUDY", help=f"which of: {', '.join(STUDIES)}")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--print", action="store_true", help="print the tables of the stored result; train nothing")
    arguments = parser.parse_args()
    for study in arguments.studies:
        saved = HERE / "results" / f"{study}.json"
        print(tables(read_comparison(saved) if arguments.print else run_study(study, arguments.out)))
