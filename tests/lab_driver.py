"""Drive the real JupyterLab, started by `mmrec-teach lab`, with the real Chromium: for tests and screenshots."""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from mmrec_teach.cli.doctor import find_chromium

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
START_SECONDS = 90
RUN_SECONDS = 240
# A kernel that goes away leaves these requests of JupyterLab's own unanswered; nothing there catches what that raises.
OWN_REQUEST_CANCELED = re.compile(
    r"(Error: )?Canceled future for (kernel_info|comm_info|create_subshell|delete_subshell)_request message before replies were done\b"
)

# All of a notebook's state that a test looks at, read from JupyterLab's own model.
NOTEBOOK_STATE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const cells = panel?.content?.widgets;
    if (!cells || !panel.context.isReady) return null;
    return {
        path: panel.context.path,
        kernel: panel.sessionContext.session?.kernel?.status ?? "none",
        cells: cells.map(cell => ({
            type: cell.model.type,
            source: cell.model.sharedModel.getSource(),
            outputs: cell.model.type === "code" ? cell.model.outputs.toJSON() : [],
            count: cell.model.type === "code" ? cell.model.executionCount : null,
        })),
    };
}"""
# The numbers a plotly figure draws, as text; typed arrays would otherwise print as objects.
FIGURE_DATA = """element => JSON.stringify(
    element.data.map(trace => ({...trace, uid: undefined})),
    (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value)"""


@dataclass
class Lab:
    """A running JupyterLab: its address, token and the process behind it."""

    url: str
    token: str
    directory: Path
    process: subprocess.Popen

    def get(self, path: str, method: str = "GET") -> Any:
        """An answer of the server's own API, as JSON (None when it is empty)."""
        request = urllib.request.Request(f"{self.url}/{path}", method=method, headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def address(self, name: str) -> str:
        """The page that opens the file ``name`` in a fresh workspace."""
        return f"{self.url}/lab/tree/{name}?reset&token={self.token}"


@contextmanager
def running_lab(directory: Path, root: Path | None = None, settings: dict[str, dict] | None = None) -> Iterator[Lab]:
    """`mmrec-teach lab --no-browser` on ``directory``, ended with all its kernels when the block ends.

    Args:
        directory: the learner's copy; made by the command itself.
        root: the course; the repository's by default.
        settings: JupyterLab user settings to start with, by plugin id.
    """
    with tempfile.TemporaryDirectory(prefix="mmrec-lab-") as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER_")}
        for name in ("CONFIG", "DATA", "RUNTIME"):
            environment[f"JUPYTER_{name}_DIR"] = str(Path(home) / name.lower())
        environment["IPYTHONDIR"] = str(Path(home) / "ipython")
        environment["PYTHONUNBUFFERED"] = "1"
        for plugin, values in (settings or {}).items():
            package, name = plugin.split(":")
            target = Path(home) / "config" / "lab" / "user-settings" / package / f"{name}.jupyterlab-settings"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(values), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-c", "import sys; from mmrec_teach.cli import main; sys.exit(main())", "lab"]
        command += ["--dir", str(directory), "--port", str(port), "--no-browser"]
        command += ["--root", str(root)] if root else []
        command += ["--jupyter=--LabApp.expose_app_in_browser=True"]
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield _wait_until_up(process, directory)
        finally:
            _stop(process)


def _wait_until_up(process: subprocess.Popen, directory: Path) -> Lab:
    lines: list[str] = []
    addresses: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("JupyterLab: "):
                addresses.put(line.split(": ", 1)[1].strip())

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    lab = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if lab is None:
                address = addresses.get(timeout=0.2)
                url, token = address.split("/lab/tree/")[0], address.split("token=")[1]
                lab = Lab(url, token, directory, process)
            lab.get("api/status")
            return lab
        except (queue.Empty, urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not come up within {START_SECONDS} s; it said:\n{''.join(lines)}")


def _stop(process: subprocess.Popen) -> None:
    """End the server and every kernel it started (kernels run in sessions of their own)."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    for child in alive:
        child.kill()
    if process.stdout:
        process.stdout.close()


@contextmanager
def browser_page(width: int = 1400, height: int = 1000) -> Iterator[Any]:
    """A page of a headless Chromium; what its scripts raise is collected, see :func:`script_errors`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_OPTIONS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(START_SECONDS * 1000)
            page.raised, page.kernels_left = [], False
            page.on("pageerror", lambda error: page.raised.append(str(error)))
            page.elsewhere = requests_elsewhere(page)
            yield page
        finally:
            browser.close()


def script_errors(page: Any) -> list[str]:
    """The errors of the page's scripts so far.

    Once a kernel was left (the page loaded again, the kernel restarted) without JupyterLab's word that requests of its own to that
    kernel were cancelled; those of cells and of widgets count as ever.
    """
    return [error for error in page.raised if not (page.kernels_left and OWN_REQUEST_CANCELED.match(error))]


def requests_elsewhere(page: Any) -> list[str]:
    """The addresses outside this machine that the page asks from now on; what the browser forbids it (csp) never leaves."""
    found: list[str] = []

    def note(asked: Any) -> None:
        parts = urlsplit(asked.url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname not in ("127.0.0.1", "localhost"):
            found.append(asked.url)

    def forget(request: Any) -> None:
        if request.failure == "csp" and request.url in found:
            found.remove(request.url)

    page.on("request", note)
    page.on("websocket", note)
    page.on("requestfailed", forget)
    return found


def open_notebook(page: Any, lab: Lab, name: str) -> None:
    """Open a notebook of the learner's copy and wait until its kernel is idle."""
    page.kernels_left |= page.url.startswith(lab.url)
    page.goto(lab.address(name))
    page.wait_for_function(
        f"name => {{ const s = ({NOTEBOOK_STATE})(); return s && s.path === name && s.kernel === 'idle'; }}", arg=name
    )


def restart_kernel(page: Any) -> None:
    """Restart the kernel of the notebook that is open."""
    page.kernels_left = True
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.restartKernel()")


def run_all(page: Any, seconds: int = RUN_SECONDS) -> list[dict[str, Any]]:
    """Run all cells (JupyterLab stops at the first error) and return their states once the kernel is done."""
    page.evaluate(
        "() => { window.ran = false; jupyterapp.commands.execute('notebook:run-all-cells').finally(() => window.ran = true); }"
    )
    done = f"() => window.ran && ({NOTEBOOK_STATE})().kernel === 'idle'"
    page.wait_for_function(done, timeout=seconds * 1000)
    return page.evaluate(NOTEBOOK_STATE)["cells"]


def errors_of(cells: list[dict[str, Any]]) -> list[str]:
    """The errors in the outputs of cells, as "name: value"."""
    return [
        f"{output['ename']}: {output['evalue']}"
        for cell in cells
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]


def figure_data(figure: Any) -> str:
    """What a plotly figure on the page shows, as text that changes when the figure does."""
    return figure.evaluate(FIGURE_DATA)
