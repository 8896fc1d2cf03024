"""`mmrec-teach atlas`: a sweep as one HTML file."""

from __future__ import annotations

import argparse
import os


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser("atlas", help="turn a sweep into one HTML file with sliders", description=run_atlas.__doc__)
    parser.add_argument("sweep", metavar="SWEEP", help="folder written by mmrec-teach sweep")
    parser.add_argument("--out", default="atlas.html", help="the file to write (default: atlas.html)")
    parser.add_argument("--data", help="where its data set is now, if it has moved")
    parser.add_argument("--views", metavar="NAME,…", help="embedding tables to draw (default: all that the sweep kept)")
    parser.add_argument("--points", type=int, help="rows drawn of each table, at most (default: all that the sweep kept)")
    parser.add_argument("--no-pictures", action="store_true", help="leave the products' pictures out")
    parser.add_argument("--no-links", action="store_true", help="leave the lines to nearest neighbours out")
    parser.add_argument("--max-mb", type=float, default=10.0, help="refuse a larger file (default 10)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_atlas)


def run_atlas(args: argparse.Namespace) -> int:
    """Turn a sweep into one HTML file: sliders over the trained runs, maps, gauges, a Pareto front; it works offline."""
    from mmrec_teach.data import load
    from mmrec_teach.training.sweep import read_sweep
    from mmrec_teach.views.atlas import sizes, write_atlas

    sweep = read_sweep(args.sweep)
    data = None if args.data is None else load(args.data, **(sweep.load or {"options": {}})["options"])
    told = write_atlas(
        sweep,
        args.out,
        data=data,
        views=None if args.views is None else [v.strip() for v in args.views.split(",") if v.strip()],
        points=args.points,
        pictures=not args.no_pictures,
        links=not args.no_links,
        max_mb=args.max_mb,
        progress=not args.quiet,
    )
    trained, expected = len(told["runs"]), told["expected"]
    if trained < expected:
        print(f"{expected - trained} of {expected} runs are not trained yet: the atlas shows the others.")
    print(f"{args.out}: {trained} runs, {os.path.getsize(args.out) / 1e6:.2f} MB ({sizes(told)})")
    return 0
