"""Pictures of a notebook as a learner sees it: run in the real JupyterLab, one PNG per screen.

    python -m tests.screenshots solutions/01_bpr.ipynb /tmp/out [--width 1400] [--height 1600]

Prints the files it wrote and the errors in the notebook's outputs; exit 1 when there are any.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.lab_driver import browser_page, errors_of, open_notebook, run_all, running_lab

# All cells rendered at once: a screenshot must not depend on what was scrolled into view before.
SETTINGS = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
SCROLLER = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"


def take(notebook: Path, out: Path, width: int = 1400, height: int = 1600) -> tuple[list[Path], list[str]]:
    """Run ``notebook`` and write ``NAME-00.png``, ``NAME-01.png``, … into ``out``; returns the files and the errors of its cells."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory(prefix="mmrec-shots-") as folder:
        # A course of this one lesson: `mmrec-teach lab` opens a copy, and the notebook itself stays without outputs.
        root, name = Path(folder), notebook.stem if notebook.stem[:2].isdigit() else "00_shown"
        (root / "lessons").mkdir()
        for suffix in (".ipynb", ".py"):
            shutil.copyfile(notebook.with_suffix(suffix), root / "lessons" / f"{name}{suffix}")
        with running_lab(root / "mine", root, SETTINGS) as lab, browser_page(width, height) as page:
            open_notebook(page, lab, f"{name}.ipynb")
            page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
            errors = errors_of(run_all(page))
            page.wait_for_timeout(1500)  # let the last figures settle: for the eye, nothing depends on it
            scroller = page.locator(SCROLLER).first
            # down to the end of the last cell; JupyterLab lets one scroll a screen further
            total, step = scroller.evaluate(
                """element => {
                    const bottoms = [...element.querySelectorAll('.jp-Cell')].map(cell => cell.getBoundingClientRect().bottom);
                    const top = element.getBoundingClientRect().top - element.scrollTop;
                    return [Math.max(...bottoms) - top, element.clientHeight];
                }"""
            )
            top, number = 0, 0
            while top < total:
                scroller.evaluate("(element, top) => { element.scrollTop = top; }", top)
                page.wait_for_timeout(300)
                target = out / f"{notebook.stem}-{number:02d}.png"
                page.screenshot(path=str(target))
                written.append(target)
                top, number = top + step - 40, number + 1
    return written, errors


def main() -> int:
    """The command of this module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1600)
    args = parser.parse_args()
    written, errors = take(args.notebook, args.out, args.width, args.height)
    for path in written:
        print(path)
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
