"""`mmrec-teach doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ESSENTIAL = ("torch", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "pillow", "umap-learn", "plotly", "rich")
NOTEBOOK = ("jupyterlab", "ipywidgets", "anywidget", "ipykernel", "jupytext")
INSTALL = 'run `make setup`, or `pip install -r requirements.lock -e ".[lab]"`'


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        subject: what was looked at.
        state: "OK", "note" (works, could be better) or "problem" (something essential does not work).
        found: what there is.
        advice: what to do; "" when nothing is.
    """

    subject: str
    state: str
    found: str
    advice: str = ""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add `doctor`."""
    parser = subparsers.add_parser("doctor", help="say what works here, and what to do about the rest", description=__doc__)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 when something essential does not work."""
    from rich.console import Console
    from rich.table import Table

    findings = examine()
    table = Table("", "", "Found", "What to do")
    for finding in findings:
        table.add_row(finding.subject, finding.state, finding.found, finding.advice)
    Console().print(table)
    problems = sum(finding.state == "problem" for finding in findings)
    print("Everything essential works." if not problems else f"{problems} essential things do not work: see above.")
    return 1 if problems else 0


def examine() -> list[Finding]:
    """All findings. A look that fails itself is a finding too, never a traceback."""
    looks: list[Callable[[], Finding]] = [python, packages, lock, widgets, pairing, data, threads, gpu, isolation, chromium]
    findings = []
    for look in looks:
        try:
            findings.append(look())
        except Exception as error:
            findings.append(Finding(look.__name__, "problem", f"{type(error).__name__}: {error}", INSTALL))
    return findings


def python() -> Finding:
    """The interpreter's version."""
    found = f"{sys.version.split()[0]} ({sys.executable})"
    if sys.version_info < (3, 11):  # noqa: UP036 - run from a checkout by whatever Python there is
        return Finding("Python", "problem", found, "install Python 3.11 or newer")
    return Finding("Python", "OK", found)


def packages() -> Finding:
    """Whether the packages that everything needs are there, and torch can be imported."""
    missing = [name for name in ESSENTIAL if version_of(name) is None]
    if missing:
        return Finding("Packages", "problem", f"missing: {', '.join(missing)}", INSTALL)
    torch = importlib.import_module("torch")
    return Finding("Packages", "OK", f"torch {torch.__version__}, numpy {version_of('numpy')}, pandas {version_of('pandas')}")


def lock() -> Finding:
    """Installed versions beside ``requirements.lock``."""
    path = Path(__file__).resolve().parents[2] / "requirements.lock"
    if not path.is_file():
        return Finding("Lock file", "note", "not at hand (the package is not installed from its folder)")
    wanted = read_lock(path)
    off = [
        f"{name} {have} instead of {version}"
        for name, version in wanted.items()
        if (have := version_of(name)) is not None and have.split("+")[0] != version
    ]
    missing = [name for name in wanted if version_of(name) is None]
    if off or missing:
        parts = [*off[:3], *(["…"] if len(off) > 3 else []), *([f"{len(missing)} not installed"] if missing else [])]
        return Finding("Lock file", "note", ", ".join(parts), "for exactly the tested versions: `make setup`")
    return Finding("Lock file", "OK", f"all {len(wanted)} packages as tested")


def read_lock(path: Path) -> dict[str, str]:
    """``name==version`` lines as a mapping; comments and empty lines are skipped."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def version_of(name: str) -> str | None:
    """The installed version of a distribution; None when it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def widgets() -> Finding:
    """Python and browser halves of the widgets: the second is what a notebook needs to show sliders and live figures."""
    missing = [name for name in NOTEBOOK[:4] if version_of(name) is None]
    if missing:
        return Finding("Widgets", "note", f"missing: {', '.join(missing)}", 'for the notebooks: `pip install -e ".[lab]"`')
    paths = importlib.import_module("jupyter_core.paths")
    folders = [Path(folder) / "labextensions" for folder in paths.jupyter_path()]
    wanted = {"@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets", "anywidget": "anywidget"}
    absent = [
        source for name, source in wanted.items() if not any((folder / name / "package.json").is_file() for folder in folders)
    ]
    if absent:
        return Finding(
            "Widgets", "problem", "the browser half is not installed", f"`pip install --force-reinstall {' '.join(absent)}`"
        )
    return Finding("Widgets", "OK", f"jupyterlab {version_of('jupyterlab')}, ipywidgets {version_of('ipywidgets')}")


def pairing() -> Finding:
    """jupytext, which keeps .ipynb and .py in step."""
    version = version_of("jupytext")
    if version is None:
        return Finding("Pairing", "problem", "jupytext is missing", INSTALL)
    importlib.import_module("jupytext").TextFileContentsManager  # noqa: B018 - an ImportError here is the finding
    return Finding("Pairing", "OK", f"jupytext {version}")


def data() -> Finding:
    """The embedded data sets against their checksums."""
    from mmrec_teach.data import store
    from mmrec_teach.errors import InputError

    try:
        files = store.verify()
    except InputError as error:
        return Finding("Embedded data", "problem", str(error), "run `mmrec-teach data regenerate`")
    return Finding("Embedded data", "OK", f"{len(files)} files, all checksums right")


def threads() -> Finding:
    """How many CPU threads torch will use."""
    torch = importlib.import_module("torch")
    count, cores = torch.get_num_threads(), os.cpu_count() or 1
    found = f"torch uses {count} of {cores}"
    if count < min(2, cores):
        return Finding("CPU threads", "note", found, "training is faster with two: is OMP_NUM_THREADS set?")
    return Finding("CPU threads", "OK", found)


def gpu() -> Finding:
    """A CUDA device, which is never needed."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return Finding("GPU", "OK", torch.cuda.get_device_name(0))
    return Finding("GPU", "OK", "none; everything runs on the CPU")


def isolation() -> Finding:
    """The wall behind which students' code is graded, which learners do not need."""
    from mmrec_teach.grading.sandbox import WALLS, WORDS, strongest_wall

    wall, why = strongest_wall()
    if wall == WALLS[0]:
        return Finding("Isolation", "OK", WORDS[wall])
    advice = "only for grading others' work: on Linux, install bubblewrap (`apt install bubblewrap`)"
    if "does not work" in why:
        advice = "only for grading others' work: bubblewrap needs user name spaces; a container or a system setting forbids them here"
    if wall == WALLS[-1]:
        advice += "; until then grade only people you trust"
    return Finding("Isolation", "note", f"{WORDS[wall]} ({why})", advice)


def chromium() -> Finding:
    """A Chromium for the browser tests, which learners do not need."""
    path = find_chromium()
    if path is None:
        return Finding(
            "Chromium", "note", "none", "only for the browser tests: install chromium, or name it in MMREC_TEACH_CHROMIUM"
        )
    return Finding("Chromium", "OK", path)


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome: the one MMREC_TEACH_CHROMIUM names, else the first on the PATH, else None."""
    named = os.environ.get("MMREC_TEACH_CHROMIUM")
    if named:
        return named if Path(named).is_file() else None
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    return None
