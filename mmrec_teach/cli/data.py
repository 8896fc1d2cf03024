"""`mmrec-teach data …`: write, check and describe data sets."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    """Add `data regenerate`, `data verify` and `data describe` to the command line."""
    area = subparsers.add_parser(
        "data", help="write, check and describe data sets", description="Write, check and describe data sets."
    )
    area.set_defaults(run=lambda args: area.print_help())
    commands = area.add_subparsers(title="commands", metavar="COMMAND")

    parser = commands.add_parser(
        "regenerate", help="write the embedded data anew", description="Generate the bazaar and write it to its folder."
    )
    parser.set_defaults(run=_regenerate)

    parser = commands.add_parser(
        "verify", help="check the embedded data", description="Compare every embedded file with its checksums."
    )
    parser.add_argument("--generate", action="store_true", help="also generate everything anew and compare (half a minute)")
    parser.set_defaults(run=_verify)

    parser = commands.add_parser(
        "describe", help="print what is in a data set", description="Print counts, splits, modalities and the long tail."
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a folder or file, or bazaar, bazaar/garden, bazaar/kitchen, bazaar/attic"
    )
    add_reader_arguments(parser, "--seed")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead")
    parser.add_argument("--no-plot", action="store_true", help="leave the long-tail plot out")
    parser.add_argument("--html", metavar="FILE", help="also write the long tail as a self-contained interactive page")
    parser.set_defaults(run=_describe)


def add_reader_arguments(parser: argparse.ArgumentParser, seed: str) -> None:
    """Add what says how a data set is read and split; ``seed`` is the flag of a random split's seed.

    :func:`mmrec_teach.data.describe.options_from` turns them into options of ``load``.
    """
    parser.add_argument("--format", help="mmrec, atomic or raw (default: told from the files)")
    parser.add_argument("--split", help="random, leave-one-out, user-time or global-time (default: the source's own)")
    parser.add_argument(seed, dest="seed", type=int, help="of a random split")
    parser.add_argument("--rating-threshold", type=float, metavar="R", help="keep ratings of at least R (atomic, raw)")
    parser.add_argument(
        "--k-core", type=int, metavar="K", help="keep users and items with at least K interactions (atomic, raw)"
    )
    parser.add_argument("--pictures", metavar="FOLDER", help="the folder of pictures, inside the data set's (raw)")
    parser.add_argument(
        "--column", action="append", default=[], metavar="ROLE=NAME", help="which column is what, for example user=reader (raw)"
    )


def _regenerate(args: argparse.Namespace) -> int:
    from mmrec_teach.data import store

    print("Generating the bazaar (half a minute) ...", flush=True)
    folder = store.regenerate()
    print("\n".join(store.verify(folder)))
    print(f"Written to {folder}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from mmrec_teach.data import bazaar, store

    folder = store.ensure()
    print("\n".join(store.verify(folder)))
    if not args.generate:
        return 0
    print("Generating anew to compare (half a minute) ...", flush=True)
    made = bazaar.generate()
    found = [
        f"{domain}, {sentence}"
        for domain, arrays in made.items()
        for sentence in store.differences(arrays, store.read(domain, folder))
    ]
    print("\n".join(found) if found else "OK  generated anew: the same")
    return 1 if found else 0


def _describe(args: argparse.Namespace) -> int | None:
    from mmrec_teach.data.describe import describe_command

    return describe_command(args)
