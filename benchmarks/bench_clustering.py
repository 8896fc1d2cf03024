"""DPC-KNN from 2,000 to 100,000 points: ours in blocks, the plain full-matrix form, and scikit-learn's k-means forms.

    python benchmarks/bench_clustering.py --out benchmarks/results/clustering.json
    python benchmarks/bench_clustering.py --sizes 2000x64,14100x64 --forms plain,ours

Points are drawn around 200 centres: they cost what real ones cost. Every line runs in a process of its own; `peak` is that process's
largest resident memory, torch and the points included. Times mean something on an otherwise idle machine only; processor seconds
and the load average stand beside them. The plain form holds all distances at once, as public code does, and is left out where
they would not fit (above ``--plain-most`` points). scikit-learn has no DPC-KNN; its mini-batch k-means and k-means (one start) do
another job, with the same K: they show what the density peaks cost.
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

from bench_engine import peak_mb

HERE = Path(__file__).resolve().parent
FORMS = ("plain", "ours", "minibatch", "kmeans")
SIZES = "2000x64,5000x64,14100x64,30000x64,100000x300"


def plain(x, n_clusters: int, k: int):
    """Return centres and assignment from one table of all distances: the formulas as they stand."""
    import torch

    distance = torch.cdist(x, x) / x.shape[1] ** 0.5
    density = (-distance.topk(k, largest=False).values.square().mean(1)).exp()
    denser = density[None, :] > density[:, None]
    delta = torch.where(denser, distance, distance.max()).min(1).values
    centres = (density * delta).topk(n_clusters).indices
    return centres, distance[:, centres].argmin(1)


def work(form: str, n: int, dim: int, n_clusters: int, threads: int) -> dict:
    """Cluster once; return time and memory."""
    import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

    # isort: split
    import torch
    from threadpoolctl import threadpool_limits

    from mmrec_teach.ops import clustering

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(200, dim, generator=generator)
    x = middles[torch.randint(200, (n,), generator=generator)].add_(torch.randn(n, dim, generator=generator), alpha=0.6)
    del middles
    before = peak_mb()
    if form in ("minibatch", "kmeans"):
        import sklearn.cluster
    wall, cpu = time.perf_counter(), time.process_time()
    centres = None
    with threadpool_limits(threads):
        if form == "plain":
            centres, _ = plain(x, n_clusters, 5)
        elif form == "ours":
            centres = clustering.dpc_knn(x, n_clusters, 5).centres
        elif form == "minibatch":
            clustering.minibatch_kmeans(x, n_clusters)
        else:
            sklearn.cluster.KMeans(n_clusters, n_init=1, random_state=0).fit(x.numpy())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = {
        "form": form,
        "points": n,
        "dim": dim,
        "clusters": n_clusters,
        "seconds": wall,
        "cpu_seconds": cpu,
        "peak_mb": peak_mb(),
        "before_mb": before,
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    if form == "plain":  # after the clock stopped
        ours = clustering.dpc_knn(x, n_clusters, 5).centres
        result["same_centres"] = len(set(ours.tolist()) & set(centres.tolist())) / n_clusters
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help="comma-separated POINTSxDIM")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--clusters", type=int, default=64)
    parser.add_argument("--plain-most", type=int, default=20_000, help="largest size at which the plain form is run")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        form, n, dim = args.one.split(",")
        print(json.dumps(work(form, int(n), int(dim), args.clusters, args.threads)))
        return

    from mmrec_teach.files import write_text

    lines = []
    for size in args.sizes.split(","):
        n, dim = (int(v) for v in size.split("x"))
        base = None
        for form in args.forms.split(","):
            if form == "plain" and n > args.plain_most:
                continue
            command = [sys.executable, __file__, "--one", f"{form},{n},{dim}"]
            command += ["--clusters", str(args.clusters), "--threads", str(args.threads)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
            if done.returncode:
                raise SystemExit(f"{form} on {size} failed:\n{done.stderr}")
            line = json.loads(done.stdout.splitlines()[-1])
            base = line["seconds"] if form == "plain" else base
            line["times_plain"] = base / line["seconds"] if base else None
            lines.append(line)
            ratio = f"{line['times_plain']:5.1f} x plain" if base else "  (no plain form)"
            print(
                f"{n:>7,} x {dim:<4} {form:<10} {line['seconds']:8.2f} s  {ratio}  peak {line['peak_mb']:6.0f} MB", flush=True
            )
    if args.out:
        command = f"python benchmarks/bench_clustering.py --sizes {args.sizes} --forms {args.forms} --clusters {args.clusters}"
        result = {"command": command, "machine": platform.processor() or platform.machine(), "lines": lines}
        write_text(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
