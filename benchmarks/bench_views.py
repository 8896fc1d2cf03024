"""Time a map: the first UMAP in a process, a cold fit by ``umap.UMAP``, and our warm refit.

python benchmarks/bench_views.py [--points 1200] [--dim 64] [--refits 20]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np

from mmrec_teach.views import Projector, kept_neighbours, pca, warm_up


def table(n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Return eight clusters on a four-dimensional sheet in ``dim`` dimensions, (n, dim) float32."""
    centres, sheet = 2.5 * rng.normal(size=(8, 4)), rng.normal(size=(4, dim))
    x = (centres[rng.integers(0, 8, n)] + rng.normal(size=(n, 4))) @ sheet
    return (x + 0.3 * rng.normal(size=(n, dim))).astype(np.float32)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1200)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--refits", type=int, default=20)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = table(args.points, args.dim, rng)

    def timed(action):
        start = time.perf_counter()
        result = action()
        return time.perf_counter() - start, result

    seconds, _ = timed(lambda: warm_up(wait=True))
    print(f"warm-up (import umap and compile), once a process: {seconds:7.2f} s")
    seconds, xy = timed(lambda: pca(x, "cosine"))
    print(f"PCA:                  {1000 * seconds:8.1f} ms   keeps {kept_neighbours(x, xy):.1%} of neighbours")

    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        umap.UMAP(random_state=0, metric="cosine").fit_transform(x[:200])  # compile what only this path needs
        cold, xy = timed(lambda: umap.UMAP(random_state=0, metric="cosine").fit_transform(x))
    print(f"umap.UMAP, anew:      {1000 * cold:8.1f} ms   keeps {kept_neighbours(x, xy):.1%}")
    projector = Projector()
    seconds, xy = timed(lambda: projector.fit(x))
    print(f"Projector.fit:        {1000 * seconds:8.1f} ms   keeps {projector.kept():.1%}")
    times, moves = [], []
    for _ in range(args.refits):
        x = x + 0.02 * x.std() * rng.normal(size=x.shape).astype(np.float32)
        last = xy
        seconds, xy = timed(lambda x=x: projector.update(x))
        times.append(seconds)
        moves.append(float(np.linalg.norm(xy - last, axis=1).mean() / np.ptp(xy, axis=0).max()))
    middle = statistics.median(times)
    print(
        f"Projector.update:     {1000 * middle:8.1f} ms   keeps {projector.kept():.1%}   "
        f"(median of {args.refits}, {1000 * min(times):.0f} to {1000 * max(times):.0f} ms; "
        f"a point moves {statistics.mean(moves):.1%} of the picture's width)"
    )
    fresh = Projector()
    fresh.fit(x)
    print(f"the last table, fitted anew, keeps {fresh.kept():.1%}")
    print(f"ratio, fit anew / update: {cold / middle:.1f}")


if __name__ == "__main__":
    main()
