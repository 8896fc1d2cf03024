"""Time the what-if panel: from a moved slider to a fresh picture.

python benchmarks/bench_whatif.py [--models lightgcn bm3] [--data bazaar] [--moves 15]      the engine alone, without a browser
python benchmarks/bench_whatif.py --browser [--models lightgcn] [--data bazaar] [--moves 15] [--out FILE]

With --browser, real JupyterLab and headless Chromium: a key moves the slider in the page, and the clock stops when the page has
drawn the first picture of a state that was trained with the moved weight. Times mean something on an otherwise idle machine only:
the load average is kept, and above 3 nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import mmrec_teach  # noqa: F401 - first of all: says how torch's threads wait

# isort: split
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.views import warm_up
from mmrec_teach.views.studio import Studio, Update

HERE = Path(__file__).resolve().parent
BUSY = 3.0  # load average above which nothing is written
AIMS = {"slider_to_picture_ms": 300, "pictures_per_second": 5, "retrain_s": 5}


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


# -- in a browser ------------------------------------------------------------------------------------------------------------
# Runs in the kernel: which number of the map's drawings holds the first picture that knows the n-th moved weight.
CELL = """
import json, mmrec_teach
from mmrec_teach.notebook import load, whatif
from mmrec_teach.views import warm_up
warm_up(wait=True)
panel = whatif({model!r}, load({data!r}), mode="continue", autostart=False)
heard, known = panel.studio.listener, {{}}

def listener(update):
    heard(update)
    changes = update.run.setting.changes if update.run is not None else ()
    if not update.fresh or not changes or update.steps <= changes[-1][0]:
        return
    plot = next(iter(panel._shelf.maps.values())).plot
    with plot._lock:  # what waits for the page is sent with the next number
        number = plot._number + bool(plot._whole or plot._data)
    for n in range(1, len(changes) + 1):
        known.setdefault((update.run.number, n), number)

panel.studio.listener = listener
panel
"""
# Runs in the page: notes when the first map has drawn, and moves the slider by one key.
WATCH = """() => { window.drawn = [];
    const map = document.querySelector(".mmrec-shelf .mmrec-map");
    map.addEventListener("mmrec-drawn", event => drawn.push([performance.now(), event.detail.number])); }"""
MOVE = """term => { const slider = document.querySelector(`.mmrec-control-${term}[type=range]`);
    window.movedAt = null;
    slider.addEventListener("input", () => { window.movedAt = performance.now(); }, { once: true, capture: true });
    slider.focus(); }"""
ASK = """async code => { let text = ""; const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({ code });
    future.onIOPub = message => { if (message.header.msg_type === "stream") text += message.content.text; };
    const reply = await future.done;
    return reply.content.status === "ok" ? text : "error: " + reply.content.evalue; }"""


class _Page:
    """A notebook of one panel in a real browser."""

    def __init__(self, page: Any):
        self.page = page

    def ask(self, expression: str) -> Any:
        """A value of the kernel's."""
        text = self.page.evaluate(ASK, f"print(json.dumps({expression}))")
        if text.startswith("error"):
            raise RuntimeError(text)
        return json.loads(text)

    def do(self, line: str) -> None:
        """Run a line in the kernel."""
        text = self.page.evaluate(ASK, line)
        if text.startswith("error"):
            raise RuntimeError(text)

    def wait(self, pill: str) -> None:
        """Wait for a state of the panel."""
        self.page.wait_for_function(
            "pill => document.querySelector('.mmrec-pill')?.textContent === pill", arg=pill, timeout=300_000
        )

    def run(self) -> dict[str, float]:
        """One whole run: seconds until the page says it is done, and pictures drawn a second."""
        self.page.evaluate("() => { drawn.length = 0; }")
        start = self.page.evaluate("() => { document.querySelector('.mmrec-control-run').click(); return performance.now(); }")
        self.wait("training")
        self.wait("done")
        end = self.page.evaluate("() => performance.now()")
        n = self.page.evaluate("() => drawn.length")
        return {"seconds": (end - start) / 1000, "pictures": n / ((end - start) / 1000)}

    def move(self, term: str, key: str, change: int) -> float:
        """Move a weight by one key; return the seconds until the page drew a picture that knows it."""
        self.page.evaluate(MOVE, term)
        self.page.keyboard.press(key)
        self.page.wait_for_timeout(1000)  # asking the kernel would delay what is measured
        run = "panel.studio.runs[-1].number"
        for _ in range(600):
            number = self.ask(f"known.get(({run}, {change}))")
            if number is not None:
                break
            self.page.wait_for_timeout(30)
        else:
            raise RuntimeError(f"no picture within a minute of moving {term}")
        found = "number => drawn.find(([time, n]) => n >= number && time > movedAt)"
        self.page.wait_for_function(found, arg=number, timeout=60_000)
        return self.page.evaluate(f"number => (({found})(number)[0] - movedAt) / 1000", number)


