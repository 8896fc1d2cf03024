"""`mmrec-teach lab`: open the course in JupyterLab, on your own copy of the lessons."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
from pathlib import Path

FIRST_PORT = 8888
PORTS_TRIED = 50
HIDDEN = ("__pycache__", "*.pyc", "*.pyo", ".DS_Store", "*~", "[0-9][0-9]_*.py")
"""What the file list leaves out: Jupyter's own list, and the text twins of the lessons."""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add `lab`."""
    parser = subparsers.add_parser("lab", help="open the lessons in JupyterLab", description=__doc__)
    parser.add_argument("lesson", nargs="?", metavar="LESSON", help="the lesson to open, e.g. 01 or bpr (default: the first)")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="your copy of the lessons (default: my_lessons)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="the course's folder (default: found from here)")
    parser.add_argument("--port", type=int, metavar="PORT", help=f"default: the first free one from {FIRST_PORT}")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    parser.add_argument(
        "--jupyter",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option for JupyterLab itself: --jupyter=--ServerApp.ip=*",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Bring the learner's copy up to date and start JupyterLab on it; returns when JupyterLab is shut down.

    Raises:
        InputError: JupyterLab is not installed, the port is taken, or there is no such lesson.
    """
    from mmrec_teach.course.master import course_root, find_lesson
    from mmrec_teach.course.workspace import default_directory, lesson_stems, start
    from mmrec_teach.errors import InputError

    root = course_root(args.root)
    directory = (args.dir or default_directory(root)).resolve()
    for line in start(directory, root).lines():
        print(line)
    stems = lesson_stems(root)
    stem = find_lesson(args.lesson, stems) if args.lesson else stems[0]
    try:
        from jupyterlab.labapp import LabApp
    except ImportError as error:
        raise InputError("JupyterLab is not installed", fix='Run `make lab`, or `pip install -e ".[lab]"`') from error

    port = args.port if args.port is not None else free_port()
    if not 0 < port < 65536:
        raise InputError("port out of range", where="--port", found=port, expected="1 to 65535")
    if not port_is_free(port):
        raise InputError(f"port {port} is in use", fix="Choose another with --port, or leave the option out")
    browser = not args.no_browser and has_browser()
    # Through the environment and not as an option: the command line of a process can be read by every user of the machine.
    token = os.environ.setdefault("JUPYTER_TOKEN", secrets.token_hex(24))
    print(f"JupyterLab: http://localhost:{port}/lab/tree/{stem}.ipynb?token={token}", flush=True)
    if not browser:
        print("Open that address in a browser. Ctrl-C here ends JupyterLab.", flush=True)
    LabApp.launch_instance(argv=[*jupyter_options(directory, stem, port, browser), *args.jupyter])
    return 0


def jupyter_options(directory: Path, stem: str, port: int, browser: bool) -> list[str]:
    """The options JupyterLab is started with.

    The news pop-up and the check for updates are off through a settings folder of the course's own, so nothing in the learner's
    home is written and a learner's own setting still wins. The contents manager is jupytext's, which keeps the pairs in step; the
    file list shows a lesson once, as its notebook.
    """
    import mmrec_teach.course

    settings = Path(mmrec_teach.course.__file__).parent / "jupyter" / "settings"
    options = [
        f"--ServerApp.root_dir={directory}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.open_browser={browser}",
        "--ServerApp.contents_manager_class=jupytext.TextFileContentsManager",
        *(f"--ContentsManager.hide_globs={glob}" for glob in HIDDEN),
        "--ServerApp.log_level=WARN",
        f"--LabApp.default_url=/lab/tree/{stem}.ipynb",
        f"--LabApp.app_settings_dir={settings}",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # a container: JupyterLab asks for this explicitly
        options.append("--ServerApp.allow_root=True")
    return options


def has_browser() -> bool:
    """Whether a browser can be opened where this runs: not over ssh, not in CI, not without a display."""
    if os.environ.get("CI") or os.environ.get("SSH_CONNECTION"):
        return False
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        return False
    import webbrowser

    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def port_is_free(port: int) -> bool:
    """Whether a server could listen there on the local machine."""
    if not 0 < port < 65536:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(first: int = FIRST_PORT) -> int:
    """The first free port from ``first`` on; any free one where the next few are all taken."""
    for port in range(first, first + PORTS_TRIED):
        if port_is_free(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
