"""Item graphs of Electronics' size (63,001 items, k = 10): ours in blocks, and the naive form that holds all similarities.

    python benchmarks/bench_graphs.py --out benchmarks/results/graphs.json    # the 4096-d graph alone takes minutes

Features are random: they cost what real ones cost and mean nothing. Every line runs in a process of its own; `peak` is that
process's largest resident memory, torch and the feature array itself included. Times mean something on an otherwise idle machine
only; processor seconds and the load average stand beside them. The naive form (all cosines in one table, then
the k best of each row) is run at ``--small`` items only, where both forms are compared; its memory at full size is computed:
features, their scaled copy and n² cosines of 4 bytes each. The run says beside what it measured at the small size what the same
formula gives there.
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
MB = 2**20


def naive(features, k: int):
    """Return every item's k nearest by cosine from one table of all cosines."""
    import torch

    unit = torch.nn.functional.normalize(features, dim=1)
    return torch.topk(unit @ unit.T, k).indices


def naive_mb(n: int, dim: int) -> float:
    """Return what the naive form must hold at once, in MB: features, scaled features, cosines."""
    return (2 * n * dim * 4 + n * n * 4) / MB


def work(form: str, n: int, dim: int, rows: int, threads: int) -> dict:
    """Build one graph (or the first ``rows`` rows of it); return time and memory."""
    import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

    # isort: split
    import torch

    from mmrec_teach.ops import graph

    torch.set_num_threads(threads)
    before = peak_mb()
    features = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    wall, cpu = time.perf_counter(), time.process_time()
    if form == "naive":
        found = naive(features, 10)
    elif rows < n:  # only these items are there: every block is as large as ever, there are fewer blocks
        graph.nearest(features, 10, missing=torch.arange(n) >= rows)
    else:
        graph.knn_graph(features, 10)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = {
        "form": form,
        "items": n,
        "dim": dim,
        "rows": rows,
        "seconds": wall,
        "cpu_seconds": cpu,
        "peak_mb": peak_mb(),
        "before_mb": before,
        "features_mb": n * dim * 4 / MB,
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    if form == "naive":
        ours = graph.knn_graph(features, 10).col_indices().reshape(n, 10).sort(1).values
        result["same_neighbours"] = float((found.sort(1).values == ours).double().mean())
    return result


def run(form: str, n: int, dim: int, rows: int, threads: int) -> dict:
    """Run one line in a process of its own."""
    command = [sys.executable, __file__, "--one", form, *map(str, (n, dim, rows, threads))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE.parent)
    return json.loads(done.stdout.splitlines()[-1])


def as_words(result: dict) -> str:
    """Return one line as a sentence."""
    text = (
        f"{result['form']:6} {result['items']:6,} items, {result['dim']:4}-d: {result['seconds']:7.1f} s "
        f"({result['cpu_seconds']:.1f} s of processor), peak {result['peak_mb']:,.0f} MB (features {result['features_mb']:,.0f} MB)"
    )
    if result["rows"] < result["items"]:
        text += f"; {result['rows']:,} rows only, all would take {result['items'] / result['rows']:.1f} times as long"
    if "same_neighbours" in result:
        text += (
            f"; must hold {naive_mb(result['items'], result['dim']):,.0f} MB beside torch, "
            f"{result['same_neighbours']:.2%} of its neighbours are ours"
        )
    return text


def main() -> None:
    """Measure, print, and save when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=63_001)
    parser.add_argument("--small", type=int, default=8_000, help="items of the comparison with the naive form")
    parser.add_argument("--dims", default="384,4096", help="feature sizes, separated by commas")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--rows", type=int, help="of the large graphs build so many rows only: same memory, less time")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(work(given.one[0], *map(int, given.one[1:]))))
        return
    results = []
    for dim in map(int, given.dims.split(",")):
        for form, n in (("naive", given.small), ("blocks", given.small), ("blocks", given.items)):
            rows = min(n, given.rows or n) if n == given.items else n
            results.append(run(form, n, dim, rows, given.threads))
            print(as_words(results[-1]), flush=True)
        print(
            f"naive  {given.items:6,} items, {dim:4}-d: would hold {naive_mb(given.items, dim):,.0f} MB (computed)", flush=True
        )
    if given.out:
        from mmrec_teach.files import write_json

        report = {
            "command": f"python benchmarks/bench_graphs.py --items {given.items} --small {given.small} --dims {given.dims} "
            f"--threads {given.threads} {f'--rows {given.rows} ' if given.rows else ''}--out {given.out}",
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "k": 10,
            "lines": results,
            "naive_mb_computed": {str(d): naive_mb(given.items, d) for d in map(int, given.dims.split(","))},
        }
        write_json(given.out, report)


if __name__ == "__main__":
    main()
