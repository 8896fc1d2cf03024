"""The command line: `mmrec-teach AREA …`.

Every module in this folder that has a ``register(subparsers)`` is an area of the command line. It adds its parser(s) and says
with ``parser.set_defaults(run=function)`` what to call; ``function(args) -> int | None`` returns the exit status (None is 0).
Modules import the heavy parts of the package inside those functions, so that `mmrec-teach --help` stays quick.

Exit status: 0 well done, 1 done and something is not in order, 2 input that cannot be used (one sentence on stderr), 130
interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import pkgutil
import sys
from collections.abc import Sequence

from mmrec_teach.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, every area registered."""
    parser = argparse.ArgumentParser(
        prog="mmrec-teach", description="Learn multimodal recommendation by writing it: the course and its package."
    )
    parser.add_argument("--version", action="version", version=f"mmrec-teach {importlib.metadata.version('mmrec_teach')}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        area = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(area, "register"):
            area.register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: the words after the program's name; the process's own when None.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    run = getattr(args, "run", None)
    if run is None:
        parser.print_help()
        return 0
    try:
        return run(args) or 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "Interrupted.", file=sys.stderr)
        return 130
    except FileExistsError as error:
        print(f"{error.filename}: a file stands where a folder should.", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has left: that is no error of ours; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:  # not about a file: a fault of ours
            raise
        print(f"{error.filename}: {error.strerror or 'cannot be read or written'}.", file=sys.stderr)
        return 2
