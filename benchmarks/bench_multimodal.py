"""Time and memory of an epoch of BM3, FREEDOM, LATTICE and AlignRec beside the plain baseline, and of a large item graph, in one run.

    python benchmarks/bench_multimodal.py --data ../shared/data/amazon-baby --out benchmarks/results/multimodal.json

Features are random, of the published sizes (image 4096-d, text 384-d): they cost what real ones cost and mean nothing, so no
quality is judged here. AlignRec reads one fused vector an item (768-d, as large as a BEiT-3 base gives); LightGCN stands beside it as what
it is built on, and InfoNCE is timed alone by ``--models info-nce``. Forms of a model:

- ``plain``: as public code computes it (``plain_multimodal.py``);
- ``released``: ours with the released options (trained feature tables where the released code has them);
- ``ours``: ours as it comes.

``--graph-items`` (63,001, Electronics' size) is the size of an item graph built in blocks. Every line runs in a process of its
own, so that its peak memory is its own; building the model (item graphs with it) is timed apart from the epochs. Times are
medians over the epochs after the first. Wall time means something on an otherwise idle machine only: the JSON file also holds
processor time and the load average, and the run says so when the machine is busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from bench_engine import median, peak_mb, random_shop

HERE = Path(__file__).resolve().parent
OURS = {
    "bm3": {"n_layers": 1, "dropout": 0.5},
    "freedom": {},
    "lattice": {},
    "buir": {},
    "mmgcn": {},
    "grcn": {},
    "dualgnn": {},
    "lightgcn": {},
    "alignrec": {},
}
RELEASED = {
    "bm3": {"trainable_features": True, "regularizer": "emb_norm"},
    "freedom": {"trainable_features": True, "projection_bias": True},
    "lattice": {"trainable_features": True, "user_item_graph": "row", "regularizer": "propagated"},
    "alignrec": {
        "gate": "sigmoid",
        "reg_form": "released",
        "mask_duplicates": False,
        "regularizer": "propagated",
        "trainable_features": True,
    },
}
PLAIN = ("bm3", "freedom", "lattice", "alignrec")
FUSED = {"alignrec": 768}


def data_of(arguments: argparse.Namespace, model_name: str):
    """Return the data set with random features of the published sizes, fused ones for a model that wants these."""
    import numpy as np

    from mmrec_teach.data import load

    data = load(arguments.data) if arguments.data else random_shop()
    rng = np.random.default_rng(0)
    sizes = {"image": arguments.image_dim, "text": arguments.text_dim}
    if model_name in FUSED:
        sizes = {"mmenc": FUSED[model_name]}
    return data.with_features({m: rng.standard_normal((data.n_items, d), dtype=np.float32) for m, d in sizes.items()})


def work(model_name: str, form: str, arguments: argparse.Namespace) -> dict:
    """Train some epochs of one form; return times and memory."""
    import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

    # isort: split
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data = data_of(arguments, model_name)
    result = {"model": model_name, "form": form, "data": data.name, "memory_before_mb": peak_mb()}
    start = time.perf_counter()
    if model_name == "info-nce":
        trainer = model = InfoNCEAlone(data, arguments.dim, arguments.batch_size)
    elif form == "plain":
        import plain_multimodal as plain

        model = plain.MODELS[model_name](data, arguments.dim)
        trainer = plain.PlainContentTrainer(model, data, arguments.batch_size)
    else:
        from mmrec_teach.models import create
        from mmrec_teach.training import Trainer

        options = OURS[model_name] | (RELEASED[model_name] if form == "released" else {})
        model = create(model_name, data, dim=arguments.dim, **options)
        trainer = Trainer(model, data, batch_size=arguments.batch_size, device="cpu", metrics_every=0)
        result["options"] = options
    result["build_seconds"] = time.perf_counter() - start
    result["parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    result["epoch_seconds"], result["epoch_cpu_seconds"] = [], []
    for _ in range(arguments.epochs + 1):  # the first warms up
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.epoch()
        result["epoch_seconds"].append(time.perf_counter() - wall)
        result["epoch_cpu_seconds"].append(time.process_time() - cpu)
    return result | {"peak_mb": peak_mb(), "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None}


class InfoNCEAlone:
    """An epoch of AlignRec's two contrasts and nothing else, gradients included: vectors that no graph made."""

    def __init__(self, data, dim: int, batch_size: int):
        import torch

        self.data, self.batch_size = data, batch_size
        self.tables = [
            torch.randn(n, dim, requires_grad=True) for n in (data.n_users, data.n_users, data.n_items, data.n_items)
        ]

    def parameters(self):
        """Return the tables."""
        return self.tables

    def epoch(self) -> None:
        """Compute both contrasts of every batch and their gradients."""
        import torch

        from mmrec_teach.ops import losses
        from mmrec_teach.training.sampling import epoch_batches

        for users, items, _ in epoch_batches(self.data, self.batch_size, None, torch.Generator()):
            total = 0.0
            for ids, (mm, own) in ((users, self.tables[:2]), (items, self.tables[2:])):
                some, count = torch.unique(ids, return_counts=True)
                total = total + losses.info_nce(mm.index_select(0, some), own.index_select(0, some), count)
            torch.autograd.grad(total, self.tables)


