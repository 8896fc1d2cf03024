"""The long runs behind the tables: trained to early stopping on the published protocol, settings chosen on validation only.

    python benchmarks/published.py bazaar      # some minutes on two cores
    python benchmarks/published.py baby        # about half an hour

Each study is one `mmrec-teach compare` command, printed first and kept in the JSON beside the result. Runs that were broken off
go on from their checkpoints; finished ones are not repeated. `mmrec-teach compare --from benchmarks/results/baby.json` prints
a table again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import torch

from mmrec_teach.cli import main
from mmrec_teach.files import write_json

HERE = Path(__file__).resolve().parent
# name -> data, folder below the real data sets or an embedded set; words of the command
STUDIES = {
    "bazaar": (
        "bazaar",
        "--models random,popularity,item-knn,bpr,vbpr,lightgcn,oracle "
        "--grid l2=0.001,0.01,0.1 --grid scaling=raw,unit --seeds 3 --lr 0.005 --batch-size 1024",
    ),
    # published Recall@20 on this split, only train masked: BPR .0575, LightGCN .0754
    "baby": ("amazon-baby", "--models popularity,item-knn,bpr,lightgcn --grid l2=0.001,0.01,0.1"),
}


def real_data() -> Path:
    """Return the folder of real data sets."""
    for candidate in (os.environ.get("MMREC_TEACH_REAL_DATA"), HERE.parent.parent / "shared" / "data"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    raise SystemExit("The real data sets are not at hand: set MMREC_TEACH_REAL_DATA to their folder.")


def run_study(name: str, out: str) -> None:
    """Run one study and add the command and the machine to its JSON."""
    data, text = STUDIES[name]
    embedded = data.startswith("bazaar")
    result = HERE / "results" / f"{name}.json"
    command = f"mmrec-teach compare --data {data if embedded else '$MMREC_TEACH_REAL_DATA/' + data} {text}"
    print(command, flush=True)
    place = data if embedded else str(real_data() / data)
    words = ["compare", "--data", place, *text.split(), "--quiet", "--out", out, "--json", str(result)]
    if main(words):
        raise SystemExit(1)
    table = json.loads(result.read_text(encoding="utf-8"))
    table["made_by"] = {
        "command": command,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    write_json(result, table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=list(STUDIES), help=f"which of: {', '.join(STUDIES)}")
    parser.add_argument("--out", default="runs", help="where run folders go")
    arguments = parser.parse_args()
    for study in arguments.studies:
        if study not in STUDIES:
            parser.error(f"unknown study {study!r}; there are: {', '.join(STUDIES)}")
        run_study(study, arguments.out)
