"""Time the what-if engine: from a moved slider to the update that carries a fresh picture. Without a browser.

python benchmarks/bench_whatif.py [--models lightgcn bm3] [--data bazaar] [--moves 15]
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import Any

import mmrec_teach  # noqa: F401 - first of all: says how torch's threads wait

# isort: split
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.views import warm_up
from mmrec_teach.views.studio import Studio, Update


class _Watch:
    """A listener that notes when fresh pictures came."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.times: list[tuple[float, Update]] = []

    def __call__(self, update: Update) -> None:
        with self.condition:
            if update.fresh:
                self.times.append((time.perf_counter(), update))
            self.condition.notify_all()

    def after(self, n: int, wanted: Any) -> float:
        """Wait for a fresh picture after the n-th that is wanted; return when it came."""
        with self.condition:
            self.condition.wait_for(lambda: any(wanted(u) for _, u in self.times[n:]), 60)
            return next((t for t, u in self.times[n:] if wanted(u)), float("nan"))


def slider_to_picture(model: str, data: Dataset, moves: int = 15, idle: bool = False, **settings: Any) -> dict[str, Any]:
    """Move one weight of a live run to and fro; return the seconds until a picture of a state trained with it.

    Args:
        model: a registered name.
        data: a data set.
        moves: how often.
        idle: let the run finish before every move; else it trains all the time.
        settings: of the :class:`Studio`.

    Returns:
        ``{"warm": [seconds…], "cold": [seconds to the first picture of a new run…], "pictures": pictures a second, "retrain":
        seconds of a full run}``
    """
    watch = _Watch()
    studio = Studio(model, data, listener=watch, mode="continue", **({"epochs": 40} | settings))
    term = next(t for t, w in reversed(studio.default_weights.items()) if w)
    low, high = studio.values[term], studio.values[term] * 3
    start = time.perf_counter()
    studio.run()
    studio.join()
    retrain = time.perf_counter() - start
    pictures = len(watch.times) / retrain
    studio.epochs = 3 if idle else 10_000
    warm, cold = [], []
    if not idle:
        studio.run()
    for n in range(moves):
        time.sleep(0.37)  # not in step with anything
        seen, steps = len(watch.times), studio._session.steps
        start = time.perf_counter()
        studio.set(term, high if n % 2 == 0 else low)
        warm.append(watch.after(seen, lambda u, s=steps, n=n: u.warm and u.steps > s and _knows(u, n + 1)) - start)
        if idle:
            studio.join()
    studio.stop()
    studio.join()
    studio.mode, studio.epochs = "restart", 40
    for n in range(max(3, moves // 3)):
        number, seen = studio.runs[-1].number, len(watch.times)
        start = time.perf_counter()
        studio.set(term, high * (1 + n / 10))
        cold.append(watch.after(seen, lambda u, r=number: u.run.number > r or u.steps == 0) - start)
        time.sleep(0.5)
    studio.close(30)
    return {"warm": warm, "cold": cold, "pictures": pictures, "retrain": retrain}


def _knows(update: Update, changes: int) -> bool:
    """Whether the last of so many changes had acted when the picture was drawn."""
    made = update.run.setting.changes
    return len(made) >= changes and update.steps > made[-1][0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["lightgcn", "bm3"])
    parser.add_argument("--data", default="bazaar")
    parser.add_argument("--moves", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = load(args.data)
    warm_up(wait=True)
    for model in args.models:
        for idle in (False, True):
            found = slider_to_picture(model, data, args.moves, idle)
            warm, cold = (sorted(1000 * t for t in found[kind]) for kind in ("warm", "cold"))
            print(
                f"{model} on {args.data}, {'at rest' if idle else 'training'}: slider to picture {statistics.median(warm):.0f} ms "
                f"(median of {len(warm)}, {warm[0]:.0f} to {warm[-1]:.0f}); first picture of a new run "
                f"{statistics.median(cold):.0f} ms; {found['pictures']:.1f} pictures a second over a run of 40 epochs that took "
                f"{found['retrain']:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
