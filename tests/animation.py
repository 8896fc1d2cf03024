"""The README's animation: the what-if panel in the real JupyterLab while one slider moves.

    python -m tests.animation [docs/whatif.webp] [--frames 48] [--width 880]

BM3 on the bazaar trains on while the weight of its term ``align`` is moved up by keys. One frame is taken of every picture that the
page has drawn, so the animation shows no state that was not trained; it is played at a fixed speed, whatever the machine's was.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from mmrec_teach.files import atomic_path
from tests.lab_driver import browser_page, errors_of, open_notebook, run_all, running_lab
from tests.screenshots import SETTINGS
from tests.toy_course import make_course

ROOT = Path(__file__).resolve().parent.parent
CELL = """
from mmrec_teach.notebook import load, whatif
from mmrec_teach.views import warm_up
warm_up(wait=True)
panel = whatif("bm3", load("bazaar"), epochs=12, weights={"align": 0.05}, mode="continue", autostart=False, height=360)
panel
"""
PER_SECOND = 7
HOLD = 1200  # milliseconds that the last frame stays
STILL = 5  # frames before the slider moves
END = 0.7  # where it stops: the power of ten
MOST = 2_500_000  # bytes
WAIT = 120_000  # milliseconds
WATCH = """() => { window.drawn = 0;
    document.querySelector(".mmrec-shelf .mmrec-map").addEventListener("mmrec-drawn", () => { drawn++; }); }"""
PILL = "pill => document.querySelector('.mmrec-pill')?.textContent === pill"


def frames_of(page: Any, count: int) -> list[Image.Image]:
    """Run the panel, move the slider, and return one picture of the panel's upper part for each map drawn."""
    page.locator(".mmrec-shelf .mmrec-map [data-drawn]").first.wait_for(state="attached", timeout=WAIT)
    page.evaluate(WATCH)
    page.locator(".mmrec-control-run").click()
    page.wait_for_function(PILL, arg="done", timeout=WAIT)
    page.evaluate(
        """() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute(
            { code: "panel.studio.epochs = 100" }).done.then(() => {})"""
    )
    panel = page.locator(".mmrec-whatif")
    panel.evaluate("panel => panel.scrollIntoView()")
    box, gauges = panel.bounding_box(), page.locator(".mmrec-gauges").bounding_box()
    clip = {k: round(box[k]) for k in ("x", "y", "width")} | {"height": round(gauges["y"] + gauges["height"] - box["y"]) + 12}
    slider = page.locator(".mmrec-control-align[type=range]")
    slider.focus()
    taken = []
    for n in range(count):
        before = page.evaluate("drawn")
        if n == STILL:
            page.locator(".mmrec-control-run").evaluate("button => button.click()")
        if n >= STILL and float(slider.input_value()) < END:
            page.keyboard.press("ArrowRight")
        if n >= STILL:
            page.wait_for_function("before => drawn > before", arg=before, timeout=WAIT)
        taken.append(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))
    page.locator(".mmrec-control-stop").click()
    page.wait_for_function(PILL, arg="paused", timeout=WAIT)
    return taken


def write(frames: list[Image.Image], out: Path, width: int) -> int:
    """Write the frames as an animation of less than ``MOST`` bytes, as good as that allows; return the quality taken."""
    height = round(frames[0].height * width / frames[0].width)
    small = [frame.resize((width, height), Image.Resampling.LANCZOS) for frame in frames]
    durations = [1000 // PER_SECOND] * (len(small) - 1) + [HOLD]
    for quality in (80, 70, 60, 50, 40):
        with atomic_path(out) as temporary:
            small[0].save(
                temporary, "WEBP", save_all=True, append_images=small[1:], duration=durations, loop=0, quality=quality, method=6
            )
        if out.stat().st_size < MOST:
            return quality
    raise RuntimeError(f"{out} has {out.stat().st_size:,} bytes; take fewer frames or a smaller width")


def main() -> int:
    """The command of this module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "docs" / "whatif.webp")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--width", type=int, default=880)
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="mmrec-animation-") as folder:
        root = make_course(Path(folder) / "course")
        mine = root / "my_lessons"
        with running_lab(mine, root, SETTINGS) as lab, browser_page(1280, 1000) as page:
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(notebook, mine / "animation.ipynb")
            open_notebook(page, lab, "animation.ipynb")
            page.evaluate("() => { if (!jupyterapp.shell.leftCollapsed) jupyterapp.shell.collapseLeft(); }")
            if wrong := errors_of(run_all(page)):
                raise RuntimeError(wrong[0])
            frames = frames_of(page, args.frames)
    quality = write(frames, args.out, args.width)
    print(f"{args.out}: {len(frames)} frames, {args.out.stat().st_size:,} bytes, quality {quality}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
