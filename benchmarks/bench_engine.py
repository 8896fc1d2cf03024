"""Time and memory of an epoch and of a full evaluation, beside the plain baseline, in one run.

    python benchmarks/bench_engine.py --data ../shared/data/amazon-baby --out benchmarks/results/engine.json

Every (model, form) pair runs in a process of its own, so that its peak memory is its own. Times are medians over the epochs
after the first. Without --data a random shop of Amazon Baby's size is used, which says as much about speed (and nothing about
quality). Wall time means something on an otherwise idle machine only: the JSON file also holds processor time (all threads) and
the load average, and the run says so when the machine is busy.
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

HERE = Path(__file__).resolve().parent
MODELS = ("bpr", "vbpr", "lightgcn")
FORMS = ("plain", "mmrec_teach")


# -- the worker: one model, one form -----------------------------------------------------------------------------------------
def peak_mb() -> float:
    """Return this process's peak resident memory in MB."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def random_shop(seed: int = 0):
    """Return a data set of Amazon Baby's size with a long tail and two random 256-d feature tables."""
    import numpy as np

    from mmrec_teach.data import Dataset, Interactions

    n_users, n_items, n_pairs = 19_445, 7_050, 160_792
    rng = np.random.default_rng(seed)
    popularity = 1 / (np.arange(n_items) + 30.0)
    users = np.concatenate([np.tile(np.arange(n_users), 6), rng.integers(0, n_users, n_pairs - 5 * n_users)])
    items = rng.choice(n_items, len(users), p=popularity / popularity.sum())
    keys = rng.permutation(np.unique(users * n_items + items))[:n_pairs]
    keys = keys[np.argsort(keys // n_items, kind="stable")]
    users, items = keys // n_items, keys % n_items
    place = np.arange(len(keys)) - np.searchsorted(users, users)  # position in the user's history
    per_user = np.bincount(users, minlength=n_users)[users]
    part = np.where((place == 1) & (per_user > 2), 1, np.where((place == 2) & (per_user > 2), 2, 0))
    return Dataset(
        name="random-shop",
        user_ids=np.arange(n_users).astype(str),
        item_ids=np.arange(n_items).astype(str),
        **{s: Interactions(users[part == p], items[part == p]) for p, s in enumerate(("train", "valid", "test"))},
        features={m: rng.normal(size=(n_items, 256)).astype(np.float32) for m in ("image", "text")},
        source="random, for timing only",
    )


def work(model_name: str, form: str, arguments: argparse.Namespace) -> dict:
    """Train and evaluate once; return times, memory and recall."""
    if form != "plain":
        import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch
    import torch

    from mmrec_teach.data import load

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data = load(arguments.data) if arguments.data else random_shop()
    result = {"model": model_name, "form": form, "data": data.name, "source": data.source, "memory_before_mb": peak_mb()}
    if form == "plain":
        sys.path.insert(0, str(HERE))
        import plain

        model = plain.MODELS[model_name](data, arguments.dim)
        trainer = plain.PlainTrainer(model, data, arguments.batch_size)
        evaluator = plain.PlainEvaluator(data, "test")
        evaluation = lambda: evaluator.evaluate(model)  # noqa: E731
    else:
        from mmrec_teach.evaluation import evaluate
        from mmrec_teach.models import create
        from mmrec_teach.training import Trainer

        options = {"n_layers": 2} if model_name == "lightgcn" else {}
        model = create(model_name, data, dim=arguments.dim, **options)
        trainer = Trainer(model, data, batch_size=arguments.batch_size, device="cpu", metrics_every=0)
        evaluation = lambda: evaluate(model, data, "test", mask=("train",)).means()  # noqa: E731
    for what, job, times in (("epoch", trainer.epoch, arguments.epochs), ("evaluation", evaluation, arguments.evaluations)):
        result[f"{what}_seconds"], result[f"{what}_cpu_seconds"] = [], []
        for _ in range(times + 1):  # the first warms up
            wall, cpu = time.perf_counter(), time.process_time()
            answer = job()
            result[f"{what}_seconds"].append(time.perf_counter() - wall)
            result[f"{what}_cpu_seconds"].append(time.process_time() - cpu)
    means = answer
    result["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result |= {"peak_mb": peak_mb(), "recall@20": means["recall@20"], "ndcg@20": means["ndcg@20"]}
    if form == "plain":  # after the memory was read: do both evaluations agree on one and the same model?
        from mmrec_teach.evaluation import evaluate_scores

        ours = evaluate_scores(lambda users: model.predict(users), data, "test", mask=("train",)).means()
        result["largest_metric_difference"] = max(abs(ours[name] - value) for name, value in means.items())
    return result


# -- the table ------------------------------------------------------------------------------------------------------------
def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def table(results: list[dict]) -> str:
    """Return the comparison as text."""
    head = f"{'model':<10}{'epoch s':>20}{'':>8}{'evaluation s':>20}{'':>8}{'peak MB':>18}{'recall@20':>20}"
    forms = f"{'plain':>10}{'ours':>10}"
    sub = f"{'':<10}{forms}{'ratio':>8}{forms}{'ratio':>8}{'plain':>9}{'ours':>9}{forms}"
    lines = [head, sub]
    for name in dict.fromkeys(r["model"] for r in results):
        p, o = (next(r for r in results if r["model"] == name and r["form"] == form) for form in FORMS)
        line = f"{name:<10}"
        for key in ("epoch_seconds", "evaluation_seconds"):
            a, b = median(p[key][1:]), median(o[key][1:])
            line += f"{a:>10.3f}{b:>10.3f}{a / b:>7.1f}x"
        line += f"{p['peak_mb']:>9.0f}{o['peak_mb']:>9.0f}{p['recall@20']:>10.4f}{o['recall@20']:>10.4f}"
        lines.append(line)
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a data set that mmrec_teach opens; default: a random shop of Amazon Baby's size")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs, after one that warms up")
    parser.add_argument("--evaluations", type=int, default=3, help="timed evaluations, after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--out", help="write all numbers to this JSON file")
    parser.add_argument("--worker", nargs=2, metavar=("MODEL", "FORM"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.worker:
        print(json.dumps(work(*arguments.worker, arguments)))
        return
    names = arguments.models.split(",")
    if unknown := set(names) - set(MODELS):
        sys.exit(f"unknown model {sorted(unknown)[0]!r}, expected some of {', '.join(MODELS)}")
    results = []
    for name in names:
        for form in FORMS:
            command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--worker", name, form]
            environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                sys.exit(f"{name}, {form} failed:\n{done.stderr}")
            results.append(json.loads(done.stdout.splitlines()[-1]))
            r = results[-1]
            epoch, evaluation = median(r["epoch_seconds"][1:]), median(r["evaluation_seconds"][1:])
            print(f"{name} {form}: epoch {epoch:.3f} s, evaluation {evaluation:.3f} s, {r['peak_mb']:.0f} MB", file=sys.stderr)
    print(
        f"{results[0]['data']}, batch {arguments.batch_size}, d = {arguments.dim}, {arguments.threads} threads, "
        f"median of {arguments.epochs} epochs and {arguments.evaluations} evaluations (K = 5, 10, 20, 50; test users)"
    )
    print(table(results))
    print(
        f"Recall after {arguments.epochs + 1} epochs, only to show that both learn: not a result. Data: {results[0]['source']}"
    )
    if results[0]["data"] == "baby" and "vbpr" in names:
        print("Image and text features of Amazon Baby are derived from published neighbour graphs, not the published features.")
    busy = max(r["load_average"] or 0.0 for r in results)
    if busy > arguments.threads + 0.5:
        print(
            f"The machine was busy with other work (load average {busy:.1f}): wall times and their ratios are not to be trusted."
        )
    if arguments.out:
        from importlib.metadata import version

        from mmrec_teach.files import write_json

        place = f"$MMREC_TEACH_REAL_DATA/{Path(arguments.data or '').name}"
        shown = [place if a == arguments.data else a for a in sys.argv[1:] if a not in ("--out", arguments.out)]
        write_json(
            arguments.out,
            {
                "command": " ".join(["python benchmarks/bench_engine.py", *shown]),
                "machine": {
                    "system": platform.system(),
                    "processor": platform.machine(),
                    "cores": os.cpu_count(),
                    "python": platform.python_version(),
                    "torch": version("torch"),
                },
                "results": results,
            },
        )


if __name__ == "__main__":
    main()
