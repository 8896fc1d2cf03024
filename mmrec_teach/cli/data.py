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
    parser.add_argument("path", metavar="PATH", help="a folder or file, or bazaar, bazaar/garden, bazaar/kitchen, bazaar/attic")
    parser.add_argument("--html", metavar="FILE", help="also write a page with figures")
    parser.set_defaults(run=_describe)


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