def work_graph(dim: int, arguments: argparse.Namespace) -> dict:
    """Build one item graph; return time and memory."""
    import mmrec_teach  # noqa: F401 - as above

    # isort: split
    import torch

    from mmrec_teach.ops import graph

    torch.set_num_threads(arguments.threads)
    features = torch.randn(arguments.graph_items, dim, generator=torch.Generator().manual_seed(0))
    before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
    built = graph.knn_graph(features, 10)
    return {
        "graph_items": arguments.graph_items,
        "graph_dim": dim,
        "edges": built.values().numel(),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "memory_before_mb": before,
        "peak_mb": peak_mb(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def table(results: list[dict]) -> str:
    """Return the comparison as text."""
    lines = [f"{'model':<9}{'form':<10}{'epoch s':>9}{'times faster':>14}{'build s':>9}{'peak MB':>9}{'parameters':>12}"]
    for r in results:
        epoch = median(r["epoch_seconds"][1:])
        plain = next(
            (median(p["epoch_seconds"][1:]) for p in results if (p["model"], p["form"]) == (r["model"], "plain")), None
        )
        ratio = "" if plain is None or r["form"] == "plain" else f"{plain / epoch:.1f}"
        name = f"{r['model']:<9}{r['form']:<10}"
        lines.append(f"{name}{epoch:>9.3f}{ratio:>14}{r['build_seconds']:>9.2f}{r['peak_mb']:>9.0f}{r['parameters']:>12,}")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a data set that mmrec_teach opens; default: a random shop of Amazon Baby's size")
    parser.add_argument(
        "--models", default=",".join(PLAIN), help=f"some of {','.join(OURS)},info-nce; no plain form but of the default ones"
    )
    parser.add_argument("--forms", default="plain,released,ours")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs, after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--image-dim", type=int, default=4096)
    parser.add_argument("--text-dim", type=int, default=384)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--graph-items", type=int, default=63_001, help="0: no large item graph")
    parser.add_argument("--graph-dims", default="384", help="feature sizes of the large graph; 4096 takes minutes")
    parser.add_argument("--out", help="write all numbers to this JSON file")
    parser.add_argument("--worker", nargs=2, metavar=("MODEL", "FORM"), help=argparse.SUPPRESS)
    return parser.parse_args()


def run(arguments: argparse.Namespace, *job: str) -> dict:
    """Run one job in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--worker", *job]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(job)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = parse()
    if arguments.worker:
        name, form = arguments.worker
        print(json.dumps(work_graph(int(form), arguments) if name == "graph" else work(name, form, arguments)))
        return
    names, forms = arguments.models.split(","), arguments.forms.split(",")
    if unknown := set(names) - {*OURS, "info-nce"}:
        sys.exit(f"unknown model {sorted(unknown)[0]!r}, expected some of {', '.join(OURS)}, info-nce")
    if unknown := set(forms) - {"plain", "released", "ours"}:
        sys.exit(f"unknown form {sorted(unknown)[0]!r}, expected some of plain, released, ours")
    results, graphs = [], []
    for name in names:
        for form in forms:
            if form != "ours" and name not in PLAIN:
                continue
            results.append(run(arguments, name, form))
            print(table(results[-1:]).splitlines()[1], file=sys.stderr)
    if arguments.graph_items:
        graphs = [run(arguments, "graph", dim) for dim in arguments.graph_dims.split(",")]
    if results:
        print(
            f"{results[0]['data']}, random features ({arguments.image_dim}-d, {arguments.text_dim}-d), "
            f"batch {arguments.batch_size}, d = {arguments.dim}, {arguments.threads} threads, median of {arguments.epochs} epochs"
        )
        print(table(results))
    for g in graphs:
        print(
            f"item graph, {g['graph_items']:,} items, {g['graph_dim']}-d, in blocks: {g['seconds']:.1f} s, "
            f"peak {g['peak_mb']:.0f} MB ({g['memory_before_mb']:.0f} before, features included)"
        )
    busy = max((r["load_average"] or 0.0 for r in results + graphs), default=0.0)
    if busy > arguments.threads + 0.5:
        print(f"The machine was busy with other work (load average {busy:.1f}): wall times are not to be trusted.")
    if arguments.out:
        from importlib.metadata import version

        from mmrec_teach.files import write_json

        place = f"$MMREC_TEACH_REAL_DATA/{Path(arguments.data or '').name}"
        shown = [place if a == arguments.data else a for a in sys.argv[1:] if a not in ("--out", arguments.out)]
        machine = {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": version("torch"),
        }
        write_json(
            arguments.out,
            {
                "command": " ".join(["python benchmarks/bench_multimodal.py", *shown]),
                "machine": machine,
                "results": results,
                "item_graphs": graphs,
            },
        )


if __name__ == "__main__":
    main()
