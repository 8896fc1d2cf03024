"""`mmrec-teach sweep`: a grid of settings x seeds, trained once and kept in a folder."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from mmrec_teach.cli.train import add_training_arguments, parse_grid, parse_pairs, parse_seeds, settings_from
from mmrec_teach.errors import OptionError


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser("sweep", help="train a grid of weights x seeds, for an atlas", description=run_sweep.__doc__)
    parser.add_argument("--model", required=True, help="model to train, such as lightgcn")
    parser.add_argument("--out", required=True, help="folder of the sweep; one that is there is gone on with")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=X,Y,…",
        help="values of a loss weight or option, such as l2=0.001,0.01; several --grid are combined",
    )
    add_training_arguments(parser)
    parser.add_argument("--views", metavar="NAME,…", help="embedding tables to keep (default: final, id and content)")
    parser.add_argument("--rows", type=int, default=1500, help="rows kept of each table, at most (default 1500)")
    parser.add_argument("--processes", type=int, help="how many train at once (default: one a core; one in all on a GPU)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (default 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="train on a Dask cluster: tcp://host:8786")
    parser.set_defaults(run=run_sweep)


def run_sweep(args: argparse.Namespace) -> int:
    """Train a grid of weights and options x seeds. The same command goes on where it was broken off, and trains nothing twice."""
    from tqdm.auto import tqdm

    from mmrec_teach.data import load
    from mmrec_teach.data.describe import options_from
    from mmrec_teach.models import model_class
    from mmrec_teach.training.sweep import sweep

    model_class(args.model)  # a wrong name should not wait for the data
    grid = parse_grid(args.grid)
    if len(grid) != len(args.grid):
        raise OptionError("a name stands twice", where="--grid", expected="each name once")
    seeds = parse_seeds(args.seeds)
    fixed = {**parse_pairs(args.options, "--options"), **parse_pairs(args.weights, "--weights")}
    options = options_from(args)
    data = load(args.data, **options)

    def say(line: str) -> None:
        tqdm.write(line, file=sys.stderr)  # above the bar, not through it

    outcome = sweep(
        data,
        args.model,
        grid,
        args.out,
        seeds=seeds,
        given=fixed,
        settings={**settings_from(args), "metric": args.metric},
        views=None if args.views is None else [v.strip() for v in args.views.split(",") if v.strip()],
        rows=args.rows,
        processes=args.processes,
        scheduler=args.scheduler,
        threads=args.threads,
        device=args.device,
        progress=not args.quiet,
        report=say,
        command=command_line(),
        source={"source": source_of(args.data), "options": options},
    )
    failed = len(outcome.failed)
    print(f"{outcome.trained} runs trained, {outcome.found} found finished" + (f", {failed} failed" if failed else ""))
    if failed:
        print("The same command tries the failed ones again.")
    print(f"Next: mmrec-teach atlas {shlex.quote(str(args.out))} --out atlas.html")
    return 1 if failed else 0


def command_line() -> str:
    """Return what was typed, to be typed again."""
    return shlex.join(["mmrec-teach", *sys.argv[1:]])


def source_of(data: str) -> Any:
    """Return what ``load`` takes, whole where it is a path: an atlas may be asked for from elsewhere."""
    return data if data == "bazaar" or data.startswith("bazaar/") else os.fspath(Path(data).resolve())
