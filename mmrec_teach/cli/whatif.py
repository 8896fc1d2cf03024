"""`mmrec-teach whatif`: the what-if panel as a page of its own, without code."""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import tempfile
import threading
import time
from pathlib import Path

FIRST_PORT = 8866  # Voilà's own
STYLE = """<style>
body { margin: 0; }
.jp-Cell, .jp-Notebook, #rendered_cells { padding: 0 !important; margin: 0 !important; max-width: none !important; }
.mmrec-whatif { border: 0 !important; border-radius: 0 !important; }
.mmrec-refused { margin: 2em; font: 16px/1.5 sans-serif; border-left: 4px solid #d55e00; padding: .5em 1em; }
</style>"""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser("whatif", help="open the what-if panel as a page, without code", description=run.__doc__)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model's name (default: the setting's, or lightgcn)")
    parser.add_argument(
        "--data", metavar="PATH", help="bazaar, bazaar/garden, …, or a folder (default: the setting's, or bazaar)"
    )
    parser.add_argument("--setting", metavar="TEXT", help="a run to begin with, as the panel's Share tells it")
    parser.add_argument("--port", type=int, metavar="N", help=f"default: the first free one from {FIRST_PORT}")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open the what-if panel as a page of its own, through Voilà; Ctrl-C ends it."""
    from mmrec_teach.cli.lab import free_port, has_browser, port_is_free
    from mmrec_teach.errors import InputError

    if importlib.util.find_spec("voila") is None:
        raise InputError("Voilà is not installed", fix="Run `pip install 'mmrec_teach[app]'`")
    port = args.port if args.port is not None else free_port(FIRST_PORT)
    if not 0 < port < 65536:
        raise InputError("port out of range", where="--port", found=port, expected="1 to 65535")
    if not port_is_free(port):
        raise InputError(f"port {port} is in use", fix="Choose another with --port, or leave the option out")
    source = args.data
    if source is not None and source != "bazaar" and not source.startswith("bazaar/"):
        source = str(Path(source).resolve())  # the page's kernel works in another folder
    _check(args.model, source, args.setting)

    with tempfile.TemporaryDirectory(prefix="mmrec-whatif-") as folder:
        notebook = Path(folder) / "whatif.ipynb"
        write_notebook(notebook, args.model, source, args.setting)
        serve(notebook, port, browser=not args.no_browser and has_browser())
    return 0


def _check(model: str | None, source: str | None, text: str | None) -> None:
    """Say what is wrong here, in the terminal, and not only in the page.

    Raises:
        InputError: an unknown model or one with nothing to train, a wrong setting, data that cannot be used.
    """
    from mmrec_teach.views.app import choose
    from mmrec_teach.views.studio import Studio

    Studio(**choose(model, source, text)).close()


def write_notebook(target: Path, model: str | None, source: str | None, text: str | None) -> None:
    """Write the notebook of one cell that the page is made of."""
    import nbformat

    from mmrec_teach.files import write_text

    lines = [
        "from IPython.display import HTML, display",
        "from mmrec_teach.views.app import page",
        f"display(HTML({STYLE!r}))",
        f"display(page({model!r}, {source!r}, {text!r}))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines), id="panel")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["title"] = "What if?"
    write_text(target, nbformat.writes(notebook))


def serve(notebook: Path, port: int, browser: bool) -> None:
    """Serve the notebook's page until Ctrl-C or a signal to end; every kernel has ended when this returns."""
    from voila.app import Voila

    # not through argv: the command line of a process can be read by every user of the machine
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(24)
    address = f"http://127.0.0.1:{port}/?token={token}"
    print(f"What if: {address}", flush=True)
    print(
        "A setting's text (tab Share) opens with &setting=… behind that address. Ctrl-C here ends the page."
        if browser
        else "Open that address in a browser; with &setting=… behind it, it opens a setting (tab Share). Ctrl-C here ends the page.",
        flush=True,
    )
    if browser:
        threading.Thread(target=_open_browser, args=(address, port), daemon=True).start()
    Voila.launch_instance(
        argv=[
            str(notebook),
            "--Voila.log_level=ERROR",
            "--VoilaConfiguration.show_tracebacks=True",
            # a page that closes leaves its kernel behind; one that stays open keeps it, also while nobody touches it
            "--MappingKernelManager.cull_idle_timeout=60",
            "--MappingKernelManager.cull_interval=20",
        ],
        ip="127.0.0.1",
        port=port,
        port_retries=0,
        open_browser=False,
        token=token,
        tornado_settings={"headers": {"Content-Security-Policy": content_security_policy(port)}},
    )


def content_security_policy(port: int) -> str:
    """Return what forbids the browser to fetch anything from elsewhere: Voilà's templates name style sheets of a CDN."""
    own = "'self' data: blob:"
    return (
        f"default-src {own} 'unsafe-inline' 'unsafe-eval'; connect-src {own} ws://127.0.0.1:{port} ws://localhost:{port}; "
        "frame-ancestors 'self'"
    )


def _open_browser(address: str, port: int) -> None:
    import socket
    import webbrowser

    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                webbrowser.open(address)
                return
        time.sleep(0.1)