def in_the_browser(model: str, data: str, moves: int) -> dict[str, Any]:
    """Time a panel in JupyterLab and Chromium.

    Args:
        model: a registered name.
        data: of :func:`~mmrec_teach.data.load`.
        moves: how often the slider is moved while the run goes on.

    Returns:
        ``{"slider_to_picture_ms": [each…], "pictures_per_second": …, "retrain_s": [each…]}``
    """
    sys.path.insert(0, str(HERE.parent))
    import nbformat

    from tests.lab_driver import browser_page, errors_of, open_notebook, run_all, running_lab
    from tests.toy_course import make_course

    with tempfile.TemporaryDirectory(prefix="mmrec-bench-") as folder:
        root = make_course(Path(folder) / "course")
        mine = root / "my_lessons"
        os.environ["PYTHONPATH"] = str(HERE.parent)
        with running_lab(mine, root) as lab, browser_page() as plain:
            cell = nbformat.v4.new_code_cell(CELL.format(model=model, data=data))
            notebook = nbformat.v4.new_notebook(cells=[cell])
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(notebook, mine / "bench.ipynb")
            open_notebook(plain, lab, "bench.ipynb")
            if wrong := errors_of(run_all(plain)):
                raise RuntimeError(wrong[0])
            page = _Page(plain)
            plain.locator(".mmrec-shelf .mmrec-map [data-drawn]").first.wait_for(timeout=300_000)
            plain.evaluate(WATCH)
            page.run()  # the first is slower: everything is met for the first time
            runs = [page.run() for _ in range(3)]
            term = page.ask("next(t for t, w in reversed(panel.studio.default_weights.items()) if w)")
            page.do("panel.studio.epochs = 10**6")
            plain.locator(".mmrec-control-run").click()
            page.wait("training")
            plain.wait_for_timeout(1000)
            times = []
            for n in range(moves):
                plain.wait_for_timeout(400 + 37 * (n % 7))  # not in step with anything
                times.append(page.move(term, "ArrowRight" if n % 2 == 0 else "ArrowLeft", n + 1))
            plain.locator(".mmrec-control-stop").click()
            page.wait("paused")
            if plain.script_errors:
                raise RuntimeError(plain.script_errors[0])
    return {
        "slider_to_picture_ms": [round(1000 * t) for t in times],
        "pictures_per_second": [round(r["pictures"], 2) for r in runs],
        "retrain_s": [round(r["seconds"], 2) for r in runs],
    }


def browser_main(args: argparse.Namespace) -> None:
    """Measure in the browser, print beside the aims, and write."""
    load_before = os.getloadavg()[0]
    rows = []
    for model in args.models:
        found = in_the_browser(model, args.data, args.moves)
        medians = {name: round(statistics.median(values), 2) for name, values in found.items()}
        rows.append({"model": model, "data": args.data, "median": medians, "all": found})
        print(
            f"{model} on {args.data} in JupyterLab and Chromium: slider to picture {medians['slider_to_picture_ms']:.0f} ms (median of "
            f"{len(found['slider_to_picture_ms'])}, aim {AIMS['slider_to_picture_ms']}), {medians['pictures_per_second']:.1f} pictures a "
            f"second while training (aim {AIMS['pictures_per_second']}), a full run settles in {medians['retrain_s']:.1f} s "
            f"(aim {AIMS['retrain_s']})",
            flush=True,
        )
    if load_before > BUSY:
        print(
            f"The machine was busy when this began (load average {load_before:.1f}): nothing is written. Run it again when it is idle."
        )
        return
    if args.out is not None:
        from mmrec_teach.files import write_json

        said = f"python benchmarks/bench_whatif.py --browser --models {' '.join(args.models)} --data {args.data} --moves {args.moves}"
        result = {
            "command": said,
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "load": round(load_before, 2),
            "aims": AIMS,
            "rows": rows,
        }
        write_json(args.out, result)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", action="store_true", help="in JupyterLab and Chromium")
    parser.add_argument("--models", nargs="+", help="default: lightgcn; without a browser also bm3")
    parser.add_argument("--data", default="bazaar")
    parser.add_argument("--moves", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="of torch, without a browser")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "whatif.json", help="JSON file of --browser")
    args = parser.parse_args()
    args.models = args.models or (["lightgcn"] if args.browser else ["lightgcn", "bm3"])
    if args.browser:
        browser_main(args)
        return
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
