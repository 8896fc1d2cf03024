"""Vector search at 10 k, 100 k and 1 M items: recall against exact, latency, build time, memory.

    python benchmarks/bench_retrieval.py --out benchmarks/results/retrieval.json
    python benchmarks/bench_retrieval.py --print           # the table of benchmarks/results/retrieval.json as Markdown
    python benchmarks/bench_retrieval.py --sizes 10000 --forms exact,ivf,ivf:probes=64,hnsw:search_width=256

Items are drawn around 1,000 centres, users between two centres each; the score is the inner product. Recall is the share of the exact k
best that is found; it depends on how vectors lie, so take it as an order of size and measure your own with `mmrec-teach index`.
Latency is of one query at a time; `queries/s` is of all at once. hnsw is built on one thread, so that it is repeatable; everything
else on --threads. Every line is a process of its own; `index` is the index alone, `peak` the largest resident memory until the
searches were done, torch and the vectors it was made from included. `x exact` are ratios to the exact line of the same run: below 1
is quicker, or smaller. Times mean something on an otherwise idle machine only; the load average stands beside them in the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "retrieval.json"
FORMS = "exact,flat,ivf,ivf:probes=64,hnsw,hnsw:search_width=256"
NEW = 1000
"""Vectors added to the finished index."""


def work(form: str, n: int, dim: int, n_queries: int, k: int, threads: int) -> dict:
    """Build once, search, add; return what was measured."""
    import mmrec_teach  # noqa: F401 - says how idle threads wait; must come before torch

    # isort: split
    import numpy as np
    import torch
    from bench_engine import peak_mb

    from mmrec_teach.ops.index import VectorIndex, recall_of

    torch.set_num_threads(threads)
    kind, _, given = form.partition(":")
    options = {name: int(value) for name, _, value in (pair.partition("=") for pair in given.split("+") if pair)}
    if kind != "exact":
        import faiss

        faiss.omp_set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(1000, dim, generator=generator)

    def items(count: int) -> torch.Tensor:
        x = middles[torch.randint(1000, (count,), generator=generator)]
        return x.add_(torch.randn(count, dim, generator=generator), alpha=0.6)

    x, new = items(n), items(NEW)
    queries = middles[torch.randint(1000, (2, n_queries), generator=generator)].mean(0)
    queries += 0.3 * torch.randn(n_queries, dim, generator=generator)
    before = peak_mb()

    start, cpu = time.perf_counter(), time.process_time()
    index = VectorIndex.build(x, kind=kind, **options)
    build, build_cpu = time.perf_counter() - start, time.process_time() - cpu

    index.search(queries[:10], k)
    single = []
    for query in queries[:200]:
        start = time.perf_counter()
        index.search(query[None], k)
        single.append(time.perf_counter() - start)
    start = time.perf_counter()
    _, found = index.search(queries, k)
    together = time.perf_counter() - start
    peak = peak_mb()

    truth = found if kind == "exact" else VectorIndex.build(x).search(queries, k)[1]
    recall = recall_of(found, truth)
    start = time.perf_counter()
    index.add(new, np.arange(n, n + NEW))
    add = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        size = (Path(folder) / "index").stat().st_size * n / (n + NEW)
    return {
        "form": form,
        "options": index.options,
        "items": n,
        "dim": dim,
        "k": k,
        "recall": recall,
        "ms": 1e3 * float(np.median(single)),
        "ms_p99": 1e3 * float(np.quantile(single, 0.99)),
        "queries_per_second": n_queries / together,
        "build_seconds": build,
        "build_cpu_seconds": build_cpu,
        "add_seconds": add,
        "index_mb": size / 2**20,
        "before_mb": before,
        "peak_mb": peak,
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def table(result: dict) -> str:
    """Return what was measured as Markdown."""
    k = result["lines"][0]["k"]
    head = [
        "items",
        "index",
        f"recall@{k}",
        "one query, ms",
        "x exact",
        "queries/s",
        "build, s",
        f"add {NEW:,}, s",
        "MB",
        "x exact",
    ]
    rows = [f"| {' | '.join(head)} |", "|---:|---" + "|---:" * (len(head) - 2) + "|"]
    for line in result["lines"]:
        times = line["times_exact"]
        rows.append(
            f"| {line['items']:,} | {line['form']} | {line['recall']:.3f} | {line['ms']:.2f} | {times['ms']:.2f} | "
            f"{line['queries_per_second']:,.0f} | {line['build_seconds']:.1f} | {line['add_seconds']:.3f} | {line['index_mb']:.0f} | "
            f"{times['index_mb']:.2f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="numbers of items")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--forms", default=FORMS, help="kinds, with options as in ivf:probes=64+lists=500")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--print", action="store_true", help="print the table of the stored result, measure nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        form, n = args.one.split(",")
        print(json.dumps(work(form, int(n), args.dim, args.queries, args.k, args.threads)))
        return

    if args.print:
        print(table(json.loads(RESULT.read_text(encoding="utf-8"))))
        return

    from mmrec_teach.files import write_json

    same = [word for name in ("dim", "queries", "k", "threads") for word in (f"--{name}", str(getattr(args, name)))]
    lines = []
    for size in args.sizes.split(","):
        exact = None
        for form in args.forms.split(","):
            command = [sys.executable, __file__, "--one", f"{form},{size}", *same]
            done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
            if done.returncode:
                raise SystemExit(f"{form} on {size} failed:\n{done.stderr}")
            line = json.loads(done.stdout.splitlines()[-1])
            exact = line if form == "exact" else exact
            if exact:
                line["times_exact"] = {name: line[name] / exact[name] for name in ("ms", "queries_per_second", "index_mb")}
            lines.append(line)
            slower, larger = (f" ({line['times_exact'][name]:.2f} x exact)" if exact else "" for name in ("ms", "index_mb"))
            print(
                f"{line['items']:>9,} {form:<22} recall@{args.k} {line['recall']:.4f}  {line['ms']:8.3f} ms{slower}  "
                f"{line['queries_per_second']:8.0f} queries/s  build {line['build_seconds']:7.2f} s  "
                f"add {NEW:,} {line['add_seconds']:6.3f} s  index {line['index_mb']:6.1f} MB{larger}  peak {line['peak_mb']:.0f} MB",
                flush=True,
            )
    if args.out:
        command = f"python benchmarks/bench_retrieval.py --sizes {args.sizes} --forms {args.forms} {' '.join(same)}"
        write_json(args.out, {"command": command, "machine": platform.processor() or platform.machine(), "lines": lines})


if __name__ == "__main__":
    main()
